"""The models clients may ask for: which upstream answers each, under what name, at what price."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from sseproxy.config import Model, Place, find_model, is_pattern
from sseproxy.core.pricing import FlatPrice, Price
from sseproxy.prices import find_price
from sseproxy.wsgi.exchange import Target

log = logging.getLogger("sseproxy.models")
REMEMBERED = 4096


class Models:
    """Resolves model names, in the order of the configuration; the first pattern that matches wins.

    :param entries: the section ``models``.
    :param first: the upstream of entries that name none.
    :param urls: the base URL of each HTTP upstream, by which the price table tells vendors apart.
    """

    def __init__(self, entries: Mapping[str, Model], first: str, urls: Mapping[str, str]) -> None:
        self._entries = entries
        self._first = first
        self._urls = urls
        self.resolve = lru_cache(REMEMBERED)(self._resolve)

    @property
    def names(self) -> list[str]:
        """The names that are no patterns, for listing."""
        return [name for name in self._entries if not is_pattern(name)]

    def open_upstreams(self) -> list[str]:
        """The upstreams that a pattern leads to: what they list may be asked for too."""
        places = [self._places(entry) for name, entry in self._entries.items() if is_pattern(name)]
        return list(dict.fromkeys(place.name for each in places for place in each))

    def _places(self, entry: Model) -> tuple[Place, ...]:
        return entry.upstream or (Place(name=self._first),)

    def _resolve(self, name: str) -> Target | None:
        """The target of a model name; None if clients may not ask for it."""
        found = find_model(self._entries, name)
        if found is None:
            return None
        pattern, entry = found
        first, *spares = (self._target(place, pattern, entry, name) for place in self._places(entry))
        return replace(first, spares=tuple(spares))

    def _target(self, place: Place, pattern: str, entry: Model, name: str) -> Target:
        model = place.model or entry.model or name
        price = self._price(entry, model, place.name)
        if price is None:
            log.warning(
                "no price is known for model %r of upstream %r: its tokens are booked at 0. Set models.%r.price.",
                model, place.name, pattern,
            )  # fmt: skip
        return Target(place.name, model, price, place.weight or 0)

    def _price(self, entry: Model, model: str, upstream: str) -> Price | None:
        if entry.price is None:
            return find_price(model, self._urls.get(upstream))
        own = entry.price
        return FlatPrice(input=own.input, output=own.output, cached_input=own.cached_input, cache_write=own.cache_write)
