"""Clients that do not read are cut off, under every server that hands the client's socket to the application.

gunicorn and Werkzeug's server do; sseproxy's own waitress looks after its connections itself (see its module).
"""

from __future__ import annotations

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
        self._stuck = StuckClients(seconds)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, environ: WSGIEnvironment) -> None:
        """Look after the connection that a request came by, as long as it is open."""
        for key in SOCKET_KEYS:
            if key in environ and isinstance(connection := environ[key], socket.socket):
                self._stuck.watch(connection)
                self._start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _start(self) -> None:
        """With the first request, not before: a server may fork after it made the application."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sseproxy-client-timeout", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(self._stuck.interval):
            self._stuck.cut()
