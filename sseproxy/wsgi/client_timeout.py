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
        self._lock = threading.Lock()
        self._process = 0
        self._begin()

    def watch(self, environ: WSGIEnvironment) -> None:
        """Look after the connection that a request came by, as long as it is open."""
        for key in SOCKET_KEYS:
            if key in environ and isinstance(connection := environ[key], socket.socket):
                self._start()
                self._stuck.watch(connection)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _begin(self) -> None:
        self._stuck = StuckClients(self._seconds)
        self._closed = threading.Event()

    def _start(self) -> None:
        """With the first request of a process, not before: a server may fork after it made the application."""
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process != os.getpid():
                self._begin()
                threading.Thread(target=self._run, name="sseproxy-client-timeout", daemon=True).start()
                self._process = os.getpid()

    def _run(self) -> None:
        while not self._closed.wait(self._stuck.interval):
            self._stuck.cut()
