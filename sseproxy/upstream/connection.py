"""A connection to an upstream, used again and again: one request and its answer's head at a time, on the bare socket,
in ticks, so that a client that leaves while the upstream is silent is noticed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

import msgspec
from urllib3.util import wait_for_read
from urllib3.util.ssltransport import SSLTransport

from sseproxy.upstream.head import BadHead, ResponseHead, end_of_head, read_head
from sseproxy.wsgi.polling import poll_of
from sseproxy.wsgi.upload import Upload

TICK: Final = 1.0
"""Seconds between two looks at whether the client is still there, while the upstream is silent."""

READ_SIZE: Final = 64 * 1024
SENT_AS_ONE: Final = 64 * 1024
"""Bytes up to which a body is copied to leave together with its head."""

_CLOSED: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What it looks like that the other side has closed."""


class StaleConnection(ConnectionError):
    """A kept connection was closed by the upstream before it sent a byte of this answer."""


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


class Connection:
    """A connection, in use by one request.

    :ivar socket: also to be read from, by whoever reads the answer's body.
    :ivar poll: waits so many milliseconds for something to read there; None: its time-out does, which any other socket
        has for sending alone.
    """

    __slots__ = ("_is_used", "poll", "socket")

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self._is_used = False
        self.poll = poll_of(socket)
        if self.poll is not None:
            socket.settimeout(0)

    def __del__(self) -> None:
        self.close()  # who drops an application or an answer may not have closed it

    def ask(
        self,
        request: Outgoing,
        send_timeout: float,
        head_timeout: float,
        deadline: float,
        look_up: Callable[[], None],
    ) -> tuple[ResponseHead, bytes]:
        """Send a request and wait for its answer: the head, and what has come after it. Closes unless that succeeds.

        :param send_timeout: seconds for each piece that is sent.
        :param head_timeout: seconds, once it is sent, until the head has to be there.
        :param deadline: :func:`time.monotonic` value at which it has to be there at the latest.
        :param look_up: called once a tick, in silence or while the head drips; what it raises ends the waiting.
        :raises StaleConnection: this is not the first request here, and the upstream has closed meanwhile.
        :raises TimeoutError: the head was not there in time.
        :raises OSError: the connection broke.
        :raises BadHead: what came is no answer.
        """
        try:
            if self.poll is None and not self._is_used:  # else it does not wait, see is_silent()
                self.socket.settimeout(send_timeout)
            is_sent = self._send(request, send_timeout)
            receive = self._receive_head if is_sent else self._receive_early_head
            head, rest = receive(request.method, head_timeout, deadline, look_up)
        except BaseException:
            self.close()
            raise
        self._is_used = True
        # An upload takes a new connection each time; kept, they would only add up.
        return head if is_sent and request.upload is None else head._replace(keeps=False), rest

    def _send(self, request: Outgoing, timeout: float) -> bool:
        """Whether the upstream took all of it. If not, its answer may be there all the same (RFC 9112 section 9.6)."""
        try:
            if len(request.body) <= SENT_AS_ONE:
                self._send_at_once(request.head + request.body, timeout)
            else:
                self._send_at_once(request.head, timeout)
                body = memoryview(request.body)
                with self._taking_time(timeout):
                    for begin in range(0, len(body), READ_SIZE):  # sendall() has the time-out for all that it is given
                        self.socket.sendall(body[begin : begin + READ_SIZE])
            if request.upload is not None:
                with self._taking_time(timeout):
                    self._send_pieces(request.upload, request.chunked)
        except _CLOSED as error:
            if self._is_used:
                raise _stale() from error
            return False
        except TimeoutError:
            return False
        return True

    def _send_at_once(self, data: bytes, timeout: float) -> None:
        """Send what most likely need not wait; only what has to is given time."""
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        if sent < len(data):
            with self._taking_time(timeout):
                self.socket.sendall(data[sent:])

    @contextlib.contextmanager
    def _taking_time(self, timeout: float) -> Iterator[None]:
        """Meanwhile, each piece that is sent may wait so many seconds."""
        self.socket.settimeout(timeout)
        try:
            yield
        finally:
            if self.poll is not None:
                self.socket.settimeout(0)

    def _send_pieces(self, upload: Upload, chunked: bool) -> None:
        while piece := upload.read(READ_SIZE):
            self.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.socket.sendall(b"0\r\n\r\n")

    def _receive_head(
        self, method: str, timeout: float, deadline: float, look_up: Callable[[], None]
    ) -> tuple[ResponseHead, bytes]:
        """The first head that is not interim (RFC 9110 section 15.2)."""
        looked = monotonic()
        if looked + timeout < deadline:
            deadline = looked + timeout
        try:
            data = self._receive(deadline, look_up)
        except _CLOSED as error:
            if self._is_used:
                raise _stale() from error
            raise
        if not data:
            raise _stale() if self._is_used else ConnectionError("the connection was closed before the answer")
        begin = 0
        while True:
            end = end_of_head(data, begin)
            if end is None:
                if monotonic() - looked >= TICK:  # what comes bit by bit is no silence
                    look_up()
                    looked = monotonic()
                begin = len(data)
                data += self._receive(deadline, look_up)
                if len(data) == begin:
                    raise BadHead("the connection was closed within the head")
                continue
            head, data, begin = read_head(data[:end], method), data[end:], 0
            if head.status >= 200:
                return head, data

    def _receive_early_head(
        self, method: str, timeout: float, deadline: float, look_up: Callable[[], None]
    ) -> tuple[ResponseHead, bytes]:
        """The head of an upstream that did not take the whole request: now or never."""
        try:
            return self._receive_head(method, min(timeout, TICK), deadline, look_up)
        except TimeoutError as error:
            raise OSError("the upstream does not take the request") from error

    def _receive(self, deadline: float, look_up: Callable[[], None]) -> bytes:
        """What comes next; nothing at the end of the connection."""
        while (left := deadline - monotonic()) > 0:
            wait = TICK if left > TICK else left
            try:
                if self.poll is None:
                    self.socket.settimeout(wait)
                elif not self.poll(wait * 1000):
                    look_up()
                    continue
                return self.socket.recv(READ_SIZE)
            except (TimeoutError, BlockingIOError):
                look_up()
        raise TimeoutError("no response head in time")

    def is_silent(self) -> bool:
        """Whether there is nothing to read. Before a request, that is the end, or would be taken for its answer.

        The socket does not wait any more then.
        """
        if self.poll is not None:
            return not self.poll(0)
        try:
            self.socket.settimeout(0)
            if isinstance(self.socket, ssl.SSLSocket):  # which cannot peek
                is_open = self.socket.fileno() >= 0
                return is_open and not self.socket.pending() and not wait_for_read(self.socket, timeout=0.0)
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def hang_up(self) -> None:
        """Shut the connection; who reads from it notices at once."""
        with contextlib.suppress(OSError):
            # urllib3's socket for TLS within TLS has no shutdown() of its own.
            shut = self.socket.socket if isinstance(self.socket, SSLTransport) else self.socket
            shut.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it for good."""
        self.socket.close()


def _stale() -> StaleConnection:
    return StaleConnection("the upstream had closed this connection")
