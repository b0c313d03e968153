"""The chunked transfer coding, decoded from pieces of any size (RFC 9112 section 7.1). No socket.

http.client reads chunk by chunk and line by line; a stream's chunks are tiny, so that costs more than all else.
"""

from __future__ import annotations

import re
from typing import Final

from sseproxy.core.failure import UpstreamFailure

MAX_LINE: Final = 16 * 1024
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\Z", re.DOTALL)
_END: Final = b"\r\n"
_NOTHING: Final = b"0"
"""The size of the last chunk."""
_SIZE_OF: Final = b"%x".__mod__
_PLAIN_LINE: Final = re.compile(rb"(?!0+\r)([0-9A-Fa-f]{1,15})\r\n")


class ChunkedDecoder:
    """Takes what a socket gave, returns the payload in it.

    :ivar done: the last chunk and its trailers have been read.
    :ivar surplus: something came after that, which is no part of the body.
    :ivar failure: the framing is broken after what was returned last.
    :ivar between: nothing of the next chunk has come.
    """

    # How each begins.
    done = surplus = False
    failure: UpstreamFailure | None = None
    between = True
    _rest = b""
    _left = _trailers = 0
    _in_trailers = False

    def feed(self, data: bytes) -> bytes:
        """The payload bytes that ``data`` completes.

        :raises UpstreamFailure: the framing is broken, and there is no payload before the fault.
        """
        if self.between:  # and most reads bring whole chunks
            *lines, rest = data.split(_END)
            sizes, payload = [*map(bytes.lower, lines[::2])], lines[1::2]
            # What stands between two line ends is as long as the line before says: so no payload holds a line end.
            if not rest and sizes == [*map(_SIZE_OF, map(len, payload))] and _NOTHING not in sizes[:-1]:
                if sizes and sizes[-1] == _NOTHING:
                    self.done = self._in_trailers = True
                    self.between = False
                return b"".join(payload)
        payload = []
        position = _take_whole(data, payload) if self.between else 0
        if self.failure is not None:
            raise self.failure
        if self._rest:
            data = self._rest + data
            self._rest = b""
            if not (self._left or self._in_trailers):
                position = _take_whole(data, payload)
        while not self.done and position < len(data):
            if self._left > 2:
                end = position + self._left - 2
                piece = data[position:end]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            try:
                step = self._end_of_chunk(data, position) if self._left else self._line(data, position)
            except UpstreamFailure as failure:
                if not payload:
                    raise
                self.failure = failure
                break
            if step < 0:
                self._rest = data[position:]
                break
            position = step
        self.surplus = self.done and position < len(data)
        self.between = not (self._rest or self._left or self._in_trailers or self.failure)
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _end_of_chunk(self, data: bytes, position: int) -> int:
        """Skip the CRLF after a chunk's payload; -1 when it is not all there."""
        if len(data) - position < 2:
            return -1
        if data[position : position + 2] != b"\r\n":
            raise _broken("a chunk is longer than its stated size")
        self._left = 0
        return position + 2

    def _line(self, data: bytes, position: int) -> int:
        """Read a chunk-size line or a trailer line; -1 when it is not all there."""
        end = data.find(b"\n", position)
        if end < 0:
            if len(data) - position > MAX_LINE:
                raise _broken(f"a chunk-size line is longer than {MAX_LINE} bytes")
            return -1
        line = data[position:end].rstrip(b"\r")
        if self._in_trailers:
            self.done = not line
            self._trailers += end + 1 - position
            if self._trailers > MAX_LINE:
                raise _broken(f"its trailers are longer than {MAX_LINE} bytes")
        else:
            match = _SIZE.match(line)
            if match is None:
                raise _broken("a chunk-size line is not a hexadecimal number")
            size = int(match[1], 16)
            self._in_trailers = size == 0
            self._left = size + 2 if size else 0
        return end + 1


def _take_whole(data: bytes, payload: list[bytes]) -> int:
    """Take the whole chunks that ``data`` begins with, as most senders write them, and tell where they end."""
    position = 0
    while (line := _PLAIN_LINE.match(data, position)) is not None:
        begin = line.end()
        end = begin + int(line[1], 16)
        if data[end : end + 2] != b"\r\n":
            break
        payload.append(data[begin:end])
        position = end + 2
    return position


def _broken(reason: str) -> UpstreamFailure:
    return UpstreamFailure(f"The upstream's chunked body is malformed: {reason}.", code="upstream_bad_framing")
