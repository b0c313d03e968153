"""gunicorn: several processes, threads or greenlets in each. The one file that imports it; extra ``[gunicorn]``.

https://docs.gunicorn.org/en/stable/settings.html
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from sseproxy.config import Config
from sseproxy.server import Ready, ServerError
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.files import allow_files

try:
    from gunicorn.app.base import BaseApplication
    from gunicorn.glogging import Logger
except ImportError:
    raise ServerError('gunicorn is not installed; install it with: pip install "sseproxy[gunicorn]"') from None

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: From SIGTERM to the kill of a worker that has not settled its streams.
SETTLE_SECONDS: Final = 10


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own messages by the handlers of everything else."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _Connections:
    """The application, and the client connections it was called on: what a stopping worker has to hang up."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection = environ.get("gunicorn.socket")
        if connection is not None:
            self._open.add(connection)
            if self._closed:
                _hang_up(connection)
        return self._app(environ, start_response)

    def hang_up(self) -> None:
        """Let every running answer fail at its next write or idle tick, so that it is closed and settled.

        Called in a signal handler, for gevent in its hub: nothing here may wait.
        """
        self._closed = True
        for connection in self._snapshot():
            _hang_up(connection)

    def _snapshot(self) -> list[socket.socket]:
        while True:
            try:
                return list(self._open)
            except RuntimeError:  # another thread added one meanwhile
                continue

    def close(self) -> None:
        """Close the application, if it has a ``close()``."""
        close = getattr(self._app, "close", None)
        if close is not None:
            close()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


class _Application(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line and files."""

    def __init__(self, build: Callable[[], WSGIApplication], settings: dict[str, Any]) -> None:
        self._build = build
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:  # older versions know fewer
                self.cfg.set(name, value)

    def load(self) -> _Connections:
        """In the worker, after the fork: no connection, thread or lock is shared between processes."""
        return _Connections(self._build())


def run_gunicorn(
    build: Callable[[Config], WSGIApplication],
    config: Config,
    *,
    workers: int,
    worker_class: str,
    ready: Ready | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    :raises ServerError: the server cannot run.
    """
    settings = _settings(config, workers, worker_class) | {"post_worker_init": _worker_ready(ready)}
    process = os.getpid()
    try:
        _Application(lambda: build(config), settings).run()
    except SystemExit as end:
        if os.getpid() != process:  # a worker ends here too, after its fork
            raise
        if end.code not in (None, 0):
            raise ServerError("gunicorn ended early; its messages above say why") from None


def _settings(config: Config, workers: int, worker_class: str) -> dict[str, Any]:
    threads = config.server.threads
    connections = max(1000, 4 * threads)
    allow_files(2 * connections)
    return {
        "bind": config.server.listen.replace("*:", "[::]:" if ipv6_works() else "0.0.0.0:"),
        "workers": workers,
        "worker_class": worker_class,
        "threads": threads if worker_class == "gthread" else 1,
        "worker_connections": connections,
        # Longer than the pools of clients and of nginx (60 s) keep a connection: the end that reuses it closes it.
        "keepalive": 75,
        "graceful_timeout": SETTLE_SECONDS,
        "limit_request_line": 8190,
        "errorlog": "-",
        "loglevel": config.log.level,
        "logger_class": _Log,
        "proc_name": "sseproxy",
        "control_socket_disable": True,
        "worker_int": lambda worker: worker.wsgi.hang_up(),
        "worker_exit": lambda server, worker: _close(worker),
    }


def _worker_ready(ready: Ready | None) -> Callable[[Any], None]:
    def post_worker_init(worker: Any) -> None:
        _hang_up_on_exit(worker)
        # The first worker of all tells; one that replaces another does not.
        if ready is not None and worker.age == 1:
            ready([http_address(*each.getsockname()[:2]) for each in worker.sockets])

    return post_worker_init


def _hang_up_on_exit(worker: Any) -> None:
    """Before gunicorn waits for running requests at SIGTERM, make them end: a stream could outlive its patience."""
    leave: Any = signal.getsignal(signal.SIGTERM)

    def handle_exit(number: int, frame: FrameType | None) -> None:
        leave(number, frame)
        worker.wsgi.hang_up()

    signal.signal(signal.SIGTERM, handle_exit)


def _close(worker: Any) -> None:
    try:
        worker.wsgi.close()
    except Exception:
        logging.getLogger("sseproxy").exception("the application did not close cleanly")
