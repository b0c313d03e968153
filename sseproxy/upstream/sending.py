"""A request on its way to an upstream, which may take it slowly, or answer first and take no more.

Meanwhile its answer, its client and its time are looked after.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from time import monotonic
from typing import Final

import msgspec
from urllib3.util.ssltransport import SSL_BLOCKSIZE, SSLTransport
from urllib3.util.wait import wait_for_socket

from sseproxy.upstream.head import HeadReader
from sseproxy.upstream.waiting import TICK, Waiting
from sseproxy.wsgi.client import ClientGone
from sseproxy.wsgi.upload import Upload

PIECE: Final = 64 * 1024
"""Bytes that are sent at a time, or read. A body of no more is copied to leave together with its head."""
_NOT_NOW: Final = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class NotSent(ClientGone):
    """The client left before its request was sent whole: no upstream can have worked on it."""


class Outgoing(msgspec.Struct, frozen=True):
    """A request as it is sent.

    :ivar upload: the body, where it is passed on while it comes in.
    :ivar chunked: its length is not known.
    """

    method: str
    head: bytes
    body: bytes = b""
    upload: Upload | None = None
    chunked: bool = False

    def pieces(self) -> Iterator[bytes | memoryview]:
        """All of it, as it is sent. The first piece is the head's at least."""
        if len(self.body) <= PIECE:
            yield self.head + self.body
        else:
            yield self.head
            body = memoryview(self.body)
            for begin in range(0, len(body), PIECE):
                yield body[begin : begin + PIECE]
        if self.upload is not None:
            while piece := self.upload.read(PIECE):
                yield b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece
            if self.chunked:
                yield b"0\r\n\r\n"


class Sending(msgspec.Struct):
    """Sends one request.

    :param connection: does not wait.
    :param patience: seconds that the upstream may take for each piece.
    :param answer: reads what comes meanwhile.
    """

    connection: socket.socket
    patience: float
    waiting: Waiting
    answer: HeadReader
    _looked: float = 0.0
    _until: float = 0.0

    def send(self, request: Outgoing) -> bool:
        """Whether the upstream took all of it; if not, its answer is there.

        Who refuses a request wants no more of it (RFC 9112 section 9.5). Who has begun another answer may still read.

        :raises NotSent: the client left meanwhile.
        :raises TimeoutError: there is no time left for the whole exchange.
        :raises OSError: the connection broke, or no more was taken.
        :raises BadHead: what came meanwhile is no answer.
        """
        self._looked = monotonic()
        self._until = min(self._looked + self.patience, self.waiting.deadline)
        pieces = request.pieces()
        first = next(pieces)
        left = first[self._put(first) :]  # most often nothing
        return (not left or self._send_in_ticks(left)) and all(map(self._send_in_ticks, pieces))

    def _send_in_ticks(self, piece: bytes | memoryview) -> bool:
        """Whether it was sent, however long that took; if not, no more of the request is wanted."""
        self._until = min(monotonic() + self.patience, self.waiting.deadline)
        while piece:
            is_ready = self._wait()
            if is_ready and self.answer.head is None:
                self._hear()
            if self._is_unwanted():
                return False
            if is_ready:
                piece = piece[self._put(piece) :]
        return True

    def _wait(self) -> bool:
        """Wait until the upstream takes something or says something, at most a tick; whether it does."""
        now = monotonic()
        if now >= self.waiting.deadline:
            raise TimeoutError("not sent in time")
        if now >= self._until and self.answer.head is None:
            raise OSError("the upstream does not take the request")
        if now - self._looked >= TICK:
            self._looked = now
            if self.waiting.has_no_client():
                raise NotSent
        tick = max(0.0, min(self._until, self._looked + TICK) - now)
        return wait_for_socket(self.connection, read=self.answer.head is None, write=True, timeout=tick)

    def _hear(self) -> None:
        """Read what has come of the answer."""
        try:
            data = self.connection.recv(PIECE)
        except _NOT_NOW:
            return
        if not data:
            raise ConnectionError("the connection was closed before the request was sent")
        self.answer.feed(data)

    def _is_unwanted(self) -> bool:
        """Whether the upstream has refused the request, or has begun another answer and takes nothing any more."""
        head = self.answer.head
        return head is not None and (head.status >= 300 or monotonic() >= self._until)

    def _put(self, piece: bytes | memoryview) -> int:
        """How much of it the upstream took at once."""
        is_nested = isinstance(self.connection, SSLTransport)
        try:
            if is_nested:  # TLS within TLS waits, since it cannot go on with what it has begun to send
                self.connection.settimeout(max(0.001, self._until - monotonic()))
                piece = piece[:SSL_BLOCKSIZE]
            return self.connection.send(piece)
        except _NOT_NOW:
            return 0
        finally:
            if is_nested:
                self.connection.settimeout(0)
