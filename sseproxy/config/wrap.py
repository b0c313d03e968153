"""The section ``wrap``: paths at which a wrapped application answers in its own JSON shape."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from sseproxy.config.routes import Methods
from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Text

_FIELDS = re.compile(r"[^.\s]+(\.[^.\s]+)*")


def _path(value: str) -> str:
    if not value.startswith("/"):
        raise Expected("expected a path from the root, such as /api/ask", f"/{value}")
    return value


def _fields(value: object) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str) or not _FIELDS.fullmatch(value):
        raise Expected("expected names of fields with dots between, such as meta.usage or answers.0.text")
    return tuple(value.split("."))


Fields = Annotated[
    tuple[str, ...], BeforeValidator(_fields), WithJsonSchema({"type": "string", "examples": ["meta.usage"]})
]


class Wrap(Section):
    """What a wrapped application answers in its own shape, and where the books find in it what they need."""

    paths: tuple[Annotated[Text, AfterValidator(_path)], ...] = Field(
        default=(), description="Patterns of the paths that answer so; the answers pass as they are."
    )
    methods: Methods = Field(default=("GET", "POST"), description="The methods of these paths that are guarded.")
    usage: Fields = Field(
        default=(), description="Where an answer has an object with token counts; default: they are counted."
    )
    text: Fields = Field(default=(), description="Where an answer has the generated text, to be counted.")
    model: Fields = Field(default=(), description="Where an answer has the name of its model.")
    default_model: Text = Field(
        default="app", description="The name in `models` that requests count as, until an answer names another."
    )

    @model_validator(mode="after")
    def _complete(self) -> Wrap:
        if not self.paths and self.model_fields_set:
            raise Expected('expected paths too, such as paths: ["/api/ask"]')
        if self.paths and not self.usage and not self.text:
            raise Expected("expected usage or text: without either nothing can be metered")
        return self
