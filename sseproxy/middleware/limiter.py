"""Holds users to their limits of requests, tokens and running streams."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from sseproxy.core.allowance import Limits, Rate
from sseproxy.core.failure import Failure
from sseproxy.middleware.counts import Counts, CountsUnavailable, Window, left
from sseproxy.middleware.redis_slots import LEASE, RedisSlots
from sseproxy.middleware.slots import MemorySlots, Slots, StoreUnavailable

log = logging.getLogger("sseproxy.limits")

MEMORY: Final = "memory://"
BUSY_RETRY: Final = 1.0
"""``Retry-After`` where running requests hold all of a limit: nobody knows when they end."""
CLOSING: Final = 0.5
"""Seconds before its end in which a window takes no tokens back: arriving late, they would go to the next one."""


def as_duration(seconds: float) -> str:
    """A duration in Go's format, as in OpenAI's headers: ``120ms``, ``1.5s``, ``6m0s``, ``2h0m5s``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(whole, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if whole else "") + text


class RateLimited(Failure):
    """The request exceeds one of the user's limits.

    :param kind: ``requests``, ``tokens`` or ``streams``; the error's type, as in OpenAI's API.
    """

    def __init__(self, kind: str, allowed: str, retry_after: float) -> None:
        when = as_duration(max(retry_after, 0.001))
        super().__init__(
            f"Rate limit reached for {kind}: {allowed} are allowed. Try again in {when}.",
            status=429,
            type=kind,
            code="rate_limit_exceeded",
            retry_after=retry_after,
        )


class Limiter:
    """The limits of all users. While the store is away nobody is limited.

    :param store: ``memory://`` for this process alone, or a Redis (``redis://``) for all processes.
    :param lease: seconds after which a Redis frees the streams of a killed process.
    :raises RuntimeError: the store's driver is not installed; says what to install.
    :raises ValueError: there is no such kind of store.
    """

    _counts: Counts | None = None

    def __init__(self, store: str = MEMORY, *, lease: float = LEASE) -> None:
        options: dict[str, Any] = {}
        self._slots: Slots = MemorySlots()
        self._in_memory = store == MEMORY
        if not self._in_memory:
            slots = self._slots = RedisSlots(store, lease=lease)
            options = {"connection_pool": slots.connections}
        self._open = partial(Counts, store, options)
        self._opening = threading.Lock()
        if not self._in_memory:  # report a bad address now
            self._counts = self._open()

    @property
    def _counted(self) -> Counts:
        """The counters. Those in memory are opened on first use, as they start a thread, which must not run when a
        server forks.

        They use the wall clock, and would refuse requests for as long as that is set back: then they are opened anew.
        """
        counts = self._counts
        if counts is None or (self._in_memory and counts.clock_was_set_back()):
            with self._opening:
                if self._counts is None or self._counts is counts:
                    self._counts = self._open()
                counts = self._counts
        return counts

    def enter(self, user: str, limits: Limits, *, tokens: tuple[int, int] = (0, 0), stream: bool = False) -> Turn:
        """Count a request that begins.

        :param tokens: the least and the most it may use; up to the latter are held while it runs.
        :raises RateLimited: it exceeds a limit; nothing was counted.
        """
        counts = self._counted
        turn = Turn(self, counts, user, limits)
        try:
            with _unless_away():
                if stream and limits.streams is not None:
                    turn.place = self._take_place(user, limits.streams)
                if limits.tokens is not None:
                    turn.tokens, turn.until = self._take_tokens(counts, user, limits.tokens, *tokens)
                    seconds = left(limits.tokens, turn.until)
                    turn.hold = self._slots.hold(_held_by(user, limits.tokens), turn.tokens, seconds)
                if limits.requests is not None:
                    self._take_request(counts, user, limits.requests)
                turn.counted = True
        except RateLimited:
            turn.leave()
            turn.settle(0)
            raise
        return turn

    def windows(self, user: str, limits: Limits) -> dict[str, Window]:
        """The windows of the limits ``requests`` and ``tokens``, as far as there are such limits."""
        found: dict[str, Window] = {}
        with _unless_away():
            if limits.requests is not None:
                found["requests"] = self._counted.requests(user, limits.requests)
            if limits.tokens is not None:
                found["tokens"] = self._counted.tokens(user, limits.tokens)
        return found

    def running(self, user: str) -> int:
        """How many of the user's limited streams are running."""
        with _unless_away():
            return self._slots.held(user)
        return 0

    def ping(self) -> None:
        """Return if the store is available.

        :raises Failure: (503) it does not.
        """
        try:
            self._slots.ping()
        except StoreUnavailable as error:
            raise Failure(f"The store of limits is not available: {error}.", status=503) from error

    def close(self) -> None:
        """Let go of the store and of what this process holds in it."""
        self._slots.close()

    def _take_place(self, user: str, limit: int) -> str:
        place = self._slots.acquire(user, limit)
        if place is None:
            raise RateLimited("streams", f"{limit} at once", BUSY_RETRY)
        return place

    def _take_tokens(self, counts: Counts, user: str, rate: Rate, least: int, most: int) -> tuple[int, float]:
        """Hold ``most`` tokens or what is left, but at least ``least``; how many, and when their window ends."""
        least = min(max(least, 1), rate.count)
        taken = max(least, min(most, counts.left_of_tokens(user, rate)))
        before = counts.add(user, rate, taken) - taken
        until = counts.until(user, rate)
        if before + least <= rate.count:
            return taken, until
        counts.add(user, rate, -taken)
        held, lost = self._slots.tokens(_held_by(user, rate))
        if lost:
            counts.add(user, rate, -lost)
        fits_soon = before + least - held - lost <= rate.count
        raise RateLimited("tokens", _allowed(rate), BUSY_RETRY if fits_soon else left(rate, until))

    def _take_request(self, counts: Counts, user: str, rate: Rate) -> None:
        if not counts.hit(user, rate):
            raise RateLimited("requests", _allowed(rate), counts.requests(user, rate).reset)

    def let_go(self, user: str, rate: Rate, hold: str) -> bool:
        """End a hold of tokens; False if it is not known any more, as its process was taken for dead."""
        with _unless_away():
            return self._slots.let_go(_held_by(user, rate), hold)
        return True

    def give_back(self, user: str, place: str) -> None:
        """End a running stream."""
        self._slots.release(user, place)


