"""The heads of HTTP/1.1 messages: a request's written, a response's read (RFC 9112). No socket.

http.client reads a head line by line and parses it as e-mail; that costs more than all else that is done with an
answer. What is not certain to be framed as it looks is refused here, where http.client would guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from sseproxy.core.http_fields import TOKEN

MAX_LINE: Final = 64 * 1024
MAX_FIELDS: Final = 100
"""Both as in http.client; a folded line counts as one of its own."""
MAX_HEAD: Final = 256 * 1024
"""What comes before its end is looked through again with each byte."""
REMEMBERED: Final = 64
LONGEST_REMEMBERED: Final = 2048
"""Heads, and bytes of one. Model servers begin every stream alike, or every one of the same second."""

_END: Final = re.compile(rb"\n\r?\n")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t].*)?")
_FOLD: Final = re.compile(r"\n[ \t]+")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_BREAK: Final = re.compile(r"[\r\n\0]")
_BLANKS: Final = (" ", "\t")
_FRAMING: Final = frozenset(("connection", "content-length", "transfer-encoding"))
_BODYLESS: Final = (204, 304)


class BadHead(Exception):
    """What came is not the head of an HTTP/1 response."""


class ResponseHead(NamedTuple):
    """The head of a response.

    :ivar fields: in their order, with names as they came and values without the blanks around them; not to be changed.
    :ivar length: bytes in the body; None: as its chunks say, or else all up to the end of the connection.
    :ivar chunked: the body is in the chunked coding.
    :ivar keeps: the connection may carry another request after this body.
    """

    status: int
    fields: list[tuple[str, str]]
    length: int | None
    chunked: bool
    keeps: bool


def write_head(method: str, target: str, fields: Mapping[str, str], written: bytes = b"") -> bytes:
    """The head of a request.

    :param written: further fields, from :func:`write_fields`.
    :raises ValueError: a field cannot stand in a head: its name is none, or its value would be more than one line.
    """
    start_line = f"{method} {target} HTTP/1.1"
    if not (_is_token(method) and start_line.isprintable()):
        raise ValueError("a method is not a token, or a target is more than one line")
    return b"%b\r\n%b%b\r\n" % (start_line.encode("latin-1"), written, write_fields(fields))


def write_fields(fields: Mapping[str, str]) -> bytes:
    """The lines of header fields.

    :raises ValueError: as :func:`write_head`.
    """
    values = tuple(fields.values())
    text = "".join(values)
    if not text.isprintable() and _BREAK.search(text):
        raise ValueError("a header field's value holds a line end or a NUL")
    return (_form(tuple(fields)) % values).encode("latin-1")


@lru_cache(REMEMBERED)
def _form(names: tuple[str, ...]) -> str:
    """The lines of fields of these names, to be filled with their values."""
    if not all(map(TOKEN.fullmatch, names)):
        raise ValueError("a header field's name is not a token")
    return "".join([f"{name.replace('%', '%%')}: %s\r\n" for name in names])


@lru_cache(REMEMBERED)
def _is_token(text: str) -> bool:
    return TOKEN.fullmatch(text) is not None


def end_of_head(data: bytes, begin: int = 0) -> int | None:
    """Where the head that ``data`` starts with ends, its empty line included; None: not yet.

    :param begin: from where on this has not been asked before.
    :raises BadHead: it is too long.
    """
    found = _END.search(data, begin - 2 if begin > 2 else 0)
    if found is not None:
        return found.end()
    if len(data) > MAX_HEAD or data.count(b"\n") > MAX_FIELDS or len(data) - data.rfind(b"\n") > MAX_LINE:
        raise BadHead("a head without an end")
    return None


def read_head(head: bytes, method: str) -> ResponseHead:
    """Read a whole head.

    :param head: with its empty line.
    :param method: of the request that it answers.
    :raises BadHead: it is malformed, too long, or leaves open where its body ends.
    """
    return (_read_remembered if len(head) <= LONGEST_REMEMBERED else _read)(head, method == "HEAD")


class HeadReader(msgspec.Struct):
    """Finds the first head that is not interim (RFC 9110 section 15.2) in what comes.

    :param method: of the request that it answers.
    :ivar head: it, once it is there.
    :ivar rest: what has come after it.
    :ivar has_begun: something has come, be it interim.
    """

    method: str
    head: ResponseHead | None = None
    rest: bytes = b""
    has_begun: bool = False
    _asked: int = 0

    def feed(self, data: bytes) -> None:
        """Take what came next.

        :raises BadHead: it is none.
        """
        self.has_begun = True
        self.rest += data
        while (end := end_of_head(self.rest, self._asked)) is not None:
            head, self.rest, self._asked = read_head(self.rest[:end], self.method), self.rest[end:], 0
            if head.status >= 200:
                self.head = head
                return
            if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise BadHead("another protocol, which nobody has asked for")
        self._asked = len(self.rest)


def _read(head: bytes, bodyless: bool) -> ResponseHead:
    start_line, *lines = _lines(head)
    start = _STATUS_LINE.fullmatch(start_line)
    if start is None:
        raise BadHead("no status line")
    fields = []
    framing: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadHead("a field without a colon")
        name, value = name.rstrip(" \t"), value.strip(" \t")
        fields.append((name, value))
        if (known := name.lower()) in _FRAMING:
            framing[known] = f"{framing[known]},{value}" if known in framing else value
    status = int(start[2])
    return ResponseHead(status, fields, *_read_framing(framing, int(start[1]), bodyless or status in _BODYLESS))


_read_remembered: Final = lru_cache(REMEMBERED)(_read)


def length_to_state(head: ResponseHead) -> str | None:
    """The ``Content-Length`` to hand on: the one by which the body is read here, never another that came along."""
    if head.length != 0:
        return None if head.length is None else str(head.length)
    if head.status == HTTPStatus.NO_CONTENT:  # RFC 9110 section 8.6
        return None
    # An answer to HEAD, or 304, has no body, and states the length of one that it would have.
    stated = [value for name, value in head.fields if name.lower() == "content-length"]
    return stated[0] if len(stated) == 1 and _LENGTH.fullmatch(stated[0]) else None


def _lines(head: bytes) -> list[str]:
    """The status line and each field's, unfolded."""
    text = head.decode("latin-1").replace("\r\n", "\n")[:-2]
    if text.count("\n") >= MAX_FIELDS or (len(text) > MAX_LINE and max(map(len, text.split("\n"))) > MAX_LINE):
        raise BadHead("too many fields, or too long a line")
    if "\r" in text:  # some take it for the end of a line (RFC 9112 section 2.2)
        raise BadHead("a bare CR")
    if "\n " not in text and "\n\t" not in text:
        return text.split("\n")
    # A value may be folded (RFC 9112 section 5.2), neither the status line nor a name before its colon.
    start_line, _, fields = text.partition("\n")
    lines = fields.split("\n")
    if lines[0].startswith(_BLANKS) or not all(":" in line or line.startswith(_BLANKS) for line in lines):
        raise BadHead("a folded line that continues no value")
    return [start_line, *_FOLD.sub(" ", fields).split("\n")]


def _read_framing(fields: Mapping[str, str], minor: int, bodyless: bool) -> tuple[int | None, bool, bool]:
    """Length, chunked, and whether the connection is kept (RFC 9112 sections 6.3 and 9.3)."""
    options = _members(fields["connection"]) if "connection" in fields else []
    keeps = "close" not in options and (minor > 0 or "keep-alive" in options)
    if bodyless:
        # Who codes a body that is none may send it.
        return 0, False, keeps and "transfer-encoding" not in fields
    if "transfer-encoding" in fields:
        codings = _members(fields["transfer-encoding"])
        if codings == ["chunked"]:
            # A length beside it, or HTTP/1.0, tells of a sender on the way that may see another end of this body.
            return None, True, keeps and minor > 0 and "content-length" not in fields
        if codings != ["identity"]:
            raise BadHead("a transfer coding other than chunked")
    if "content-length" not in fields:
        return None, False, False
    stated = fields["content-length"]
    first, *others = _members(stated) if "," in stated else [stated]
    if not _LENGTH.fullmatch(first) or others.count(first) != len(others):
        raise BadHead("no valid Content-Length")
    return int(first), False, keeps


def _members(value: str) -> list[str]:
    return [member.strip(" \t") for member in value.lower().split(",")]
