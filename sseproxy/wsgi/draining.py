"""Whether the process is shutting down: no new request is accepted, and after a grace period running ones must end.

One object for a whole application. Draining begins in a signal handler, so there is no lock in here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from sseproxy.core.failure import Failure

RETRY_AFTER: Final = 1.0
"""Seconds after which another instance, or this one restarted, can answer."""


class ShuttingDown(Failure):
    """The process accepts no new requests."""

    CODE: Final = "server_shutting_down"

    def __init__(self, message: str = "The server is shutting down. Try again.") -> None:
        super().__init__(message, status=503, code=self.CODE, retry_after=RETRY_AFTER)


class CutShort(ShuttingDown):
    """An answer had not ended when the grace period was over."""

    def __init__(self) -> None:
        super().__init__("The answer ends here: the server is shutting down. Try again.")


class Draining:
    """The state of a shutdown, which :meth:`begin` starts."""

    def __init__(self) -> None:
        self._over_at: float | None = None
        # Changed only by atomic operations.
        self._running: set[object] = set()

    def begin(self, grace: float) -> None:
        """Refuse new requests, and give running ones so many seconds. Later calls change nothing."""
        if self._over_at is None:
            self._over_at = monotonic() + grace

    @property
    def has_begun(self) -> bool:
        """Whether new requests are refused."""
        return self._over_at is not None

    def is_over(self) -> bool:
        """Whether running answers have to end now."""
        return self._over_at is not None and monotonic() >= self._over_at

    def check(self) -> None:
        """:raises ShuttingDown: it has begun."""
        if self._over_at is not None:
            raise ShuttingDown

    def enter(self) -> Callable[[], None]:
        """Register an answer, even one without a client. Returns the function to call when it has ended."""
        answer = object()
        self._running.add(answer)
        return partial(self._running.discard, answer)

    @property
    def running(self) -> int:
        """The number of answers being generated."""
        return len(self._running)
