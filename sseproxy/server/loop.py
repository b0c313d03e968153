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

#: No address has more who wait to be accepted: gunicorn's default, and twice waitress's.
BACKLOG: Final = 2048
#: Output that may wait for a slow client, per connection.
OUTPUT_LIMIT: Final = 64 * 1024


class Loop:
    """Serves an application by addresses that are listened on as soon as it is made.

    :param places: where: settings of waitress for each, as ``{"listen": "127.0.0.1:8080"}``.
    :param threads: answers that can run at a time; as many more wait.
    :param connections: that are open at a time; more wait to be accepted.
    :param max_body: the longest body that the application accepts, in bytes.
    :param client_timeout: seconds after which a client that takes nothing is cut off.
    :param environ: what stands in the environ of each request besides.
    :raises OSError: an address cannot be listened on.
    :raises ValueError: nor understood.
    :ivar servers: of waitress, one for each address.
    :ivar connections: by their files, with what else is watched.
    :ivar pass_on: has another process take over a connection on which a request begins; False if it does not.
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
        """One round of the event loop, of so many seconds at most."""
        self.connections.turn(min(timeout, self._stuck.interval))
        if (now := monotonic()) >= self._look_again:
            self._stuck.cut()
            self._look_again = now + self._stuck.interval

    def ring(self) -> None:
        """End the round that runs. Without a lock: a signal handler may interrupt anything."""
        self.connections.ring()

    def is_idle(self) -> bool:
        """Whether no answer runs, waits for a thread or is still on its way to a client."""
        waiting = any(channel.requests or channel.total_outbufs_len for channel in self._channels())
        return not waiting and not self._served.running

    @property
    def has_room(self) -> bool:
        """Whether a client more could be served at once."""
        return self.dispatcher.idle > 0 and self._can_take_more

    def listen_too(self, entrance: wasyncore.dispatcher) -> None:
        """From now on connections come there too."""
        self._entrances.append(entrance)

    def accept(self, wanted: bool) -> None:
        """From now on take new connections as they come, or leave them."""
        for entrance in self._entrances:
            entrance.accepting = wanted
            self.connections.ask(entrance.socket.fileno())

    def accept_now(self, most: int) -> None:
        """Take as many of those who wait to be accepted at each address."""
        for entrance in self._entrances:
            for _ in range(most):
                before = len(self.connections)
                if self._can_take_more:
                    entrance.handle_accept()
                if len(self.connections) == before:
                    break

    def take_over(self, number: int, connection: socket.socket) -> None:
        """Go on with a connection of another process to the address of this number."""
        server = self.servers[number]
        try:
            address = server.fix_addr(connection.getpeername())
        except OSError:  # the client has left
            connection.close()
        else:
            self._open_channel(server, connection, address, server.adj, map=self.connections)

    def stop_listening(self) -> None:
        """Close the addresses, of this process, and take who has come there by then, who would be reset."""
        self.accept_now(BACKLOG)
        for entrance in self._entrances:
            wasyncore.dispatcher.close(entrance)
        self._entrances.clear()

    def hang_up(self) -> None:
        """Close every connection.

        An application in the middle of an answer learns of it as of a client that left: by its next write, or by the
        idle tick that asks ``waitress.client_disconnected``. Either way its ``close()`` runs in its own thread.
        """
        for channel in self._channels():
            channel.handle_close()

    def hang_up_idle(self) -> None:
        """Close the connections on which nothing is asked now."""
        for channel in self._channels():
            if channel.is_unused:
                channel.handle_close()

    def close(self, patience: float) -> None:
        """End everything, and give answers so many seconds to be settled."""
        self.stop_listening()
        self.hang_up()
        self.dispatcher.shutdown(patience)
        for server in self.servers:
            server.trigger.close()
        self.connections.close()

    @property
    def is_empty(self) -> bool:
        """Whether nobody is connected."""
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
    """waitress wakes its loop after each request; a channel here asks for that itself when there is something to do."""


def _settings(threads: int, max_body: int, connections: int) -> dict[str, Any]:
    return {
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
