"""The section ``wrap``: paths at which a wrapped application answers in its own shape."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from sseproxy.config.routes import Methods
from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Text
from sseproxy.core.mapping import ITSELF

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


def _text_fields(value: object) -> tuple[str, ...]:
    return ITSELF if value == "." else _fields(value)


Fields = Annotated[
    tuple[str, ...], BeforeValidator(_fields), WithJsonSchema({"type": "string", "examples": ["meta.usage"]})
]
TextFields = Annotated[
    tuple[str, ...], BeforeValidator(_text_fields), WithJsonSchema({"type": "string", "examples": ["data.answer", "."]})
]


class Wrap(Section):
    """What a wrapped application answers in its own shape, and where the books find in it what they need."""

    paths: tuple[Annotated[Text, AfterValidator(_path)], ...] = Field(
        default=(),
        description="Patterns of paths; slashes doubled or at the end make no difference. An LLM path that stands "
        "here is treated like the others.",
    )
    methods: Methods = Field(
        default=("GET", "POST"),
        description="The methods that are guarded and metered; HEAD goes with GET. Every other one is the "
        "application's own affair.",
    )
    usage: Fields = Field(
        default=(),
        json_schema_extra={"default": None},
        description="Where an answer has its token counts, by OpenAI's, Anthropic's or another vendor's names: "
        "names of fields with dots between, positions in lists as numbers. In a stream the last one "
        "counts. Without it, or where there is none: tokens of the text, and of the request's body as "
        "prompt, are counted.",
    )
    text: TextFields = Field(
        default=(),
        json_schema_extra={"default": None},
        description="Where an answer has what was generated; in a stream, its pieces. A dot alone says that the text "
        "stands in no field: it is all that is `data:` of an event and no object, or the whole body where its "
        "`Content-Type` names neither events nor JSON. `usage` or `text` is needed.",
    )
    model: Fields = Field(
        default=(),
        json_schema_extra={"default": None},
        description="Where an answer has the name of the model that gave it, which sets the price and is "
        "`upstream_model` of the charge.",
    )
    default_model: Text = Field(
        default="app",
        description="The name that requests count as: an entry of `models` must be for it. It decides who may ask, "
        "what is reserved, and the price where an answer names no model.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Wrap:
        if not self.paths and self.model_fields_set:
            raise Expected('expected paths too, such as paths: ["/api/ask"]')
        if self.paths and not self.usage and not self.text:
            raise Expected("expected usage or text: without either nothing can be metered")
        return self
