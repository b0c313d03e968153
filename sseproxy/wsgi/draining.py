"""Whether the process goes down: nothing new begins any more, and from a moment on what still runs has to end.

One object for a whole application. It is begun in a signal handler, so there is no lock in here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from sseproxy.core.failure import Failure

RETRY_AFTER: Final = 1.0
"""Seconds: another instance answers already, or this one is started again."""


class ShuttingDown(Failure):
    """Nothing is generated here any more."""

    CODE: Final = "server_shutting_down"

    def __init__(self, message: str = "The server is shutting down. Try again.") -> None:
        super().__init__(message, status=503, code=self.CODE, retry_after=RETRY_AFTER)


class CutShort(ShuttingDown):
    """An answer had not ended when the time for that was over."""

    def __init__(self) -> None:
        super().__init__("The answer ends here: the server is shutting down. Try again.")


class Draining:
    """Not begun, as long as nobody calls :meth:`begin`."""

    def __init__(self) -> None:
        self._over_at: float | None = None
        # Changed by single steps that need no lock.
        self._running: set[object] = set()

    def begin(self, grace: float) -> None:
        """Let nothing new begin, and what runs go on for so many seconds. Once begun, this changes nothing."""
        if self._over_at is None:
            self._over_at = monotonic() + grace

    @property
    def has_begun(self) -> bool:
        """Whether new requests are refused."""
        return self._over_at is not None

    def is_over(self) -> bool:
        """Whether what still runs has to end now."""
        return self._over_at is not None and monotonic() >= self._over_at

    def check(self) -> None:
        """:raises ShuttingDown: it has begun."""
        if self._over_at is not None:
            raise ShuttingDown

    def enter(self) -> Callable[[], None]:
        """An answer is being made, whether somebody waits for it or not. Returns what is called when it has ended."""
        answer = object()
        self._running.add(answer)
        return partial(self._running.discard, answer)

    @property
    def running(self) -> int:
        """How many answers are being made."""
        return len(self._running)
