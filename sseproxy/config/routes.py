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

    prefix: Contents = Field(
        description="Replaces every other prefix: text, or {file: PATH}; an empty text means none."
    )
    role: Literal["system", "developer"] | None = Field(
        default=None, description="Role of the prefix: system or developer; default: as `prompt.role`."
    )
    client_system: Literal["keep", "merge", "drop", "reject"] | None = Field(
        default=None,
        description="The client's own system messages: keep, merge, drop, reject; default: as `prompt.client_system`.",
    )


class Input(Section):
    """Which fields hold what; each is a variable of the path, a field of the JSON body or the form, or of the query."""

    message: Text | None = Field(default=None, description="Field that holds one user message.")
    messages: Text | None = Field(
        default=None, description="Field that holds the history, a list of {role, content}; in a form or query as JSON."
    )
    path: Text | None = Field(
        default=None, description="Variable of the path that names a stream, to be read again; nothing is generated."
    )


class Route(Section):
    """One path of an application's own."""

    methods: Methods = Field(default=METHODS, description="GET, POST or both.")
    model: Text | None = Field(
        default=None, description="The model that is asked; default: the client names it in the field `model`."
    )
    prompt: RoutePrompt | None = Field(default=None, description="A prefix of its own.")
    input: Input = Field(
        default_factory=lambda: Input(message="message"), description="Which fields hold message and history."
    )
    format: RouteFormat = Field(default_factory=RouteFormat, description="How the client gets the events.")
    auth: Flag = Field(default=True, description="false: requests without credentials are let in, as `anonymous`.")
