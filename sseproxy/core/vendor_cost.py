"""What a vendor says that an answer cost, by whatever name and in whatever form. No float is computed with."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

__all__ = ["NANO_PER_USD", "nano_of", "tidy_cost", "usd_of"]

NANO_PER_USD: Final = 10**9
_TICKS_PER_USD: Final = 10**10
_MOST: Final = 2**53 // NANO_PER_USD


def tidy_cost(tidy: dict[str, Any]) -> None:
    """Bring the vendor's cost under ``cost``, a number of USD; what was there goes to ``cost_details``."""
    cost = tidy.get("cost")
    details = tidy.get("cost_details")
    if isinstance(cost, dict):  # Perplexity; its request fee dwarfs the tokens
        del tidy["cost"]
        tidy["cost_details"] = {**(details if isinstance(details, dict) else {}), **cost}
        cost = cost.get("total_cost")
    elif cost is None and (ticks := _amount(tidy.get("cost_in_usd_ticks"), _MOST * _TICKS_PER_USD)) is not None:  # xAI
        cost = ticks / _TICKS_PER_USD
    elif cost is None:
        cost = tidy.get("estimated_cost")  # DeepInfra
    elif tidy.get("is_byok") is True and isinstance(details, dict) and "fee" not in details:
        # OpenRouter with the user's own key: `cost` is only its fee. `fee` marks that the sum was made.
        upstream = details.get("upstream_inference_cost")
        if nano_of(cost) is not None and nano_of(upstream) is not None:
            tidy["cost_details"] = {**details, "fee": cost}
            cost = Decimal(str(cost)) + Decimal(str(upstream))
        elif nano_of(cost) == 0:
            cost = None  # no fee, and nobody knows what the vendor takes
    if nano_of(cost) is None:
        tidy.pop("cost", None)
    else:
        tidy["cost"] = usd_of(cost)


def usd_of(cost: Any) -> float | int:
    """An amount as a JSON number of USD."""
    if isinstance(cost, (int, float)):
        return cost
    return float(cost)


def nano_of(cost: Any) -> int | None:
    """Convert USD, however written, to nano-USD; None if it is no amount."""
    amount = _amount(cost, _MOST)
    return None if amount is None else int((amount * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_UP))


def _amount(value: Any, most: int) -> Decimal | None:
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= most else None
