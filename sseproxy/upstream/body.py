"""An upstream's answer as it arrives: one read, one piece. The WSGI body that :class:`UpstreamApp` returns.

Reads the bare socket, which can be asked whether it would block and be read again after a time-out. An empty piece is
an idle tick: PEP 3333 lets an application yield it while it has nothing to say.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

from urllib3.util import wait_for_read
from urllib3.util.ssltransport import SSLTransport

from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.broken_off import broken, timed_out, truncated
from sseproxy.upstream.chunked import ChunkedDecoder
from sseproxy.upstream.connection import READ_SIZE, Connection
from sseproxy.upstream.head import ResponseHead
from sseproxy.upstream.kept import Connections
from sseproxy.upstream.waiting import TICK

MUCH: Final = 2048
"""Bytes of which not all are handed out at once if they have come with the head."""
BEGINNING: Final = 3
"""Events that are handed out first then: by a role and two texts it is known of most streams how the rest may pass."""
_NOTHING_YET: Final = (TimeoutError, BlockingIOError, ssl.SSLWantReadError)


class UpstreamBody:
    """An iterable of pieces with ``close()`` that hangs up, at once and from any thread.

    :param rest: what has come after the head.
    :param connections: where the connection waits afterwards.
    :param idle: seconds of silence after which the upstream counts as dead.
    :param deadline: :func:`time.monotonic` value at which the answer has taken too long.
    """

    # How each begins.
    _first = _later = _come = b""
    _silent = False
    _failure: UpstreamFailure | None = None
    _wait: Callable[[float], object] | None = None
    _tls: ssl.SSLSocket | None = None

    def __init__(
        self,
        connection: Connection,
        head: ResponseHead,
        rest: bytes,
        connections: Connections,
        *,
        idle: float,
        deadline: float,
    ) -> None:
        self._connections = connections
        self._connection: Connection | None = connection
        self._lock = threading.Lock()
        self._socket = connection.socket
        self._poll = connection.poll
        if self._poll is None and isinstance(self._socket, ssl.SSLSocket):
            self._tls = self._socket
        self._idle = idle
        self._tick = idle if idle < TICK else TICK
        self._deadline = deadline
        self._last_read = monotonic()
        self._chunks = ChunkedDecoder() if head.chunked else None
        self._left = head.length
        self._keeps = head.keeps
        self._ended = self._left == 0
        if len(rest) > MUCH:
            *events, come = rest.split(b"\n\n" if self._chunks is None else b"\n\n\r\n", BEGINNING)
            if len(events) == BEGINNING:
                rest, self._come = rest[: len(rest) - len(come)], come
        if rest:
            try:
                self._first = self._decode(rest)
            except UpstreamFailure:
                self.close()
                raise
        if not self._ended:
            self.set_waiting(True)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first:
            piece, self._first = self._first, b""
            return piece
        if self._later:
            return self.rest()
        try:
            if self._failure is not None:
                raise self._failure
            if self._silent:
                self._silent = False
                self._check_idle()
                return b""
            patience = 0.0
            while not self._ended:
                if (read := self._read()) is not None:
                    return read
                patience = patience or self._last_read + self._tick
                if self._last_read >= patience:  # framing alone, which is as good as silence
                    return b""
        except UpstreamFailure:
            self.close()
            raise
        self._release()
        raise StopIteration

    def _read(self) -> bytes | None:
        """One read: its payload, nothing for a silent tick, None if it brought framing only."""
        try:
            data = self._take_come() or self._receive()
        except _NOTHING_YET:
            self._check_idle()
            return b""
        except OSError as error:
            raise broken(error) from error
        self._last_read = now = monotonic()
        if not data:
            self._end_of_file()
            return None
        if now > self._deadline:
            raise timed_out("total", "the whole answer took too long")
        return self._decode(data) or None

    def _receive(self) -> bytes:
        """What comes next on the socket."""
        if self._wait is not None and not self._wait(self._tick * 1000):
            raise TimeoutError
        return self._socket.recv(READ_SIZE)

    def fileno(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    @property
    def is_over(self) -> bool:
        """Whether nothing comes after the last piece but the end."""
        return self._ended and not (self._first or self._later) and self._failure is None

    def is_drained(self) -> bool:
        """Whether only :meth:`receive` can tell how it goes on."""
        if self._first or self._later or self._ended or self._silent or self._failure is not None:
            return False
        # TLS within TLS tells nothing of itself.
        return self._connection is not None and (self._poll is not None or not isinstance(self._socket, SSLTransport))

    def set_waiting(self, waiting: bool) -> None:
        """Whether a read waits a tick for bytes."""
        if self._poll is not None:
            self._wait = self._poll if waiting else None
        else:
            self._socket.settimeout(self._tick if waiting else 0)

    def receive(self) -> bytes | None:
        """What has arrived, as it came, maybe nothing, if reads do not wait; None: the end or a failure, which
        iterating tells.
        """
        if self._come:
            return self._take_come()
        try:
            data = self._receive()
            while data and self._tls is not None and self._tls.pending():
                data += self._socket.recv(READ_SIZE)
            if not data:
                self._end_of_file()
        except _NOTHING_YET:
            return b""
        except OSError as error:
            self.fail(error)
        except UpstreamFailure as failure:
            self._failure = failure
        else:
            return data or None
        return None

    def read(self) -> bytes | None:
        """Wait a tick for what comes, without its transfer framing, maybe nothing; None as above."""
        if not self.is_drained() or (data := self.receive()) is None:
            return None
        if data:
            self.heard(monotonic())
        payload = self.unwrap(data)
        return payload if payload is not None else self.rest() or None

    def _take_come(self) -> bytes:
        """What came with the beginning, as it came."""
        come, self._come = self._come, b""
        return come

    def is_framed(self) -> bool:
        """Whether what comes next is a chunk from its beginning."""
        return self._chunks is not None and self._chunks.between

    def is_bare(self) -> bool:
        """Whether chunks come, and stand on the socket as they are."""
        return self._chunks is not None and self._tls is None and not self._come

    def unwrap(self, data: bytes) -> bytes | None:
        """Take the transfer framing off; None: the end or a failure, which iterating tells after the :meth:`rest`."""
        try:
            payload = self._decode(data)
        except UpstreamFailure as failure:
            self._failure, payload = failure, b""
        if self._ended or self._failure is not None:
            self._later = payload
            return None
        return payload

    def heard(self, at: float) -> None:
        """The last byte that was received came at this moment (monotonic seconds)."""
        self._last_read = at
        if at > self._deadline and not self._ended and self._failure is None:
            self._failure = timed_out("total", "the whole answer took too long")

    def fail(self, error: OSError) -> None:
        """Let the next piece, but for what is at hand, be this failure of a read."""
        self._failure = broken(error)

    def put(self, data: bytes, later: bytes = b"") -> None:
        """Let the next piece be this.

        :param later: let that be the piece after it, unless :meth:`rest` takes it.
        """
        self._first, self._later = data, later

    def rest(self) -> bytes:
        """Take what is at hand for later, if it is its turn."""
        if self._first:
            return b""
        rest, self._later = self._later, b""
        return rest

    def put_silence(self) -> None:
        """Let the next piece be an idle tick, if nothing else is at hand."""
        self._silent = True

    def close(self) -> None:
        """Hang up if the answer has not ended. The upstream notices at once, a blocked reader too."""
        if self._connection is not None:
            self.hang_up()
            if (connection := self._take_connection()) is not None:
                connection.close()

    def hang_up(self) -> None:
        """Shut the connection, also while another thread reads from it; that one still has to close."""
        with self._lock:  # until it is done the connection is not given back, to be another request's
            if self._connection is not None:
                self._connection.hang_up()

    def _take_connection(self) -> Connection | None:
        """The connection, for one caller only."""
        with self._lock:
            connection, self._connection = self._connection, None
        return connection

    def _decode(self, data: bytes) -> bytes:
        """Take the transfer framing off."""
        if (chunks := self._chunks) is not None:
            data = chunks.feed(data)
            if chunks.failure is not None:
                self._failure = chunks.failure
            elif chunks.done:
                self._ended = True
                self._keeps = self._keeps and not chunks.surplus
        elif self._left is not None:
            self._keeps = self._keeps and len(data) <= self._left
            data = data[: self._left]
            self._left -= len(data)
            self._ended = self._left == 0
        return data

    def _end_of_file(self) -> None:
        self._ended = True
        if self._chunks is not None or self._left:
            raise truncated("the connection was closed before the end of the body")

    def _check_idle(self) -> None:
        now = monotonic()
        # What has come while the process itself stood still (SIGSTOP, a frozen container) is no silence.
        if now - self._last_read >= self._idle and not wait_for_read(self._socket, timeout=0.0):
            raise timed_out("idle", f"nothing came for {self._idle:g} seconds")
        if now > self._deadline:
            raise timed_out("total", "the whole answer took too long")

    def _release(self) -> None:
        """Give the connection back for the next request, if it can carry one."""
        connection = self._take_connection()
        if connection is not None and self._keeps:
            self._connections.keep(connection)
        elif connection is not None:
            connection.close()
