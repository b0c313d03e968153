"""Clients that do not read are cut off, under every server that hands the client's socket to the application.

gunicorn and Werkzeug's server do; sseproxy's own waitress looks after its connections itself (see its module).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sseproxy.wsgi.client import SOCKET_KEYS
from sseproxy.wsgi.stuck import StuckClients

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class ClientTimeoutMiddleware:
    """Looks after the connections of the requests it sees; needs :meth:`close` at the end.

    :param seconds: how long a client may take no byte while some wait for it.
    """

    def __init__(self, app: WSGIApplication, seconds: float) -> None:
        self.app = app
        self._stuck = StuckClients(seconds)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for key in SOCKET_KEYS:
            if key in environ and isinstance(connection := environ[key], socket.socket):
                self._stuck.watch(connection)
                self._start()
        return self.app(environ, start_response)

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
