"""What a gunicorn worker does at SIGTERM and SIGHUP, as hooks for a gunicorn.conf.py; ``--server gunicorn`` has them.

``from sseproxy.server.hooks import post_worker_init, worker_exit, worker_int`` and a ``graceful_timeout`` of
``server.shutdown_grace`` and 15 s more: https://docs.gunicorn.org/en/stable/settings.html#server-hooks.
"""

from __future__ import annotations

import _socket
import _thread
import logging
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from sseproxy.server import Load
from sseproxy.server.drain import AFTER_GRACE, LOOK, Drain
from sseproxy.server.futexes import share_table
from sseproxy.server.interpreter import suit_serving
from sseproxy.server.quoting import quote_nothing
from sseproxy.server.served import Served
from sseproxy.server.writers import SocketWriter
from sseproxy.wsgi.ride import RELAY_KEY, Ride

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.server")

DEFAULT_GRACE: Final = 30.0
ALL_GO_DOWN: Final = signal.SIGUSR2
"""From sseproxy's own master: no other worker takes over, so keep accepting, to refuse with an error message."""


class Worker:
    """One worker process of gunicorn, and the application in it.

    :param worker: gunicorn's. One that is not of gunicorn's own kinds says what only it can know: ``has_threads``,
        ``is_idle()``, ``hang_up()``; with ``has_last_word`` it sends itself a second SIGTERM when it has had that.
    :param load: gives the configuration that SIGHUP asks for; None: the application reads its own again.
    :param grace: seconds that running answers have at SIGTERM, unless the application's configuration says it.
    """

    def __init__(self, worker: Any, load: Load | None = None, grace: float = DEFAULT_GRACE) -> None:
        self._worker = worker
        self._load = load
        self._leave: Callable[[int, FrameType | None], object] = worker.handle_exit
        self._is_leaving = False
        self._has_drained = threading.Event()
        self._run: Callable[[], object] = worker.run
        worker.run = self._run_on
        self.served = Connected(worker.wsgi, has_threads=getattr(worker, "has_threads", hasattr(worker, "tpool")))
        worker.wsgi = self.served
        config = self.served.config
        self._grace = grace if config is None else config.server.shutdown_grace
        if worker.age == 1:  # one for all
            _warn_of_haste(worker.cfg.graceful_timeout, self._grace)
        self._hang_up: Callable[[], object] = getattr(worker, "hang_up", self.served.hang_up)
        share_table()
        suit_serving()
        logging.getLogger("gunicorn.error").addFilter(quote_nothing)

    def handle_signals(self) -> None:
        """Take over SIGTERM, SIGHUP and :data:`ALL_GO_DOWN`."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(ALL_GO_DOWN, self._on_all_go_down)
        signal.signal(signal.SIGHUP, self._on_hup)
        for number in (signal.SIGTERM, ALL_GO_DOWN, signal.SIGHUP):
            signal.siginterrupt(number, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    def _run_on(self) -> None:
        """Run until answers without a connection have ended too, which gunicorn does not know of."""
        self._run()
        while not self._has_drained.is_set():
            # No signal came, as at gunicorn's ``max_requests``, or no thread could be started at it.
            self._go_down()
            self._has_drained.wait(LOOK)
            self._worker.notify()

    # Signal handlers run in gevent's hub, where nothing may block: threading.Thread.start() would.

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        is_first = self._worker.alive
        self._leave(number, frame)
        if not (is_first and getattr(self._worker, "has_last_word", False)):
            self._go_down()

    def _on_all_go_down(self, number: int, frame: FrameType | None) -> None:
        self._go_down()

    def _on_hup(self, number: int, frame: FrameType | None) -> None:
        self.served.begin_reload(self._load)

    def _go_down(self) -> None:
        if not self._is_leaving:
            self._is_leaving = True
            try:
                _thread.start_new_thread(self._drain, ())
            except RuntimeError:  # no thread is left: the next signal, or the worker's end, tries again
                self._is_leaving = False

    def _drain(self) -> None:
        try:
            drain = Drain(self.served, self._grace, self._hang_up, getattr(self._worker, "is_idle", None))
            while not drain.is_over():
                time.sleep(LOOK)
        finally:
            # Idle keep-alive connections would hold up gevent until its timeout. Those that only the worker knows are
            # left to it: it answers on them for a moment more.
            self.served.hang_up()
            self._has_drained.set()
            if self._worker.alive:
                os.kill(os.getpid(), signal.SIGTERM)


class Connected(Served):
    """Also knows the client connections it was called on, which a worker has to close in the end."""

    def __init__(self, app: WSGIApplication, *, has_threads: bool = False) -> None:
        super().__init__(app, has_threads=has_threads)
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._hung_up = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection = environ.get("gunicorn.socket")
        if connection is not None:
            self._connections.add(connection)
            if self._hung_up:
                _hang_up(connection)
            response = getattr(start_response, "__self__", None)
            is_plain = type(connection) is socket.socket and environ["SERVER_PROTOCOL"].startswith("HTTP/1.")
            if self.relay is not None and is_plain and hasattr(response, "chunked"):
                environ[RELAY_KEY] = partial(Ride, self.relay, SocketWriter(connection, response))
        if self.is_draining:
            _close_afterwards(start_response)
        return super().__call__(environ, start_response)

    def hang_up(self) -> None:
        """Close the connections. An answer that runs fails at its next write or idle tick, is closed and settled."""
        self._hung_up = True
        for connection in self._snapshot():
            _hang_up(connection)

    def _snapshot(self) -> list[socket.socket]:
        while True:
            try:
                return list(self._connections)
            except RuntimeError:  # another thread added one meanwhile
                continue


def _warn_of_haste(patience: float, grace: float) -> None:
    if patience < (needed := grace + AFTER_GRACE):
        log.warning(
            "gunicorn's graceful_timeout is %g s: answers that outlast it are killed, and charged as far as was noted. "
            "To end and settle them all it takes %g s: server.shutdown_grace (%g s) and %g s more",
            *(patience, needed, grace, AFTER_GRACE),
        )


def _hang_up(connection: socket.socket) -> None:
    """Shut a socket down; to its readers and writers the client has left. gevent's own shutdown() would raise in
    them."""
    with suppress(OSError, ValueError):  # closed already
        same = _socket.socket(connection.family, connection.type, connection.proto, connection.fileno())
        try:
            same.shutdown(socket.SHUT_RDWR)
        finally:
            same.detach()


def _close_afterwards(start_response: Any) -> None:
    """Add ``Connection: close``: PEP 3333 forbids applications to, but gunicorn's response has a method for it."""
    force_close = getattr(getattr(start_response, "__self__", None), "force_close", None)
    if force_close is not None:
        force_close()


@contextmanager
def hup_kept_back() -> Iterator[None]:
    """Block SIGHUP around the fork of a worker, which would lose it or be ended by it before it has its handler."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def post_worker_init(worker: Any) -> None:
    """gunicorn's hook: the worker has loaded its application."""
    Worker(worker).handle_signals()


def worker_int(worker: Any) -> None:
    """gunicorn's hook: the worker is to end at once."""
    if isinstance(worker.wsgi, Connected):
        getattr(worker, "hang_up", worker.wsgi.hang_up)()


def worker_exit(server: Any, worker: Any) -> None:
    """gunicorn's hook: the worker has ended its answers."""
    try:
        if isinstance(getattr(worker, "wsgi", None), Connected):
            worker.wsgi.close()
    except Exception:
        logging.getLogger("sseproxy").exception("the application did not close cleanly")