class Turn:
    """One request that was admitted. Its methods are idempotent."""

    def __init__(self, limiter: Limiter, counts: Counts, user: str, limits: Limits) -> None:
        self._limiter = limiter
        self._counts = counts
        self._user = user
        self._limits = limits
        self.counted = False
        self.place: str | None = None
        self.tokens = 0
        self.until = 0.0
        self.hold: str | None = None
        self._lock = threading.Lock()

    def settle(self, tokens: int) -> None:
        """Replace the held tokens, if any were counted, by the number that was used."""
        with self._lock:
            held, self.tokens = self.tokens, 0
        rate, excess = self._limits.tokens, tokens - held
        if not held or rate is None:
            return
        is_over = left(rate, self.until) <= CLOSING
        # A window that is over takes nothing back; an excess counts in the current one.
        if excess > 0 or (excess < 0 and not is_over):
            self._add(rate, excess)
        if self.hold is not None and not self._limiter.let_go(self._user, rate, self.hold) and not is_over:
            self._add(rate, held)

    def _add(self, rate: Rate, tokens: int) -> None:
        with _unless_away():
            self._counts.add(self._user, rate, tokens)

    def leave(self) -> None:
        """The stream has ended."""
        with self._lock:
            place, self.place = self.place, None
        if place is not None:
            self._limiter.give_back(self._user, place)

    def windows(self) -> dict[str, Window]:
        """See :meth:`Limiter.windows`; none for a request that the store did not count."""
        return self._limiter.windows(self._user, self._limits) if self.counted else {}


def _held_by(user: str, rate: Rate) -> str:
    """The name under which tokens of one limit are held; a limit whose figures change is another one."""
    return f"{user}:{rate.count}/{rate.seconds}"


def _allowed(rate: Rate) -> str:
    names = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
    return f"{rate.count} per {names.get(rate.seconds, f'{rate.seconds} s')}"


@contextmanager
def _unless_away() -> Iterator[None]:
    """Go on without limits while their store is away: money is guarded by the ledger."""
    try:
        yield
    except (CountsUnavailable, StoreUnavailable) as error:
        cause = error.__cause__ or error
        log.warning("limits are not enforced: %s: %s", type(cause).__name__, cause)
