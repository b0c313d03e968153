"""An upstream's answer as it arrives: one read, one piece. The WSGI body that :class:`UpstreamApp` returns.

Reads the socket below http.client, whose buffered reader can neither be asked whether it would block nor be read again
after a time-out. An empty piece is an idle tick: PEP 3333 lets an application yield it while it has nothing to say.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Final, cast

from urllib3.response import HTTPResponse

from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.chunked import ChunkedDecoder
from sseproxy.upstream.connection import TICK, SocketResponse

READ_SIZE: Final = 64 * 1024


class UpstreamBody:
    """An iterable of pieces with ``close()`` that hangs up, at once and from any thread.

    :param idle: seconds of silence after which the upstream counts as dead.
    :param deadline: :func:`time.monotonic` value at which the answer has taken too long.
    """

    def __init__(self, raw: HTTPResponse, *, idle: float, deadline: float) -> None:
        self._raw = raw
        self._response = cast(SocketResponse, raw._original_response)
        self._socket = self._response.sock
        self._idle = idle
        self._deadline = deadline
        self._last_read = monotonic()
        self._chunks = ChunkedDecoder() if self._response.chunked else None
        self._left = self._response.length
        self._ended = self._response.isclosed() or self._left == 0
        self._first = b"" if self._ended else self._decode(self._response.take_buffered())
        self._socket.settimeout(min(TICK, idle))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first:
            piece, self._first = self._first, b""
            return piece
        try:
            while not self._ended:
                if (read := self._read()) is not None:
                    return read
        except UpstreamFailure:
            self.close()
            raise
        self._release()
        raise StopIteration

    def _read(self) -> bytes | None:
        """One read: its payload, nothing for a silent tick, None if it brought framing only."""
        if self._chunks is not None and self._chunks.failure is not None:
            raise self._chunks.failure
        try:
            data = self._socket.recv(READ_SIZE)
        except TimeoutError:
            self._check_idle()
            return b""
        except OSError as error:
            raise _truncated(f"the connection broke: {error.strerror or error}") from error
        self._last_read = now = monotonic()
        if not data:
            self._end_of_file()
            return None
        if now > self._deadline:
            raise _timeout("total", "the whole answer took too long")
        return self._decode(data) or None

    def close(self) -> None:
        """Hang up if the answer has not ended. The upstream notices at once, a blocked reader too."""
        self.hang_up()
        self._raw.close()

    def hang_up(self) -> None:
        """Shut the connection, also while another thread reads from it; that one still has to close."""
        if self._raw.closed:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _decode(self, data: bytes) -> bytes:
        """Take the transfer framing off."""
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self._ended = self._chunks.done
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self._ended = self._left == 0
        return data

    def _end_of_file(self) -> None:
        self._ended = True
        if self._chunks is not None or self._left:
            raise _truncated("the connection was closed before the end of the body")

    def _check_idle(self) -> None:
        now = monotonic()
        if now - self._last_read >= self._idle:
            raise _timeout("idle", f"nothing came for {self._idle:g} seconds")
        if now > self._deadline:
            raise _timeout("total", "the whole answer took too long")

    def _release(self) -> None:
        """Give the connection back for the next request."""
        if not self._raw.closed:
            self._response.close()
            self._raw.release_conn()


def _truncated(reason: str) -> UpstreamFailure:
    return UpstreamFailure(
        f"The upstream broke off its answer: {reason}.", type="upstream_truncated", code="upstream_truncated"
    )


def _timeout(which: str, reason: str) -> UpstreamFailure:
    return UpstreamFailure(
        f"The upstream did not finish its answer: {reason}.",
        status=504,
        type="upstream_timeout",
        code=f"upstream_{which}_timeout",
    )
