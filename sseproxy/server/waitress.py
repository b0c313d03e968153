"""waitress alone: one process, which needs nothing else and nobody who looks after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Final

from sseproxy import hangup
from sseproxy.config import Config
from sseproxy.server import Load, Ready, ServerError
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.counting import counted_queue
from sseproxy.server.drain import LAST_WORD, LOOK, Drain
from sseproxy.server.files import allow_files
from sseproxy.server.log import log_warnings
from sseproxy.server.loop import Loop
from sseproxy.server.served import Served

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
RELOADING: Final = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
LEFT_SECONDS: Final = 1.0
"""For threads to end whose answers have; for the others there was time."""


class WaitressServer:
    """A waitress that listens already and can be stopped from any thread and from a signal handler.

    :param listen: ``HOST:PORT``; ``*`` for every address, port 0 for any free one.
    :param threads: answers that can run at a time; as many more wait.
    :param max_body: the longest body that the application accepts, in bytes.
    :param client_timeout: seconds after which a client that takes nothing is cut off.
    :param grace: seconds that running answers have when the server is stopped.
    :param load: gives the configuration that SIGHUP asks for.
    :raises ServerError: the address cannot be listened on.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        listen: str,
        threads: int,
        max_body: int,
        client_timeout: float = 30.0,
        grace: float = 0.0,
        load: Load | None = None,
    ) -> None:
        self._served = Served(app)
        self._grace = grace
        self._load = load
        self._stopping = False
        self._reloading = False
        allowed = allow_files(256 + 7 * threads)
        try:
            self._loop = Loop(
                self._served,
                [{"listen": listen, "ipv6": ipv6_works()}],
                threads=threads,
                # One more than there are files for would be asked for again and again, and take those of the books.
                connections=max(threads, allowed - 3 * threads),
                max_body=max_body,
                client_timeout=client_timeout,
                environ={"wsgi.multiprocess": False},
            )
        except OSError as error:
            raise ServerError(f"cannot listen on {listen}: {error.strerror or error}") from None
        except ValueError:  # waitress's, of what getaddrinfo() does not know
            raise ServerError(f"cannot listen on {listen}: that name has no address on this machine") from None

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as ``http://HOST:PORT``."""
        return [http_address(server.effective_host, server.effective_port) for server in self._loop.servers]

    def run(self) -> None:
        """Serve until :meth:`stop`, then go down: see :class:`~sseproxy.server.drain.Drain`."""
        while not self._stopping:
            if self._reloading:
                self._reloading = False
                self._served.begin_reload(self._load_again)
            self._loop.turn()
        drain = Drain(self._served, self._grace, self._loop.hang_up, self._loop.is_idle)
        while not drain.is_over():
            self._loop.turn(LOOK)
        self._loop.stop_listening()
        until = monotonic() + LAST_WORD
        while not self._loop.is_empty and monotonic() < until:
            self._loop.turn(LOOK)
        self._loop.close(LEFT_SECONDS)

    def _load_again(self) -> Config | None:
        config = self._load() if self._load is not None else None
        if config is not None:
            log_warnings(config)
        return config

    def stop(self) -> None:
        """Make :meth:`run` return. Without a lock, because a signal handler may interrupt anything."""
        self._stopping = True
        self._loop.ring()

    def reload(self) -> None:
        """Load the configuration again, soon. Without a lock, as :meth:`stop`."""
        self._reloading = True
        self._loop.ring()

    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return self._loop.dispatcher.waiting


def run_waitress(app: WSGIApplication, config: Config, *, ready: Ready | None, load: Load | None) -> None:
    """Serve until SIGTERM or SIGINT; then close the application, if it has a ``close()``. SIGHUP: load again.

    :raises ServerError: the address cannot be listened on.
    """
    settings = config.server
    with ExitStack() as closing:
        closing.callback(getattr(app, "close", lambda: None))
        server = WaitressServer(
            app,
            listen=settings.listen,
            threads=settings.threads,
            max_body=settings.max_body,
            client_timeout=config.streams.client_timeout,
            grace=settings.shutdown_grace,
            load=load,
        )
        with _signals(server), counted_queue(config, server.waiting):
            if ready is not None:
                ready(server.addresses)
            server.run()
            closing.close()  # here, where SIGHUP does not have its usual effect yet


@contextmanager
def _signals(server: WaitressServer) -> Iterator[None]:
    """The first SIGTERM or SIGINT stops the server; a second one has its usual effect, in case that takes too long.

    SIGHUP, which is not everywhere, has it load its configuration again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*STOPPING, *RELOADING)}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)
        server.stop()

    for number in STOPPING:
        signal.signal(number, stop)
    for number in RELOADING:
        signal.signal(number, lambda number, frame: server.reload())
    hangup.hand_over()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
