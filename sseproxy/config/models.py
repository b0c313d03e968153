"""The section ``models``: what clients may ask for, in the order in which it is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from sseproxy.config.section import Section
from sseproxy.config.values import KIND, Amount, Expected, Text, Whole, within


class Price(Section):
    """USD per million tokens; goes before the built-in price table, but not before a cost that the vendor reports."""

    input: Amount = Field(description="Input tokens.")
    output: Amount = Field(description="Output tokens, reasoning included.")
    cached_input: Amount | None = Field(
        default=None,
        description="The part of the input that was read from the provider's cache. Without it: as `input`.",
    )
    cache_write: Amount | None = Field(
        default=None,
        description="The part of the input that was written to the provider's cache. Without it: as `input`.",
    )


class Place(Section):
    """One of the upstreams of a model."""

    name: Text = Field(description="Name of the upstream.")
    weight: Annotated[Whole, within(1, 1000, "as a weight")] | None = Field(
        default=None, description="Its share of the requests; without one, where others have one, it only helps out."
    )
    model: Text | None = Field(default=None, description="What this upstream calls the model.")


def _places(value: object) -> object:
    """A name, or a list of names and of mappings with more than a name, in the order of failover."""
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    if not entries or not all(isinstance(each, (str, dict, Place)) and each for each in entries):
        raise Expected("expected the name of an upstream, or a list such as [main, spare]")
    return tuple({"name": each} if isinstance(each, str) else each for each in entries)


_PLACE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "weight": {"type": "integer"}, "model": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
_NAME_OR_PLACE = {"anyOf": [{"type": "string"}, _PLACE]}
Places = Annotated[
    tuple[Place, ...],
    BeforeValidator(_places),
    WithJsonSchema(
        {
            "anyOf": [*_NAME_OR_PLACE["anyOf"], {"type": "array", "items": _NAME_OR_PLACE, "minItems": 1}],
            KIND: "name or list",
        }
    ),
]


class Model(Section):
    """Where requests for the models that match a pattern go."""

    EXAMPLE = "`{upstream: NAME}`"

    upstream: Places = Field(
        default=(),
        json_schema_extra={"default": None},
        description="Name of the upstream that answers, or a list in the order of failover: `[main, spare]`. An "
        "entry may be a mapping: `{name: main, weight: 3}` gives it a share of the requests (where "
        "some have weights, those without only help out), `{name: spare, model: gpt-4o}` its own name "
        "for the model. Without it: the first one.",
    )
    model: Text | None = Field(
        default=None, description="What the upstream calls the model. Without it: as the client said."
    )
    price: Price | None = Field(
        default=None,
        description="Price of your own, in USD per million tokens; `sseproxy prices MODEL` shows which applies. "
        "A cost above 0 that the vendor reports with an answer (`usage.cost`) goes before it. Without it: the reported "
        "cost, else the built-in table.",
    )


def is_pattern(name: str) -> bool:
    """Whether a key of ``models`` stands for other names than itself."""
    return any(mark in name for mark in "*?[")


def find_model(models: Mapping[str, Model], name: str) -> tuple[str, Model] | None:
    """The first pattern of ``models`` that matches ``name``, with its model; None if clients may not ask for it."""
    for pattern, model in models.items():
        if pattern == name or fnmatchcase(name, pattern):
            return pattern, model
    return None
