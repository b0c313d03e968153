"""A connection to an upstream, used again and again: one request and its answer's head at a time, on the bare socket,
in ticks, so that a client that leaves while the upstream is silent is noticed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from time import monotonic
from typing import Final

from urllib3.util import wait_for_read
from urllib3.util.ssltransport import SSLTransport

from sseproxy.upstream.head import HeadReader, ResponseHead
from sseproxy.upstream.sending import Outgoing, Sending
from sseproxy.upstream.waiting import TICK, Waiting
from sseproxy.wsgi.polling import poll_of

READ_SIZE: Final = 64 * 1024
STALE_WITHIN: Final = 1.0
"""Seconds in which a connection that had been idle too long shows as closed; who closes it later may have worked."""

_CLOSED: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What it looks like that the other side has closed."""


class StaleConnection(ConnectionError):
    """A kept connection was closed by the upstream at once, before it sent a byte of this answer."""


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
        self, request: Outgoing, send_timeout: float, head_timeout: float, waiting: Waiting
    ) -> tuple[ResponseHead, bytes]:
        """Send a request and wait for its answer: the head, and what has come after it. Closes unless that succeeds.

        :param send_timeout: seconds for each piece that is sent.
        :param head_timeout: seconds, once it is sent, until the head has to be there.
        :raises StaleConnection: this is not the first request here, and the upstream has closed meanwhile.
        :raises NotSent: the client left before the request was sent whole.
        :raises ClientGone: nobody waits for the answer any more.
        :raises TimeoutError: the head was not there in time.
        :raises OSError: the connection broke, or the upstream does not take the request.
        :raises BadHead: what came is no answer.
        """
        answer = HeadReader(request.method)
        began = monotonic()
        try:
            if self.poll is None and not self._is_used:  # else it does not wait, see is_silent()
                self.socket.settimeout(0)
            is_sent = self._send(request, send_timeout, waiting, answer)
            head = self._receive_head(answer, head_timeout if is_sent else min(head_timeout, TICK), waiting)
        except BaseException as error:
            self.close()
            is_early = not answer.has_begun and monotonic() - began <= STALE_WITHIN
            if self._is_used and is_early and isinstance(error, _CLOSED):
                raise StaleConnection("the upstream had closed this connection") from error
            raise
        self._is_used = True
        # An upload takes a new connection each time; kept, they would only add up.
        return head if is_sent and request.upload is None else head._replace(keeps=False), answer.rest

    def _send(self, request: Outgoing, timeout: float, waiting: Waiting, answer: HeadReader) -> bool:
        """Whether the upstream took all of it. If not, its answer is there all the same, or never comes."""
        try:
            return Sending(self.socket, timeout, waiting, answer).send(request)
        except _CLOSED:
            return False

    def _receive_head(self, answer: HeadReader, timeout: float, waiting: Waiting) -> ResponseHead:
        looked = monotonic()
        deadline = min(looked + timeout, waiting.deadline)
        while answer.head is None:
            if monotonic() - looked >= TICK:  # what comes bit by bit is no silence
                waiting.look_up()
                looked = monotonic()
            if not (data := self._receive(deadline, waiting)):
                raise ConnectionError("the connection was closed before the whole head of an answer came")
            answer.feed(data)
        return answer.head

    def _receive(self, deadline: float, waiting: Waiting) -> bytes:
        """What comes next; nothing at the end of the connection."""
        while (left := deadline - monotonic()) > 0:
            wait = TICK if left > TICK else left
            try:
                if self.poll is None:
                    self.socket.settimeout(wait)
                elif not self.poll(wait * 1000):
                    waiting.look_up()
                    continue
                return self.socket.recv(READ_SIZE)
            except (TimeoutError, BlockingIOError):
                waiting.look_up()
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
