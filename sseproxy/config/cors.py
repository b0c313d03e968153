"""The section ``cors``: which web pages may read answers. https://fetch.spec.whatwg.org/#http-cors-protocol"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Flag, kind
from sseproxy.core.origins import ANY, BadOrigin, normal_origin


def _origin(value: object) -> object:
    if value is None:
        raise Expected('expected an origin; the one that browsers call null is written "null", in quotes')
    if not isinstance(value, str):
        raise Expected(f"expected an origin such as https://app.example.com, not {kind(value)}")
    try:
        return normal_origin(value)
    except BadOrigin as error:
        raise Expected(str(error), error.suggestion) from None


Origin = Annotated[
    str, BeforeValidator(_origin), WithJsonSchema({"type": "string", "examples": ["https://app.example.com"]})
]


class Cors(Section):
    """Which web pages may read answers."""

    origins: tuple[Origin, ...] = Field(
        default=(),
        description="`https://app.example.com`, with its port where it has one of its own; "
        "`https://*.example.com`, where `*` is one part of a host name or more, never the scheme or "
        'the port; `"*"` is every origin but `null`; `"null"` (sandboxed frames, files) only if it is '
        "listed.",
    )
    credentials: Flag = Field(
        default=False,
        description='Let these pages send cookies and HTTP credentials along. Not with `"*"`. A key in '
        "`Authorization` does not need it.",
    )

    @model_validator(mode="after")
    def _no_credentials_for_anybody(self) -> Cors:
        if self.credentials and ANY in self.origins:
            raise Expected(
                'origins: ["*"] and credentials: true exclude each other: every page on the web could act as the user '
                "who visits it, so browsers refuse that; expected the origins by name"
            )
        return self
