"""The section ``routes``: paths of an application's own, each with its model, prefix, input and format.

What must fit together, patterns among them, is checked by :mod:`sseproxy.config.patterns`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from sseproxy.config.contents import Contents
from sseproxy.config.formats import RouteFormat
from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Flag, Text

METHODS = ("GET", "POST")


def _methods(value: object) -> tuple[str, ...]:
    """In one order, however they were written."""
    given = value if isinstance(value, (list, tuple)) else [value]
    names = [each.strip().upper() for each in given if isinstance(each, str)]
    if not names or len(names) != len(given) or not set(names) <= set(METHODS):
        raise Expected("expected a list of GET and POST")
    return tuple(method for method in METHODS if method in names)


Methods = Annotated[
    tuple[str, ...],
    BeforeValidator(_methods),
    WithJsonSchema({"type": "array", "items": {"enum": list(METHODS)}, "minItems": 1, "uniqueItems": True}),
]


class RoutePrompt(Section):
    """What goes before the messages of one route."""

    prefix: Contents = Field(description="Text, or `{file: PATH}`; an empty text is no prefix at all.")
    role: Literal["system", "developer"] | None = Field(
        default=None, description="Role of the prefix: `system` or `developer`. Without it: as `prompt.role`."
    )
    client_system: Literal["keep", "merge", "drop", "reject"] | None = Field(
        default=None,
        description="System messages in the client's history: `keep`, `merge`, `drop`, `reject`. Without it: as "
        "`prompt.client_system`.",
    )


class Input(Section):
    """Which fields hold what; each is a variable of the path, a field of the JSON body or the form, or of the query."""

    message: Text | None = Field(
        default=None, description="Field that holds one user message: text, in JSON also a list of content parts."
    )
    messages: Text | None = Field(
        default=None,
        description="Field that holds the history, a list of `{role, content}` with at most 1,000 messages; in a "
        "form or query as JSON text. Roles are user, assistant, system, developer; what else a message "
        "holds, but its `name`, is left out. With `message` too, the message follows the history, "
        "which may be missing.",
    )
    path: Text | None = Field(
        default=None,
        description="Variable of the pattern that holds a stream's ID: that stream is read again, nothing is "
        "generated. Stands alone.",
    )


class Route(Section):
    """One path of an application's own."""

    methods: Methods = Field(default=METHODS, description="`GET`, `POST` or both; any other method is 405.")
    model: Text | None = Field(
        default=None,
        description="The model that is asked, as a client would name it. Without it the client names one, in the "
        "field `model`.",
    )
    prompt: RoutePrompt | None = Field(
        default=None, description="A prefix of its own, which goes before that of user, model and all."
    )
    input: Input = Field(
        default_factory=lambda: Input(message="message"),
        json_schema_extra={"default": {"message": "message"}},
        description="Which fields hold what.",
    )
    format: RouteFormat = Field(
        default_factory=RouteFormat,
        json_schema_extra={"default": "openai"},
        description="How the client gets the events: one of the types below, or a mapping with `type` and the keys "
        "that go with it.",
    )
    auth: Flag = Field(
        default=True,
        description="`false`: requests without credentials are let in and billed to `anonymous`, within its budget "
        "and limits (`users.anonymous`, `defaults`); wrong ones are refused even then.",
    )
