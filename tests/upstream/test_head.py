"""upstream/head: heads as http.client reads them (RFC 9112), and refused where it would guess."""

from __future__ import annotations

import http.client
import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.upstream.head import MAX_FIELDS, MAX_LINE, BadHead, ResponseHead, end_of_head, read_head, write_head

NAMES = st.sampled_from(["Content-Type", "X-A", "x-b", "Set-Cookie", "Retry-After", "Server", "X_c.d!"])
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=12)
FOLDED = st.lists(TEXT.map(str.strip).filter(bool), min_size=2, max_size=3).map("\r\n \t".join)
VALUES = TEXT | FOLDED
CONNECTION = st.sampled_from(["close", "keep-alive", "Keep-Alive", "upgrade", "Upgrade, Close", "x, keep-alive"])
CODINGS = st.sampled_from(["chunked", "Chunked", "CHUNKED", "identity"])
METHODS = st.sampled_from(["GET", "POST", "HEAD"])


@st.composite
def fields(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Valid fields, among them those that frame the body."""
    found = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    for name, values in (("Connection", CONNECTION), ("Transfer-Encoding", CODINGS)):
        if draw(st.booleans()):
            found.append((name, draw(values)))
    if draw(st.booleans()):
        found += [("CONTENT-LENGTH", str(draw(st.integers(0, 2**40))))] * draw(st.integers(1, 2))
    return draw(st.permutations(found))


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2"]))
    status = draw(st.sampled_from([200, 204, 206, 304, 400, 429, 503, 999]) | st.integers(200, 999))
    phrase = draw(st.sampled_from(["", " ", " OK", " Not  so\tgood: at all", " caf\xe9"]))
    blank = draw(st.sampled_from([" ", "  ", "\t"]))
    lines = [f"{version}{blank}{status}{phrase}"]
    lines += [f"{name}:{draw(st.sampled_from(['', ' ', chr(9)]))}{value}" for name, value in draw(fields())]
    ends = st.sampled_from(["\r\n", "\r\n", "\n"])
    return "".join(line + draw(ends) for line in [*lines, ""]).encode("latin-1")


class Bytes:
    """A socket, as far as http.client wants one."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read_by_http_client(head: bytes, method: str) -> http.client.HTTPResponse | None:
    socket: Any = Bytes(head)
    response = http.client.HTTPResponse(socket, method=method)
    try:
        response.begin()
    except (http.client.HTTPException, ConnectionError):
        return None
    return response


def unfolded(head: bytes) -> bytes:
    """The head as its recipient is to read it (RFC 9112 section 5.2); http.client leaves line ends in values."""
    start_line, fields = head.split(b"\n", 1)
    return start_line + b"\n" + re.sub(rb"\r?\n[ \t]+", b" ", fields)


def assert_same(mine: ResponseHead, head: bytes, method: str) -> http.client.HTTPResponse:
    theirs = read_by_http_client(unfolded(head), method)
    assert theirs is not None
    assert mine.status == theirs.status
    assert mine.fields == [(name, value.strip(" \t")) for name, value in theirs.getheaders()]
    assert (mine.chunked, mine.length) == (theirs.chunked and theirs.length != 0, theirs.length)
    return theirs


@given(heads(), METHODS)
def test_a_valid_head_is_read_as_http_client_reads_it(head: bytes, method: str) -> None:
    assert end_of_head(head + b"data: x\n\n") == len(head)

    mine = read_head(head, method)
    theirs = assert_same(mine, head, method)
    assert not (mine.keeps and theirs.will_close)


def test_the_same_head_says_another_thing_of_the_body_where_head_was_asked() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert [read_head(head, method).length for method in ("GET", "HEAD", "POST", "HEAD")] == [5, 0, 5, 0]


@given(heads(), st.data())
def test_a_damaged_head_is_refused_or_read_as_http_client_reads_it(head: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(head) - 4))
    damage = data.draw(st.sampled_from([b"", b":", b",", b";", b"-", b"+", b"7", b"_", b"\xb2", b"x", b"\n"]))
    head = head[:at] + damage + head[at + data.draw(st.integers(0, 1)) :]
    end = end_of_head(head)
    if end is None:
        return
    try:
        mine = read_head(head[:end], "GET")
    except BadHead:
        return
    # Where it guesses (RFC 9112 sections 5.1 and 6.3) http.client is no measure.
    lengths = [value for name, value in mine.fields if name.lower() == "content-length"]
    names = [name for name, _ in mine.fields]
    if all(re.fullmatch("[!-9;-~]+", name) for name in names) and len(set(lengths)) < 2 and "," not in "".join(lengths):
        assert_same(mine, head[:end], "GET")


