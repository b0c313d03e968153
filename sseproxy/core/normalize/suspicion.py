"""What may have gone wrong with an answer: the last doubt, while nothing more of the answer comes."""

from __future__ import annotations

from sseproxy.core.failure import Failure
from sseproxy.core.normalize.bodies import Doubt
from sseproxy.core.normalize.failures import invalid_stream, truncated

__all__ = ["Suspicion", "SuspicionOfTyped"]


class Suspicion:
    """The doubts of one stream.

    :ivar failure: what is to be told if the answer breaks off now.
    """

    failure: Failure | None = None
    _words = ""

    def take(self, doubt: Doubt) -> None:
        """What says the same again is a heartbeat: nobody fails twice."""
        words = doubt.failure.message if doubt.failure is not None else ""
        self.failure = doubt.failure if words != self._words else None
        self._words = words

    def clear(self) -> None:
        """More of the answer has come."""
        self.failure = None


class SuspicionOfTyped(Suspicion):
    """That of a stream of typed events: words before the first of them are no stream of this API.

    :ivar has_begun: an event has come.
    """

    has_begun = False

    def take(self, doubt: Doubt) -> None:
        if self.has_begun or not doubt.in_words:
            super().take(doubt)

    def broken_off(self) -> Failure:
        """Why there is no last event."""
        return self.failure or (truncated() if self.has_begun else invalid_stream("no event of this API"))
