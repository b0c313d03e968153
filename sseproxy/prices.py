"""What a model costs: the operator's prices, else the table of genai-prices, which needs no network.

https://github.com/pydantic/genai-prices. The table is loaded at the first question (0.2 s, 40 MiB). Which price applies
to which request is decided by the caller; nothing here knows a request.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sseproxy.core.pricing import FlatPrice, Price, sum_of
from sseproxy.core.tokens_apart import PART_OF, UNCACHED
from sseproxy.core.usage import Usage
from sseproxy.core.vendor_cost import NANO_PER_USD

#: A model name may carry the names of who serves it, joined by slashes; more of them than this is no name.
_LONGEST_PREFIX = 4
_FREE = Decimal(0)


class TablePrice:
    """The price of one model out of genai-prices, with its tiers and the dates at which it changes.

    The sum is done here: the package's own ``calc_price`` takes twenty times as long, and raises where counts do not
    add up. For tokens it gives the same figures; rates of searches, hours and characters, and Perplexity's of reasoning
    and citations (it states what an answer costs), are not read.
    """

    def __init__(self, model: Any, source: str) -> None:
        self.source = source
        self._model = model

    def cost(self, usage: Usage, at: datetime) -> int:
        """Nano-USD for these tokens at this moment."""
        prices = self._model.get_prices(at)
        size = usage.input_tokens
        per_request = int((_rate(prices, "requests_kcount", size) or _FREE) * NANO_PER_USD / 1000)
        if usage.apart is not None:
            return sum_of(_itemised(prices, usage)) + per_request
        flat = _flat_price(
            _rate(prices, "input_mtok", size) or _FREE,
            _rate(prices, "output_mtok", size) or _FREE,
            _rate(prices, "cache_read_mtok", size),
            _rate(prices, "cache_write_mtok", size),
        )
        return flat.cost(usage, at) + per_request

    def __repr__(self) -> str:
        return f"<TablePrice {self.source}>"


#: The same few, again and again: a price is turned into whole numbers once.
_flat_price = lru_cache(256)(FlatPrice)


def _rate(prices: Any, kind: str, input_tokens: int) -> Decimal | None:
    """One rate. Tiers are cliffs: a request whose input is larger than a tier's start pays its price for all tokens."""
    rate = getattr(prices, kind, None)
    if rate is None or isinstance(rate, Decimal):
        return rate
    reached = [tier.price for tier in rate.tiers if input_tokens > tier.start]
    return Decimal(reached[-1] if reached else rate.base)


def _itemised(prices: Any, usage: Usage) -> Iterator[tuple[int, Decimal]]:
    """All tokens with the rate of each: that of their own kind, else that of what they are a part of."""
    size, cached, written = usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens
    plain = max(0, size - cached - written)
    rest = {"input": plain, "cache_read": cached, "cache_write": written, "output": usage.output_tokens}
    for kind in ("cache_read", "cache_write"):
        if _rate(prices, f"{kind}_mtok", size) is None:  # a cache changes nothing
            rest["input"] += rest.pop(kind)
    for kind, stated in usage.apart or ():
        priced_as = kind if PART_OF[kind] in rest else UNCACHED.get(kind, kind)
        whole, rate = PART_OF[priced_as], _rate(prices, f"{priced_as}_mtok", size)
        if rate is not None and whole in rest:
            tokens = min(stated, rest[whole])
            rest[whole] -= tokens
            yield tokens, rate
    for kind, tokens in rest.items():
        yield tokens, _rate(prices, f"{kind}_mtok", size) or _FREE


# Clients choose model names: what is remembered must not grow with them.
@lru_cache(4096)
def find_price(model: str, provider_url: str | None = None) -> Price | None:
    """The price of a model, or ``None`` if nobody knows it.

    :param model: as the upstream calls it: dated (``gpt-4o-mini-2024-07-18``) or with a vendor
        (``openai/gpt-4o-mini``).
    :param provider_url: the upstream's base URL; the same model costs differently elsewhere.
    """
    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    for name, by in _questions(model, provider_url):
        try:
            provider, found = snapshot.find_provider_model(
                name, None, by.get("provider_id"), by.get("provider_api_url")
            )
        except LookupError:
            continue
        return TablePrice(found, f"{_table_version()}: {provider.id}/{found.id}")
    return None


def _questions(model: str, provider_url: str | None) -> list[tuple[str, dict[str, str]]]:
    """What to ask the table, the most telling first: whose URL it is, whose name stands before the model's, its own."""
    questions: list[tuple[str, dict[str, str]]] = []
    parts = model.split("/")[-_LONGEST_PREFIX:]
    names = ["/".join(parts[i:]) for i in range(len(parts))]
    if provider_url and provider_url.startswith(("http://", "https://")):
        questions += [(name, {"provider_api_url": provider_url}) for name in names]
    questions += [("/".join(parts[i + 1 :]), {"provider_id": parts[i]}) for i in range(len(parts) - 1) if parts[i]]
    questions += [(name, {}) for name in names]
    # The table knows providers by their chat models; OpenAI's other models (embeddings) are found only by name.
    questions += [(names[-1], {"provider_id": "openai"})]
    return questions


def _table_version() -> str:
    return f"genai-prices {importlib.metadata.version('genai-prices')}"


def usd_per_token(price: Price, at: datetime) -> dict[str, str]:
    """A price as OpenRouter lists it, ``{"prompt": "0.00000015", "completion": "0.0000006"}``, in its lowest tier."""
    kinds = {"prompt": "input", "completion": "output"}
    rates = {name: usd_per_million(price, kind, at).scaleb(-6) for name, kind in kinds.items()}
    return {name: f"{rate.normalize():f}" for name, rate in rates.items()}


def usd_per_million(price: Price, kind: str, at: datetime) -> Decimal:
    """A price as vendors print it, for ``sseproxy prices``: USD per million tokens of one kind, in its lowest tier.

    :param kind: ``input``, ``cached_input``, ``cache_write`` or ``output``.
    """
    thousand = 10**3
    counts: dict[str, Any] = {"output_tokens": thousand} if kind == "output" else {"input_tokens": thousand}
    if kind in ("cached_input", "cache_write"):
        counts[f"{kind}_tokens"] = thousand
    per_request = price.cost(Usage(), at)
    return Decimal(price.cost(Usage(**counts), at) - per_request) * thousand / NANO_PER_USD
