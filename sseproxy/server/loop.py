"""waitress in one process: its event loop, and a thread for each running answer.

Set up so that each piece leaves at once, a client that left is noticed without a write, and a client that does not read
stops its upstream instead of filling the memory, and is cut off in the end.
https://docs.pylonsproject.org/projects/waitress/
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from sseproxy.server.channel import Channel
from sseproxy.server.dispatcher import Dispatcher
from sseproxy.server.drain import SETTLE_SECONDS
from sseproxy.server.parser import LONGEST_HEAD
from sseproxy.server.served import Served
from sseproxy.server.task import environ_of
from sseproxy.server.watch import Watch
from sseproxy.wsgi.stuck import StuckClients

#: Connections that wait to be accepted at each address: gunicorn's default, and twice waitress's.
BACKLOG: Final = 2048
#: Bytes of output that are buffered for a slow client, per connection.
OUTPUT_LIMIT: Final = 64 * 1024


class Loop:
    """Serves an application at addresses that it listens on from its construction.

    :param places: waitress's settings for each address, as ``{"listen": "127.0.0.1:8080"}``.
    :param threads: answers that can run at a time; as many more wait.
    :param connections: how many may be open at a time; more wait to be accepted.
    :param max_body: the longest body that the application accepts, in bytes.
    :param client_timeout: seconds after which a client that reads nothing is disconnected.
    :param environ: further variables for the environ of each request.
    :raises OSError: an address cannot be listened on.
    :raises ValueError: an address cannot be parsed.
    :ivar servers: waitress's, one for each address.
    :ivar connections: by file descriptor, with everything else that is polled.
    :ivar pass_on: passes a connection with a new request to another process; False if none takes it.
    """

    pass_on: Callable[[Channel], bool] | None = None

    def __init__(
        self,
        served: Served,
        places: Iterable[Mapping[str, Any]],
        *,
        threads: int,
        connections: int,
        max_body: int,
        client_timeout: float,
        environ: Mapping[str, Any],
    ) -> None:
        self._served = served
        self._environ = environ
        self.connections = Watch()
        self._stuck = StuckClients(client_timeout)
        self._look_again = monotonic()
        self._most = connections
        self.dispatcher = Dispatcher(threads)
        settings = _settings(threads, max_body, connections)
        try:
            for place in places:
                create_server(served, map=self.connections, _dispatcher=self.dispatcher, **settings, **place)
        except (OSError, ValueError):
            wasyncore.close_all(self.connections, ignore_all=True)
            self.connections.close()
            self.dispatcher.shutdown(SETTLE_SECONDS)
            raise
        self.servers = [each for each in list(self.connections.values()) if isinstance(each, BaseWSGIServer)]
        for server in self.servers:
            server.channel_class = self._open_channel
            server.pull_trigger = _unneeded
            server.max_body = max_body
        self._entrances: list[Any] = [*self.servers]

    def turn(self, timeout: float = 1.0) -> None:
        """One round of the event loop, for at most ``timeout`` seconds."""
        self.connections.turn(min(timeout, self._stuck.interval))
        if (now := monotonic()) >= self._look_again:
            self._stuck.cut()
            self._look_again = now + self._stuck.interval

    def ring(self) -> None:
        """End the current round. Without a lock: a signal handler may interrupt anything."""
        self.connections.ring()

    def is_idle(self) -> bool:
        """Whether no answer is running, waiting for a thread or still being sent."""
        waiting = any(channel.requests or channel.total_outbufs_len for channel in self._channels())
        return not waiting and not self._served.running

    @property
    def has_room(self) -> bool:
        """Whether one more client could be served at once."""
        return self.dispatcher.idle > 0 and self._can_take_more

    def listen_too(self, entrance: wasyncore.dispatcher) -> None:
        """Accept connections there too."""
        self._entrances.append(entrance)

    def accept(self, wanted: bool) -> None:
        """Begin or stop accepting new connections."""
        for entrance in self._entrances:
            entrance.accepting = wanted
            self.connections.ask(entrance.socket.fileno())

    def accept_now(self, most: int) -> None:
        """Accept up to so many waiting connections at each address."""
        for entrance in self._entrances:
            for _ in range(most):
                before = len(self.connections)
                if self._can_take_more:
                    entrance.handle_accept()
                if len(self.connections) == before:
                    break

    def take_over(self, number: int, connection: socket.socket) -> None:
        """Take over a connection that another process accepted at the address with this number."""
        server = self.servers[number]
        try:
            address = server.fix_addr(connection.getpeername())
        except OSError:  # the client has left
            connection.close()
        else:
            self._open_channel(server, connection, address, server.adj, map=self.connections)

    def stop_listening(self) -> None:
        """Close this process's listening sockets; accept first what waits there, which would be reset."""
        self.accept_now(BACKLOG)
        for entrance in self._entrances:
            wasyncore.dispatcher.close(entrance)
        self._entrances.clear()

    def hang_up(self) -> None:
        """Close every connection.

        To a running answer it looks as if its client had left: its next write fails, or its idle tick, which asks
        ``waitress.client_disconnected``. Either way its ``close()`` runs in its own thread.
        """
        for channel in self._channels():
            channel.handle_close()

    def hang_up_idle(self) -> None:
        """Close the connections without a request."""
        for channel in self._channels():
            if channel.is_unused:
                channel.handle_close()

    def close(self, patience: float) -> None:
        """End everything, and wait for so many seconds for answers to be settled."""
        self.stop_listening()
        self.hang_up()
        self.dispatcher.shutdown(patience)
        for server in self.servers:
            server.trigger.close()
        self.connections.close()

    @property
    def is_empty(self) -> bool:
        """Whether no client is connected."""
        return not self._channels()

    @property
    def _can_take_more(self) -> bool:
        return len(self.connections) < self._most

    def _channels(self) -> list[HTTPChannel]:
        return [each for each in list(self.connections.values()) if isinstance(each, HTTPChannel)]

    def _open_channel(self, server: BaseWSGIServer, connection: socket.socket, *rest: Any, **named: Any) -> Channel:
        self._stuck.watch(connection)
        channel = Channel(server, connection, *rest, **named)
        channel.served = self._served
        channel.relay = self._served.relay
        channel.ask = self.connections.ask
        channel.pass_on = self.pass_on
        channel.environ = {**environ_of(channel), **self._environ}
        return channel


def _unneeded() -> None:
    """waitress wakes its loop after each request; here a channel does so itself when there is something to do."""


def _settings(threads: int, max_body: int, connections: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "ident": "sseproxy",
        # Keep reading while an answer runs: the only way to see a client leave before a write to it fails.
        "channel_request_lookahead": 1,
        "outbuf_high_watermark": OUTPUT_LIMIT,
        "connection_limit": connections,
        # The application refuses a body over max_body with an error message, once it is read: a client that is refused
        # while it sends often sees only a reset. This limit is for bodies too long to be read to their end.
        "max_request_body_size": 2 * max_body + 1024 * 1024,
        # Likewise: the parser refuses a head over LONGEST_HEAD, once it knows which origin asks.
        "max_request_header_size": 2 * LONGEST_HEAD,
        "recv_bytes": 64 * 1024,
        # select() cannot watch file descriptors from 1024 on.
        "asyncore_use_poll": True,
        # The application decides whether to believe these headers (server.trusted_proxy).
        "clear_untrusted_proxy_headers": False,
        "log_socket_errors": False,
        "expose_tracebacks": False,
    }
