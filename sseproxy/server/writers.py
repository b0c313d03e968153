"""Clients' connections that may be written past the server, for the relay; see :mod:`sseproxy.wsgi.ends`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any


class ChannelWriter:
    """A channel of waitress, while nothing waits in it.

    :ivar send: writes past the channel, see :meth:`~sseproxy.server.channel.Channel.send_past`.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.send: Callable[[bytes], int] = channel.send_past

    @property
    def chunked(self) -> bool:
        """As waitress has said in its head."""
        return bool(self._channel.chunked)

    def is_ready(self) -> bool:
        """Whether all is sent."""
        return bool(self._channel.connected and not self._channel.total_outbufs_len)

    def fileno(self) -> int:
        """The socket's."""
        connection = self._channel.socket
        return -1 if connection is None else int(connection.fileno())

    def duplicate(self) -> int:
        """The channel's socket; see :meth:`~sseproxy.server.channel.Channel.duplicate`."""
        return int(self._channel.duplicate())

    def note_sent(self, count: int) -> None:
        """Nobody counts them."""

    def send_all(self, data: bytes) -> None:
        """Write as waitress does."""
        self._channel.write_soon(data)

    def when_closed(self, callback: Callable[[], object] | None) -> None:
        """Call this when the channel closes."""
        self._channel.when_closed = callback


class SocketWriter:
    """A connection of gunicorn's threads.

    :param response: gunicorn's, which counts the bytes for its own log.
    """

    def __init__(self, connection: socket.socket, response: Any) -> None:
        self._socket = connection
        self._response = response

    @property
    def chunked(self) -> bool:
        """As gunicorn has said in its head."""
        return bool(self._response.chunked)

    def is_ready(self) -> bool:
        """Whether the head is sent; gunicorn waits until all it was given is."""
        return bool(self._response.headers_sent)

    def fileno(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    def send(self, data: bytes) -> int:
        """Write without waiting.

        :raises OSError: the client has left.
        """
        try:
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        self._response.sent += sent
        return sent

    def duplicate(self) -> int:
        """The socket, which only the stream's own thread closes."""
        return os.dup(self._socket.fileno())

    def note_sent(self, count: int) -> None:
        """For gunicorn's log."""
        self._response.sent += count

    def send_all(self, data: bytes) -> None:
        """Write, and wait for the client."""
        self._socket.sendall(data)
        self._response.sent += len(data)

    def when_closed(self, callback: Callable[[], object] | None) -> None:
        """Never: what closes the connection is the stream's own thread, or shuts it down, which the relay sees."""
