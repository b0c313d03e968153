"""What may have gone wrong with an answer: the last doubt, while nothing more of the answer comes."""

from __future__ import annotations

from sseproxy.core.failure import Failure
from sseproxy.core.normalize.bodies import Doubt

__all__ = ["Suspicion"]


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
