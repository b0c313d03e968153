"""How long a request waits for its answer: until its time is over, or its client has left."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from sseproxy.wsgi.client import ClientGone, Linger, lingering, watch_client

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

TICK: Final = 1.0
"""Seconds between two looks at whether the client is still there, while the upstream is silent or busy."""


class Waiting:
    """The wait of one request.

    :param total: seconds that the whole exchange may take.
    :param linger: for how long an answer is read on after its client has left.
    :ivar deadline: :func:`time.monotonic` value at which it has taken too long.
    :ivar has_no_client: tells whether the client has left.
    :ivar has_no_reader: tells whether it has left for as long as is lingered.
    """

    __slots__ = ("deadline", "has_no_client", "has_no_reader")

    def __init__(self, environ: WSGIEnvironment, total: float, linger: Linger) -> None:
        self.deadline = monotonic() + total
        self.has_no_client = watch_client(environ)
        self.has_no_reader = lingering(self.has_no_client, linger)

    def look_up(self) -> None:
        """Look out for a client that leaves.

        :raises ClientGone: it has, and nobody reads on.
        """
        if self.has_no_reader():
            raise ClientGone
