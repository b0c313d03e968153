"""The section ``models``: what clients may ask for, in the order in which it is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Amount, Text


class Price(Section):
    """USD per million tokens; goes before the built-in price table."""

    input: Amount = Field(description="Input tokens.")
    output: Amount = Field(description="Output tokens, reasoning included.")
    cached_input: Amount | None = Field(
        default=None, description="Input read from the provider's cache; default: as `input`."
    )
    cache_write: Amount | None = Field(
        default=None, description="Input written to the provider's cache; default: as `input`."
    )


class Model(Section):
    """Where requests for the models that match a pattern go."""

    upstream: Text | None = Field(default=None, description="Name of the upstream; default: the first one.")
    model: Text | None = Field(default=None, description="What the upstream calls it; default: as the client said.")
    price: Price | None = Field(default=None, description="USD per million tokens; default: the built-in price table.")


def find_model(models: Mapping[str, Model], name: str) -> tuple[str, Model] | None:
    """The first pattern of ``models`` that matches ``name``, with its model; None if clients may not ask for it."""
    for pattern, model in models.items():
        if pattern == name or fnmatchcase(name, pattern):
            return pattern, model
    return None
