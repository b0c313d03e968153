"""waitress: one process, a thread for each running answer. https://docs.pylonsproject.org/projects/waitress/

Set up so that each piece leaves at once, a client that left is noticed without a write, and a client that does not read
stops its upstream instead of filling the memory, and is cut off in the end.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask

from sseproxy.config import Config
from sseproxy.core.failure import Failure
from sseproxy.server import Ready, ServerError
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.files import allow_files
from sseproxy.wsgi.stuck import StuckClients

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Output that may wait for a slow client, per connection.
OUTPUT_LIMIT: Final = 64 * 1024
#: How long closed streams may take to be settled.
SETTLE_SECONDS: Final = 10


class _RefusalTask(ErrorTask):  # type: ignore[misc]
    """A request that waitress itself refuses (no HTTP, far too large) gets the same kind of body as any other."""

    def execute(self) -> None:
        error = self.request.error
        code = "request_too_large" if error.code == 413 else None
        kind = "invalid_request_error" if error.code < 500 else "server_error"
        body = json.dumps(Failure(f"{error.reason}: {error.body}", type=kind, code=code).as_json()).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _RefusalTask


class WaitressServer:
    """A waitress that listens already and can be stopped from any thread and from a signal handler.

    :param listen: ``HOST:PORT``; ``*`` for every address, port 0 for any free one.
    :param threads: answers that can run at a time; more wait.
    :param max_body: the longest body that the application accepts, in bytes.
    :param client_timeout: seconds after which a client that takes nothing is cut off.
    :raises ServerError: the address cannot be listened on.
    """

    def __init__(
        self, app: WSGIApplication, *, listen: str, threads: int, max_body: int, client_timeout: float = 30.0
    ) -> None:
        self._map: dict[int, Any] = {}
        self._stopping = False
        self._stuck = StuckClients(client_timeout)
        connections = 256 + 4 * threads
        allow_files(connections + 2 * threads)
        try:
            create_server(app, map=self._map, **_adjustments(listen, threads, max_body, connections))
        except (OSError, ValueError) as error:
            wasyncore.close_all(self._map, ignore_all=True)
            raise ServerError(f"cannot listen on {listen}: {getattr(error, 'strerror', None) or error}") from None
        self._servers = [each for each in self._map.values() if isinstance(each, BaseWSGIServer)]
        for server in self._servers:
            server.channel_class = self._open_channel

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as ``http://HOST:PORT``."""
        return [http_address(server.effective_host, server.effective_port) for server in self._servers]

    def run(self) -> None:
        """Serve until :meth:`stop`, then end every connection and wait until what ran on them is settled."""
        first = self._servers[0]
        look_again = monotonic()
        while not self._stopping:
            wasyncore.loop(timeout=self._stuck.interval, use_poll=True, map=self._map, count=1)
            if monotonic() >= look_again:
                self._stuck.cut()
                look_again = monotonic() + self._stuck.interval
        self._hang_up()
        first.task_dispatcher.shutdown(cancel_pending=True, timeout=SETTLE_SECONDS)
        for server in self._servers:
            server.trigger.close()

    def _open_channel(self, server: BaseWSGIServer, connection: socket.socket, *rest: Any, **named: Any) -> _Channel:
        self._stuck.watch(connection)
        return _Channel(server, connection, *rest, **named)

    def stop(self) -> None:
        """Make :meth:`run` return. Without a lock, because a signal handler may interrupt anything."""
        self._stopping = True
        self._servers[0].pull_trigger()

    def _hang_up(self) -> None:
        """Stop accepting and close every connection.

        An application in the middle of an answer learns of it as of a client that left: by its next write, or by the
        idle tick that asks ``waitress.client_disconnected``. Either way its ``close()`` runs in its own thread.
        """
        for server in self._servers:
            wasyncore.dispatcher.close(server)
        for channel in [each for each in self._map.values() if isinstance(each, HTTPChannel)]:
            channel.handle_close()


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
        "recv_bytes": 64 * 1024,
        # select() cannot watch file descriptors from 1024 on.
        "asyncore_use_poll": True,
        "log_socket_errors": False,
        "expose_tracebacks": False,
    }


def run_waitress(app: WSGIApplication, config: Config, *, ready: Ready | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then close the application, if it has a ``close()``.

    :raises ServerError: the address cannot be listened on.
    """
    settings = config.server
    try:
        server = WaitressServer(
            app,
            listen=settings.listen,
            threads=settings.threads,
            max_body=settings.max_body,
            client_timeout=config.streams.client_timeout,
        )
        with _signals(server):
            if ready is not None:
                ready(server.addresses)
            server.run()
    finally:
        close = getattr(app, "close", None)
        if close is not None:
            close()


@contextmanager
def _signals(server: WaitressServer) -> Iterator[None]:
    """The first SIGTERM or SIGINT stops the server; a second one has its usual effect, in case that takes too long."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        server.stop()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
