"""Where requests and tokens are counted. The one file that imports limits (https://limits.readthedocs.io).

Requests are counted in a moving window: never more than so many in any time of that length. Tokens are counted in fixed
windows, because only those can be corrected when it is known how many there were.
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
"""Seconds by which a clock is set at once; less is a clock that is being adjusted."""
CountsUnavailable = StorageError
"""What is raised by whatever counts or looks, where the store is away."""


@dataclass(frozen=True)
class Window:
    """How far a limit is used up.

    :param reset: seconds until more may be asked for.
    """

    limit: int
    remaining: int
    reset: float


class Counts:
    """A store, and the two ways in which is counted in it.

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
        """Whether this has happened. What was counted in memory is then of the future, and to be given up."""
        began = time.monotonic()
        lead = time.time() - began
        if time.monotonic() - began > SET_BACK / 2:  # the thread was kept off between the clocks: they say nothing
            return False
        if lead < self._lead - SET_BACK:
            return True
        self._lead = lead
        return False

    def hit(self, user: str, rate: Rate) -> bool:
        """Count a request, if it is not one too many."""
        return self._moving.hit(_item(rate), "requests", user)

    def requests(self, user: str, rate: Rate) -> Window:
        """How many more requests there may be."""
        until, remaining = self._moving.get_window_stats(_item(rate), "requests", user)
        return Window(rate.count, max(0, remaining), left(rate, until))

    def add(self, user: str, rate: Rate, tokens: int) -> int:
        """Count so many tokens more, or less; how many there are then."""
        return int(self._storage.incr(_key(user, rate), rate.seconds, amount=tokens))

    def tokens(self, user: str, rate: Rate) -> Window:
        """How many more tokens there may be."""
        return Window(rate.count, self.left_of_tokens(user, rate), left(rate, self.until(user, rate)))

    def left_of_tokens(self, user: str, rate: Rate) -> int:
        """The same alone, which Redis is asked but one thing for."""
        return max(0, rate.count - int(self._storage.get(_key(user, rate))))

    def until(self, user: str, rate: Rate) -> float:
        """When the window of tokens ends. Redis tells it to the millisecond, the package limits by whole seconds."""
        key, storage = _key(user, rate), self._storage
        if isinstance(storage, MemoryStorage):
            return float(storage.get_expiry(key))
        try:
            milliseconds: int = storage.get_connection(readonly=True).pttl(storage.prefixed_key(key))
        except storage.base_exceptions as error:
            raise StorageError(error) from error
        return time.time() + max(0, milliseconds) / 1000


def left(rate: Rate, until: float) -> float:
    """Seconds of a window that are left: no more than it has, whatever clocks say."""
    return min(max(0.0, until - time.time()), rate.seconds)


def _item(rate: Rate) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(rate.count, rate.seconds, namespace="sseproxy")


def _key(user: str, rate: Rate) -> str:
    return _item(rate).key_for("tokens", user)
