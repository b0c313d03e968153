"""Clients that do not read are cut off, under every server that hands the client's socket to the application.

gunicorn and Werkzeug's server do; sseproxy's own waitress looks after its connections itself (see its module).
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

from sseproxy.wsgi.client import SOCKET_KEYS
from sseproxy.wsgi.stuck import StuckClients

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class ClientTimeout:
    """Looks after the connections of requests; needs :meth:`close` at the end.

    :param seconds: how long a client may take no byte while some wait for it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watches: dict[int, _Watch] = {}

    def watch(self, environ: WSGIEnvironment) -> None:
        """Look after the connection that a request came by, as long as it is open."""
        for key in SOCKET_KEYS:
            if key in environ and isinstance(connection := environ[key], socket.socket):
                (self._watches.get(os.getpid()) or self._begin()).stuck.watch(connection)

    def close(self) -> None:
        """Stop looking."""
        if (watch := self._watches.get(os.getpid())) is not None:
            watch.closed.set()

    def _begin(self) -> _Watch:
        """With the first request of a process, not before: a server may fork after it made the application."""
        new = _Watch(self._seconds)
        # In one step: threads that come here at once choose the same. It needs no lock that a fork could copy held.
        chosen = self._watches.setdefault(os.getpid(), new)
        if chosen is new:
            try:
                threading.Thread(target=new.run, name="sseproxy-client-timeout", daemon=True).start()
            except RuntimeError:  # no thread is left; the next request tries again
                del self._watches[os.getpid()]
                raise
        return chosen


class _Watch:
    """That of one process."""

    def __init__(self, seconds: float) -> None:
        self.stuck = StuckClients(seconds)
        self.closed = threading.Event()

    def run(self) -> None:
        while not self.closed.wait(self.stuck.interval):
            self.stuck.cut()
