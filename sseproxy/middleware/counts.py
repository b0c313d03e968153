"""Counts requests and tokens. The one file that imports limits (https://limits.readthedocs.io).

Requests are counted in a moving window: never more than the limit in any period of its length. Tokens are counted in
fixed windows, as only those can be corrected once the actual number is known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from limits import RateLimitItemPerSecond
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from sseproxy.core.allowance import Rate

SET_BACK: Final = 1.0
"""Seconds; a smaller step back is a clock being adjusted."""
CountsUnavailable = StorageError
"""Raised by every method if the store is away."""


@dataclass(frozen=True)
class Window:
    """How much of a limit is left.

    :param reset: seconds until more may be asked for.
    """

    limit: int
    remaining: int
    reset: float


class Counts:
    """The counters of one store.

    :raises ValueError: no such kind of store.
    """

    def __init__(self, store: str, options: dict[str, Any]) -> None:
        try:
            self._storage: Any = storage_from_string(store, wrap_exceptions=True, **options)
        except ConfigurationError:
            raise ValueError("expected memory:// or redis://HOST:PORT/DB as the store of limits") from None
        self._moving = MovingWindowRateLimiter(self._storage)
        self._lead = time.time() - time.monotonic()

    def clock_was_set_back(self) -> bool:
        """Whether the wall clock was set back. Counts in memory then lie in the future and must be discarded."""
        began = time.monotonic()
        lead = time.time() - began
        if time.monotonic() - began > SET_BACK / 2:  # the thread was suspended between the two readings
            return False
        if lead < self._lead - SET_BACK:
            return True
        self._lead = lead
        return False

    def hit(self, user: str, rate: Rate) -> bool:
        """Count a request; False, and not counted, if it exceeds the limit."""
        return self._moving.hit(_item(rate), "requests", user)

    def requests(self, user: str, rate: Rate) -> Window:
        """How many more requests are allowed."""
        until, remaining = self._moving.get_window_stats(_item(rate), "requests", user)
        return Window(rate.count, max(0, remaining), left(rate, until))

    def add(self, user: str, rate: Rate, tokens: int) -> int:
        """Add to the count of tokens, or subtract; the new count."""
        return int(self._storage.incr(_key(user, rate), rate.seconds, amount=tokens))

    def tokens(self, user: str, rate: Rate) -> Window:
        """How many more tokens are allowed."""
        return Window(rate.count, self.left_of_tokens(user, rate), left(rate, self.until(user, rate)))

    def left_of_tokens(self, user: str, rate: Rate) -> int:
        """The same number alone, for one round trip to Redis instead of two."""
        return max(0, rate.count - int(self._storage.get(_key(user, rate))))

    def until(self, user: str, rate: Rate) -> float:
        """When the window of tokens ends. Redis knows it to the millisecond, the package limits asks for whole
        seconds."""
        key, storage = _key(user, rate), self._storage
        if isinstance(storage, MemoryStorage):
            return float(storage.get_expiry(key))
        try:
            milliseconds: int = storage.get_connection(readonly=True).pttl(storage.prefixed_key(key))
        except storage.base_exceptions as error:
            raise StorageError(error) from error
        return time.time() + max(0, milliseconds) / 1000


def left(rate: Rate, until: float) -> float:
    """Seconds left of a window; never more than its length, however clocks differ."""
    return min(max(0.0, until - time.time()), rate.seconds)


def _item(rate: Rate) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(rate.count, rate.seconds, namespace="sseproxy")


def _key(user: str, rate: Rate) -> str:
    return _item(rate).key_for("tokens", user)
