"""A request's body in chunks, as https://www.rfc-editor.org/rfc/rfc9112#section-7.1 has them and in no other way.

waitress takes a size that ends with LF and CRLF, goes on over empty lines in place of one, and looks at no trailer: a
server in front may have seen the request end there, and another one in what follows.
"""

from __future__ import annotations

import re
from typing import Final

from waitress.receiver import ChunkedReceiver
from waitress.rfc7230 import CHUNK_EXT_RE, ONLY_HEXDIG_RE
from waitress.utilities import BadRequest

LONGEST_LINE: Final = 16 * 1024
"""Bytes of a chunk's first line, and of all trailers: what has come of one is looked through again with each piece."""
_END: Final = b"\r\n"
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class Chunks(ChunkedReceiver):  # type: ignore[misc]
    """Read in steps, each of which takes what came from a position on, and tells where the next one begins."""

    _begun = b""  # of a line
    _left = _trailers = 0
    _is_open = False  # a chunk, whose end has not come

    def received(self, data: bytes) -> int:
        before = len(self._begun)
        data, self._begun = self._begun + data, b""
        position = 0
        while position < len(data) and not self.completed and self.error is None:
            take = self._take_payload if self._left else self._take_end if self._is_open else self._take_line
            position = take(data, position)
        return position - before

    def _take_payload(self, data: bytes, position: int) -> int:
        piece = data[position : position + self._left]
        self.buf.append(piece)
        self._left -= len(piece)
        return position + len(piece)

    def _take_end(self, data: bytes, position: int) -> int:
        end = data[position : position + len(_END)]
        if end == _END:
            self._is_open = False
        elif _END.startswith(end):
            self._begun = end
        else:
            self.error = BadRequest("Chunk not properly terminated")
        return position + len(end)

    def _take_line(self, data: bytes, position: int) -> int:
        line, end, _ = data[position : position + LONGEST_LINE + len(_END)].partition(_END)
        if len(line) + self._trailers > LONGEST_LINE:
            self.error = BadRequest("A line of the chunked body is too long")
        elif not end:
            self._begun = line
        elif self.all_chunks_received:
            self._read_trailer(line)
        else:
            self._read_size(line)
        return position + len(line) + len(end)

    def _read_trailer(self, line: bytes) -> None:
        self._trailers += len(line) + len(_END)
        self.completed = not line
        if line and not _TRAILER.fullmatch(line):
            self.error = BadRequest("Invalid trailer")

    def _read_size(self, line: bytes) -> None:
        size = line.partition(b";")[0]
        if not ONLY_HEXDIG_RE.fullmatch(size):
            self.error = BadRequest("Invalid chunk size")
        elif not CHUNK_EXT_RE.fullmatch(line[len(size) :]):
            self.error = BadRequest("Invalid chunk extension")
        else:
            self._left = int(size, 16)
            self._is_open = self._left > 0
            self.all_chunks_received = not self._is_open
