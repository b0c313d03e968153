"""Disconnects clients that do not read, under every server that passes the client's socket to the application.

gunicorn and Werkzeug's server do; sseproxy's own waitress watches its connections itself (see its module).
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from sseproxy.wsgi.client import socket_of
from sseproxy.wsgi.per_process import PerProcess
from sseproxy.wsgi.stuck import StuckClients

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class ClientTimeout:
    """Watches the connections of requests; needs :meth:`close` at the end.

    :param seconds: how long a client may take no byte while some are waiting for it.
    """

    def __init__(self, seconds: float) -> None:
        self._watch = PerProcess(lambda: _Watch(seconds), _Watch.start)

    def watch(self, environ: WSGIEnvironment) -> None:
        """Watch a request's connection while it is open, provided that a thread for it can be started."""
        if (connection := socket_of(environ)) is not None:
            with suppress(RuntimeError):
                self._watch.get().stuck.watch(connection)

    def close(self) -> None:
        """Stop watching."""
        if (watch := self._watch.known()) is not None:
            watch.closed.set()


class _Watch:
    """The thread of one process."""

    def __init__(self, seconds: float) -> None:
        self.stuck = StuckClients(seconds)
        self.closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="sseproxy-client-timeout", daemon=True).start()

    def _run(self) -> None:
        while not self.closed.wait(self.stuck.interval):
            self.stuck.cut()
