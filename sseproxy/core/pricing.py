"""Money: nano-USD integers, their decimal text, and what tokens cost. Exact: no float may come in here.

Prices are USD per million tokens, as vendors publish them; a charge is rounded once, half up, to whole nano-USD. Where
prices come from is not known here: see :mod:`sseproxy.prices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from fractions import Fraction
from functools import cached_property, lru_cache
from math import floor, lcm
from typing import Protocol

from sseproxy.core.usage import Usage
from sseproxy.core.vendor_cost import NANO_PER_USD

#: A price of 1 USD per million tokens is 1000 nano-USD per token.
_NANO_PER_TOKEN_PER_PRICE = NANO_PER_USD // 10**6
#: Wide enough that no sum of money is ever rounded by the precision of the default context (28 digits).
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)


class Price(Protocol):
    """What one model costs."""

    @property
    def source(self) -> str:
        """Where the price comes from, for people."""

    def cost(self, usage: Usage, at: datetime) -> int:
        """Nano-USD for these tokens at this moment."""


@dataclass(frozen=True)
class DearestPrice:
    """What may have to be paid where it is open which of several prices will apply: the most."""

    prices: tuple[Price, ...]
    source: str = "dearest"

    def cost(self, usage: Usage, at: datetime) -> int:
        """Nano-USD for these tokens by the dearest price."""
        return max(price.cost(usage, at) for price in self.prices)


def dearest(prices: Sequence[Price | None]) -> Price | None:
    """The price that is at least each of these; None if none of them is known."""
    if len(prices) == 1:
        return prices[0]
    known = tuple(dict.fromkeys(price for price in prices if price is not None))
    return known[0] if len(known) == 1 else DearestPrice(known) if known else None


@dataclass(frozen=True)
class FlatPrice:
    """One price per kind of token, in USD per million; what the operator wrote.

    :param cached_input: input read from the vendor's prompt cache; as ``input`` unless given.
    :param cache_write: input written to that cache; as ``input`` unless given.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    source: str = "config"

    def cost(self, usage: Usage, at: datetime) -> int:
        """Nano-USD for these tokens; the same at any time."""
        plain, cached, written, output, half = self._rates
        plain_tokens = usage.input_tokens
        amount = usage.output_tokens * output
        if (from_cache := usage.cached_input_tokens) or usage.cache_write_tokens:
            to_cache = usage.cache_write_tokens
            plain_tokens -= from_cache + to_cache
            amount += from_cache * cached + to_cache * written
        if plain_tokens > 0:
            amount += plain_tokens * plain
        return (amount + half) // (2 * half)

    @cached_property
    def _rates(self) -> tuple[int, int, int, int, int]:
        """Each kind's price of a token in parts of a nano-USD, and how many half of one has: whole numbers."""
        given = (self.input, self.cached_input, self.cache_write, self.output)
        rates = [Fraction(self.input if rate is None else rate) * _NANO_PER_TOKEN_PER_PRICE for rate in given]
        parts = lcm(2, *(rate.denominator for rate in rates))
        plain, cached, written, output = (int(rate * parts) for rate in rates)
        return plain, cached, written, output, parts // 2


def sum_of(items: Iterable[tuple[int, Decimal]]) -> int:
    """Nano-USD for tokens that each have their own price in USD per million."""
    micro_usd = sum(tokens * Fraction(rate) for tokens, rate in items)
    return floor(micro_usd * _NANO_PER_TOKEN_PER_PRICE + Fraction(1, 2))


def cost_of(usage: Usage, price: Price | None, at: datetime) -> int:
    """What a request costs in nano-USD: what its vendor says it costs, else by the price, else nothing.

    That it costs nothing a vendor may say of a free model; and a relay says it of any that it knows no price of, so it
    does not go before a price that the operator wrote.

    :param at: aware; prices change with the date, some with the time of day.
    """
    if usage.cost or (usage.cost == 0 and not isinstance(price, FlatPrice)):
        return usage.cost
    return 0 if price is None else price.cost(usage, at)


@lru_cache(256)
def nano_to_usd(nano: int) -> str:
    """The decimal text of an amount: exact, no exponent, no trailing zeros (``150000000`` -> ``"0.15"``)."""
    whole, fraction = divmod(abs(nano), NANO_PER_USD)
    text = f"{whole}.{fraction:09d}".rstrip("0") if fraction else str(whole)
    return f"-{text}" if nano < 0 else text


def usd_to_nano(usd: str | int | Decimal) -> int:
    """An amount of USD as a whole number of nano-USD, rounded half up.

    :raises ValueError: it is no finite decimal number.
    """
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise ValueError(f"not an amount of USD: {usd!r}") from None
    # A short text may name a number that fills the memory: 1e999999999.
    if not amount.is_finite() or amount.adjusted() > 30:
        raise ValueError(f"not an amount of USD: {usd!r}")
    return _round(_EXACT.multiply(amount, Decimal(NANO_PER_USD)))


def _round(nano: Decimal) -> int:
    return int(nano.to_integral_value(rounding=ROUND_HALF_UP))
