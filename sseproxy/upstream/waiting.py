"""How long a request waits for its answer: until its time is over, or its client has left."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from sseproxy.wsgi.client import ClientGone, lingering, watch_client

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Waiting:
    """The wait of one request.

    :param total: seconds that the whole exchange may take.
    :param linger: seconds for which an answer is read on after its client has left.
    :ivar deadline: :func:`time.monotonic` value at which it has taken too long.
    :ivar is_alone: tells whether the client has left.
    :ivar is_over: tells whether it has left for as long as is lingered.
    """

    __slots__ = ("deadline", "is_alone", "is_over")

    def __init__(self, environ: WSGIEnvironment, total: float, linger: float) -> None:
        self.deadline = monotonic() + total
        self.is_alone = watch_client(environ)
        self.is_over = lingering(self.is_alone, linger)

    def look_up(self) -> None:
        """Look out for a client that leaves.

        :raises ClientGone: it has, and nobody reads on.
        """
        if self.is_over():
            raise ClientGone
