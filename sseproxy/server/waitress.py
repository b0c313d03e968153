"""waitress: one process, a thread for each running answer. https://docs.pylonsproject.org/projects/waitress/

Set up so that each piece leaves at once, a client that left is noticed without a write, and a client that does not read
stops its upstream instead of filling the memory, and is cut off in the end.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from sseproxy import hangup
from sseproxy.config import Config
from sseproxy.server import Load, Ready, ServerError
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.channel import Channel
from sseproxy.server.counting import counted_queue
from sseproxy.server.dispatcher import Dispatcher
from sseproxy.server.drain import LOOK, SETTLE_SECONDS, Drain
from sseproxy.server.files import allow_files
from sseproxy.server.log import log_warnings
from sseproxy.server.parser import LONGEST_HEAD
from sseproxy.server.served import Served
from sseproxy.server.task import environ_of
from sseproxy.server.watch import Watch
from sseproxy.wsgi.relay import Relay
from sseproxy.wsgi.stuck import StuckClients

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Output that may wait for a slow client, per connection.
OUTPUT_LIMIT: Final = 64 * 1024
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
RELOADING: Final = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


class WaitressServer:
    """A waitress that listens already and can be stopped from any thread and from a signal handler.

    :param listen: ``HOST:PORT``; ``*`` for every address, port 0 for any free one.
    :param threads: answers that can run at a time; more wait.
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
        self._map = Watch()
        self._served = Served(app)
        self._relay = Relay() if self._served.can_relay else None
        self._grace = grace
        self._load = load
        self._stopping = False
        self._reloading = False
        self._stuck = StuckClients(client_timeout)
        self._look_again = monotonic()
        connections = 256 + 4 * threads
        allowed = allow_files(connections + 3 * threads)
        self._dispatcher = Dispatcher(threads)
        try:
            create_server(
                self._served,
                map=self._map,
                _dispatcher=self._dispatcher,
                # One more than there are files for would be asked for again and again, and take those of the books.
                **_adjustments(listen, threads, max_body, max(threads, allowed - 3 * threads)),
            )
        except (OSError, ValueError) as error:
            wasyncore.close_all(self._map, ignore_all=True)
            self._map.close()
            self._dispatcher.shutdown(SETTLE_SECONDS)
            raise ServerError(f"cannot listen on {listen}: {getattr(error, 'strerror', None) or error}") from None
        self._servers = [each for each in list(self._map.values()) if isinstance(each, BaseWSGIServer)]
        for server in self._servers:
            server.channel_class = self._open_channel
            server.pull_trigger = _unneeded
            server.max_body = max_body

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as ``http://HOST:PORT``."""
        return [http_address(server.effective_host, server.effective_port) for server in self._servers]

    def run(self) -> None:
        """Serve until :meth:`stop`, then go down: see :class:`~sseproxy.server.drain.Drain`."""
        while not self._stopping:
            if self._reloading:
                self._reloading = False
                self._served.begin_reload(self._load_again)
            self._turn()
        if self._relay is not None:
            self._relay.close()  # in its own thread each answer can be cut and settled by itself
        drain = Drain(self._served, self._grace, self._hang_up, self._is_idle)
        while not drain.is_over():
            self._turn(min(LOOK, self._stuck.interval))
        for server in self._servers:
            wasyncore.dispatcher.close(server)
        self._hang_up()
        self._dispatcher.shutdown(SETTLE_SECONDS)
        for server in self._servers:
            server.trigger.close()
        self._map.close()

    def _load_again(self) -> Config | None:
        config = self._load() if self._load is not None else None
        if config is not None:
            log_warnings(config)
        return config

    def _turn(self, timeout: float | None = None) -> None:
        """One round of the event loop."""
        self._map.turn(self._stuck.interval if timeout is None else timeout)
        if (now := monotonic()) >= self._look_again:
            self._stuck.cut()
            self._look_again = now + self._stuck.interval

    def _is_idle(self) -> bool:
        """Whether no answer runs, waits for a thread or is still on its way to a client."""
        waiting = any(channel.requests or channel.total_outbufs_len for channel in self._channels())
        return not waiting and not self._served.running

    def _channels(self) -> list[HTTPChannel]:
        return [each for each in list(self._map.values()) if isinstance(each, HTTPChannel)]

    def _open_channel(self, server: BaseWSGIServer, connection: socket.socket, *rest: Any, **named: Any) -> Channel:
        self._stuck.watch(connection)
        channel = Channel(server, connection, *rest, **named)
        channel.served = self._served
        channel.relay = self._relay
        channel.ask = self._map.ask
        channel.environ = environ_of(channel)
        return channel

    def stop(self) -> None:
        """Make :meth:`run` return. Without a lock, because a signal handler may interrupt anything."""
        self._stopping = True
        self._map.ring()

    def reload(self) -> None:
        """Load the configuration again, soon. Without a lock, as :meth:`stop`."""
        self._reloading = True
        self._map.ring()

    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return self._dispatcher.waiting

    def _hang_up(self) -> None:
        """Close every connection.

        An application in the middle of an answer learns of it as of a client that left: by its next write, or by the
        idle tick that asks ``waitress.client_disconnected``. Either way its ``close()`` runs in its own thread.
        """
        for channel in self._channels():
            channel.handle_close()


def _unneeded() -> None:
    """waitress wakes its loop after each request; a channel here asks for that itself when there is something to do."""


def _adjustments(listen: str, threads: int, max_body: int, connections: int) -> dict[str, Any]:
    return {
        "listen": listen,
        "ipv6": ipv6_works(),
        "threads": threads,
        "ident": "sseproxy",
        # Keep reading while an answer runs: the only way to see a client leave before a write to it fails.
        "channel_request_lookahead": 1,
        "outbuf_high_watermark": OUTPUT_LIMIT,
        "connection_limit": connections,
        # The application refuses what is over max_body, in words, when it has read it; a client that is refused in the
        # middle of sending often sees only a reset. This is for bodies that nobody wants to read to their end.
        "max_request_body_size": 2 * max_body + 1024 * 1024,
        # Likewise: the parser refuses what is over LONGEST_HEAD, when it knows which page asks.
        "max_request_header_size": 2 * LONGEST_HEAD,
        "recv_bytes": 64 * 1024,
        # select() cannot watch file descriptors from 1024 on.
        "asyncore_use_poll": True,
        # What it says of a client is for the application to believe or not (server.trusted_proxy).
        "clear_untrusted_proxy_headers": False,
        "log_socket_errors": False,
        "expose_tracebacks": False,
    }


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