@given(heads(), st.lists(st.integers(1, 20), max_size=30))
def test_the_end_is_found_wherever_reads_are_cut(head: bytes, sizes: list[int]) -> None:
    seen = 0
    for size in sizes:
        known = min(len(head) - 1, seen + size)
        assert end_of_head(head[:known], seen) is None
        seen = known

    assert end_of_head(head, seen) == len(head)


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n : here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n X: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\rY: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 19 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * MAX_FIELDS + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_LINE + b"\r\n\r\n",
    ],
)
def test_what_cannot_be_framed_for_certain_is_refused(head: bytes) -> None:
    with pytest.raises(BadHead):
        read_head(head, "GET")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fields_and_lines_are_as_many_and_as_long_as_in_http_client(method: str) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * (MAX_FIELDS - 1) + b"\r\n"
    assert_same(read_head(head, method), head, method)

    head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_LINE - 5) + b"\r\n\r\n"
    assert_same(read_head(head, method), head, method)


@pytest.mark.parametrize(
    "endless",
    [b"HTTP/1.1 200 OK\r\n" * (MAX_FIELDS + 1), b"x" * (MAX_LINE + 1), (b"x" * (MAX_LINE - 2) + b"\r\n") * 5],
)
def test_a_head_without_an_end_is_refused_before_all_memory_is_gone(endless: bytes) -> None:
    with pytest.raises(BadHead):
        end_of_head(endless)


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (5, False, True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", (5, False, True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n", (5, False, True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: X, close\r\n\r\n", (5, False, False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x\r\nConnection: close\r\n\r\n", (5, False, False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: unclosed\r\n\r\n", (5, False, True)),
        (b"HTTP/1.1 200 OK\r\n\r\n", (None, False, False)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", (None, True, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n", (None, True, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", (None, True, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", (None, True, False)),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", (None, True, False)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", (5, False, False)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", (5, False, True)),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", (0, False, True)),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", (0, False, False)),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", (0, False, False)),
    ],
)
def test_the_end_of_the_body_and_of_the_connection(head: bytes, framing: tuple[int | None, bool, bool]) -> None:
    assert read_head(head, "GET")[2:] == framing


@given(
    st.dictionaries(st.text(max_size=4), st.text(st.characters(max_codepoint=0x100), max_size=6), max_size=4),
    st.sampled_from(["GET", "M-SEARCH", "G T", "GET\r\n", ""]),
)
def test_what_is_written_is_what_was_meant_or_nothing(fields: dict[str, str], method: str) -> None:
    try:
        written = write_head(method, "/v1/a?b=1", fields)
    except ValueError:
        return
    start, _, rest = written.partition(b"\r\n")
    lines = rest.removesuffix(b"\r\n").split(b"\r\n")[:-1]

    assert start == f"{method} /v1/a?b=1 HTTP/1.1".encode()
    assert [line.decode("latin-1") for line in lines] == [f"{name}: {value}" for name, value in fields.items()]
    assert all(name.isascii() and ":" not in name and " " not in name for name in fields)


@pytest.mark.parametrize("value", ["a\r\nCookie: b", "a\nb", "a\rb", "a\0", "\u0100"])
def test_a_value_of_more_than_one_line_is_not_written(value: str) -> None:
    with pytest.raises(ValueError):
        write_head("GET", "/", {"x-a": value})


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "authorization ", "\xe9"])
def test_a_name_that_is_none_is_not_written(name: str) -> None:
    with pytest.raises(ValueError):
        write_head("GET", "/", {"x-a": "1", name: "1"})
