"""Requests as waitress reads them, in fewer steps where they are plain. https://www.rfc-editor.org/rfc/rfc9112

What is unusual or wrong in a head is left to waitress; of a plain one this makes just what waitress would. Refused here
is what waitress takes although a server in front may have read another request (sections 3.2 and 6.1), and what it
would look at for a time that is the square of its length.
"""

from __future__ import annotations

import re
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO, Final

from waitress.parser import HTTPRequestParser, ParsingError, crack_first_line, split_uri
from waitress.rfc7230 import HEADER_FIELD_RE
from waitress.utilities import RequestHeaderFieldsTooLarge

from sseproxy.server.chunks import Chunks

REMEMBERED: Final = 512
LONGEST: Final = 256
"""Bytes of a line that is remembered: clients send the same few with each request."""
LONGEST_BODY: Final = 256 * 1024
"""Bytes of a body that is kept as it came; waitress puts longer ones into a file sooner or later."""
LONGEST_HEAD: Final = 256 * 1024
"""Bytes of a head that is served; of a longer one it is read who asks, as far as waitress's own limit goes."""
MOST_LINES: Final = 1000
"""In a head that is not plain."""
# Bytes by their numbers: looked for as bytes they take ten times as long.
_LF, _CR, _QUERY, _UNDERSCORE = b"\n\r?_"
_END: Final = b"\r\n"
_BLANK: Final = b"\r\n\r\n"
_UNUSUAL: Final = frozenset({"TRANSFER_ENCODING", "EXPECT"})
_HOST: Final = re.compile(rb"\r\nhost:", re.I)
_CODING: Final = re.compile(rb"\r\ntransfer-encoding:([^\r]*(?:\r\n[ \t][^\r]*)*)", re.I)
_START: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ (?:(?:/|(?i:https?)://)[!-~]*|\*)(?: HTTP/1\.[0-9])?")
"""What is asked for is a path, a URL or ``*``: waitress takes any word for a path, and leaves tabs out."""
_BLANKS: Final = re.compile(rb":[ \t\r\n]{%d}" % LONGEST)
_SECRET: Final = frozenset({"AUTHORIZATION", "PROXY_AUTHORIZATION", "COOKIE", "X_API_KEY", "API_KEY"})
"""Fields that are never remembered."""


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Knows the lines again that requests have in common.

    :ivar whole: the body, where it came in one piece with its head.
    :ivar is_read: the head came whole, and says what it has to in one way only.
    """

    whole = b""
    is_read = False
    path: bytes | str | None = None  # which waitress logs of a client that left, whether it was read or not
    completed: bool
    connection_close: bool
    content_length: int
    body_rcv: Any
    version: Any

    def received(self, data: bytes) -> int:
        head, blank, rest = data.partition(_BLANK)
        if not blank or self.header_plus or self.body_rcv is not None or self.completed:
            return int(super().received(data))
        number = len(head) + len(blank)
        if number >= LONGEST_HEAD or not self._take(head):
            return int(super().received(data))
        self.headers_finished = self.is_read = True
        self.header_bytes_received = number
        length = self.content_length
        if len(rest) >= length:
            self.whole = rest if len(rest) == length else rest[:length]
            self.body_bytes_received = length
            self.completed = True
            return number + length
        self.body_rcv = _Body(length)
        return number

    def get_body_stream(self) -> BinaryIO:
        return BytesIO(self.whole) if self.body_rcv is None else super().get_body_stream()

    def parse_header(self, header_plus: bytes) -> None:
        if not self._take(header_plus.removesuffix(_BLANK)):
            _refuse_endless(header_plus)
            try:
                super().parse_header(header_plus)
            except ValueError as error:  # of a URL, or of a length of thousands of digits
                raise ParsingError("The URL or the Content-Length cannot be read") from error
            self._refuse_ambiguous(header_plus)
            self.connection_close = self.connection_close or _closes(self.headers)
            if self.chunked:
                self.body_rcv = Chunks(self.body_rcv.buf)
        elif self.content_length:
            self.body_rcv = _Body(self.content_length)
        self.is_read = header_plus.endswith(_BLANK)  # else waitress has put this in place of one that it refuses
        if len(header_plus) >= LONGEST_HEAD:
            self.error = RequestHeaderFieldsTooLarge(f"The address and the fields exceed {LONGEST_HEAD} bytes")
            self.content_length, self.body_rcv = 0, None  # so that waitress waits for no more

    def _refuse_ambiguous(self, head: bytes) -> None:
        """:raises ParsingError: it is not certain where the request ends, or for whom it is."""
        if self.version > "1.0" and len(_HOST.findall(head)) != 1:
            raise ParsingError("Exactly one Host field is required")
        codings = [value.strip(b" \t\r\n").lower() for value in _CODING.findall(head)]
        if not codings:
            return
        if self.version != "1.1" or codings != [b"chunked"]:
            raise ParsingError("Transfer-Encoding must be chunked, once, in HTTP/1.1")
        if "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")

    def _take(self, head: bytes) -> bool:
        """Read a plain head, given without the blank line; False if it is none, and nothing is done."""
        first, *lines = head.split(_END)
        start = _start(first) if len(first) <= LONGEST and _QUERY not in first else _read_start(first)
        if start is None:
            return False
        try:
            headers = dict(map(_fields.__getitem__, lines))
        except _UnusualField:
            return False
        stated = headers.get("CONTENT_LENGTH", "0")
        if len(headers) < len(lines) or "HOST" not in headers:
            return False
        if not stated.isdecimal() or len(stated) > 9 or not _UNUSUAL.isdisjoint(headers):
            return False
        length = int(stated)
        if length > LONGEST_BODY or length >= self.adj.max_request_body_size:
            return False
        self.headers = headers
        self.first_line, self.command, self.request_uri, self.version, *parts = start
        self.proxy_scheme, self.proxy_netloc, self.path, self.query, self.fragment = parts
        self.url_scheme = self.adj.url_scheme
        self.connection_close = _closes(headers)
        self.content_length = length
        return True


class _Body:
    """A body of known length, for waitress to fill."""

    completed = False
    error = None

    def __init__(self, length: int) -> None:
        self._left = length
        self._pieces: list[bytes] = []

    def received(self, data: bytes) -> int:
        piece = data[: self._left]
        self._pieces.append(piece)
        self._left -= len(piece)
        self.completed = not self._left
        return len(piece)

    def getfile(self) -> BytesIO:
        return BytesIO(b"".join(self._pieces))

    def getbuf(self) -> _Body:
        return self

    def close(self) -> None:
        self._pieces = []


def _closes(headers: dict[str, str]) -> bool:
    """Whether the client says among other things that no request follows (RFC 9112 section 9.3)."""
    options = headers.get("CONNECTION", "").lower()
    return "close" in options and "close" in [option.strip(" \t") for option in options.split(",")]


def _refuse_endless(head: bytes) -> None:
    """:raises ParsingError: the time that waitress takes is the square of the length: some KiB would hold up all."""
    if not _START.fullmatch(head.partition(_END)[0].rstrip()):
        raise ParsingError("Start line is invalid")
    if _BLANKS.search(head):
        raise ParsingError("Too many blanks before the value of a field")
    if head.count(_END) > MOST_LINES:  # one field many times, or folded into many lines
        raise ParsingError("Too many lines")


def _read_start(line: bytes) -> tuple[bytes | str, ...] | None:
    """The request line, its method, target and version, and the target in its five parts."""
    line = line.rstrip()
    if _CR in line or _LF in line or not _START.fullmatch(line):
        return None
    try:
        method, target, version = crack_first_line(line)
        parts = split_uri(target)
    except (ParsingError, ValueError):
        return None
    return (line, method.decode("latin-1"), target.decode("latin-1"), "1.1", *parts) if version == b"1.1" else None


class _UnusualField(Exception):
    """It takes more than one line to tell what this one says."""


class _Fields(dict[bytes, tuple[str, str]]):
    """Of lines, names as waitress spells them, and values."""

    def __missing__(self, line: bytes) -> tuple[str, str]:
        spelt, _, said = line.partition(b":")
        known, text = _names.get(spelt), said.decode("latin-1")
        if known is not None and text.isascii() and text.isprintable():
            return known, text.strip(" ")
        if _CR in line or _LF in line or _BLANKS.search(line) or (found := HEADER_FIELD_RE.match(line)) is None:
            raise _UnusualField
        name, value = found.group("name", "value")
        if _UNDERSCORE in name:
            raise _UnusualField
        field = name.upper().replace(b"-", b"_").decode("latin-1"), value.strip(b" \t").decode("latin-1")
        if len(line) <= LONGEST and field[0] not in _SECRET:
            _remember(self, line, field)
        elif len(name) <= LONGEST:
            _remember(_names, name, field[0])
        return field


def _remember(where: dict[bytes, Any], key: bytes, value: object) -> None:
    if len(where) >= REMEMBERED:
        where.clear()
    where[key] = value


_start = lru_cache(REMEMBERED)(_read_start)
_fields: Final = _Fields()
_names: Final[dict[bytes, str]] = {}
"""As they came, of fields that are not remembered, and as waitress spells them."""
