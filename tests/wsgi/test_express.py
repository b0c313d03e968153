"""The express: what it passes on is what Plain reads of the same bytes; what it does not is handed back as it came."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from sys import maxsize

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.normalize import Plain, events_of, normalize
from sseproxy.wsgi.relay import Express

pytestmark = pytest.mark.skipif(
    Express is None, reason="missing part: sseproxy/wsgi/express.c is not built (a C compiler)"
)

HEAD = b'{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":'
TAIL = b'},"finish_reason":null}]}'


def event(quoted: bytes) -> bytes:
    return b"data: " + HEAD + quoted + TAIL + b"\n\n"


def chunk(quoted: bytes) -> bytes:
    """An event that is all of an HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(event(quoted)), event(quoted))


class Reads:
    """A stream's Plain, when two chunks of the answer have been."""

    def __init__(self) -> None:
        self.plain = Plain()
        pieces = iter([event(b'"Hello"'), event(b'" world"'), event(b'" and"')])
        events = events_of(pieces, plain=self.plain)
        events = normalize(events, api="chat", model="m", make_id=lambda: "0", now=lambda: 1.0, plain=self.plain)
        while not self.plain.is_ready():
            next(events)
        self._events = events

    def passes(self, data: bytes) -> tuple[int, str]:
        end = self.plain.passes(data, framed=True)
        return end, self.plain.said()[0]


class Line:
    """An express with one stream on it."""

    def __init__(self, room: int = maxsize, client_buffer: int | None = None) -> None:
        assert Express is not None
        self.upstream, self.source = socket.socketpair()
        self.client, self.server_side = socket.socketpair()
        if client_buffer is not None:
            self.server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, client_buffer)
        self.epoll = select.epoll()
        self.epoll.register(self.source, select.EPOLLIN)
        self.express = Express()
        around = Reads().plain.surroundings()
        assert around is not None
        self.express.board(self.source.fileno(), os.dup(self.server_side.fileno()), *around, room)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self.upstream, self.source, self.client, self.server_side, self.epoll):
            each.close()

    def move(self, data: bytes) -> list[tuple[int, bytes, int, int, int]]:
        """Send this, and have it moved; what is left of it."""
        if data:
            self.upstream.sendall(data)
        rests, ready = self.express.move(self.epoll.fileno(), 0.0)
        assert not ready
        return rests

    def said(self) -> str:
        texts, _, _ = self.express.tell(self.source.fileno())
        return "".join(msgspec.json.decode(b"[" + texts[:-1] + b"]"))

    def received(self) -> bytes:
        try:
            return self.client.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


USUAL = st.text(st.characters(exclude_characters='"\\:\x85\u2028\u2029', exclude_categories=["Cs", "Cc"]), min_size=1)
UNUSUAL = (rb"a\nb \" \\ \/ data:\u0020x data: \u00e9 \ud83d\ude00 \ud83d a" + b'"b \x1f \x7f \\ \\x \\u12').split(b" ")
BEYOND_ASCII = [
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf5\x80\x80\x80",
    b"\xe9",
    b"\xf0\x9f\x98",
]
TEXTS = st.one_of(
    USUAL.map(lambda text: b'"%b"' % text.encode()),
    st.sampled_from([*UNUSUAL, *BEYOND_ASCII, b"", b"data: x"]).map(lambda text: b'"%b"' % text),
    st.sampled_from([b'"', b"null", b'"a","b":"c"', b'"a" ']),
)
DAMAGES = st.sampled_from([b"", b"0", b"\r", b"\n", b'"', b"\\", b"\xff", b"d", b"data: ", b"\x00"])


@st.composite
def reads(draw: st.DrawFn) -> bytes:
    data = b"".join(chunk(text) for text in draw(st.lists(TEXTS, min_size=1, max_size=4)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(DAMAGES) + data[at + draw(st.integers(0, 3)) :]
    return data[: draw(st.integers(1, len(data)))] if draw(st.booleans()) and data else data or b"0"


@given(reads())
def test_of_any_bytes_it_passes_on_no_more_than_is_plain_and_hands_back_the_rest(data: bytes) -> None:
    with Line() as line:
        rests = line.move(data)
        passed = rests[0][2] if rests else len(data)

        assert passed <= Reads().passes(data)[0]
        assert (passed, line.said()) == Reads().passes(data[:passed])
        assert line.received() == data[:passed]
        assert [rest[1:] for rest in rests] == ([(data, passed, passed, 0)] if passed < len(data) else [])


@given(st.lists(USUAL, min_size=1, max_size=6))
def test_usual_texts_pass_all_at_once(texts: list[str]) -> None:
    data = b"".join(chunk(msgspec.json.encode(text)) for text in texts)
    with Line() as line:
        assert line.move(data) == []
        assert line.received() == data
        assert line.said() == "".join(texts)


@pytest.mark.parametrize("text", ['a "b" \\ c\n\td\r\b\f', "caf\xe9", "日本語", "\U0001f600", "a: b", "data:x", "\x7f"])
def test_escapes_and_other_scripts_pass(text: str) -> None:
    with Line() as line:
        assert line.move(chunk(msgspec.json.encode(text))) == []
        assert line.said() == text


@pytest.mark.parametrize(
    "data",
    [
        chunk(b'""'),
        chunk(b'"data: x"'),
        chunk(b'"\xe2\x80\xa8"'),
        chunk(b'"\xc2\x85"'),
        chunk(b'"\xed\xa0\x80"'),
        chunk(b'"\xe9"'),
        chunk(b'"a\nb"'),
        chunk(b'"\x1f"'),
        chunk(b'"a"b"'),
        chunk(b'"\\u00e9"'),
        chunk(b'"a\\"'),
        chunk(b"null"),
        chunk(b'"a","b":"c"'),
        chunk(b'"a"').replace(b"\r\n", b"\n", 1),
        chunk(b'"a"').upper(),
        b"0" + chunk(b'"a"'),
        b"0\r\n\r\n",
        b"fffffff\r\n" + chunk(b'"a"'),
        chunk(b'"a"')[:-1],
        event(b'"a"'),
        b": comment\n\n",
    ],
)
def test_what_may_be_anything_else_is_handed_back_untouched(data: bytes) -> None:
    with Line() as line:
        assert [rest[1:] for rest in line.move(data)] == [(data, 0, 0, 0)]
        assert line.received() == b""
        assert line.said() == ""


def test_no_more_text_passes_than_there_is_room_for() -> None:
    words = [chunk(b'"12345"') for _ in range(4)]
    with Line(room=12) as line:
        ((_, data, passed, sent, _),) = line.move(b"".join(words))

        assert (data, passed, sent) == (b"".join(words), len(b"".join(words[:2])), passed)
        assert line.said() == "1234512345"


def test_more_may_be_allowed() -> None:
    with Line(room=5) as line:
        assert line.move(chunk(b'"12345"')) == []
        line.express.allow(line.source.fileno(), 6)

        assert line.move(chunk(b'"123456"')) == []
        assert line.said() == "12345123456"


def test_what_a_slow_client_does_not_take_is_handed_back() -> None:
    data = chunk(b'"' + b"x" * 60_000 + b'"')
    with Line(client_buffer=4096) as line:
        ((_, back, passed, sent, error),) = line.move(data)

        assert (back, passed, error) == (data, len(data), 0)
        assert 0 <= sent < passed
        assert len(line.received()) == sent
        assert line.express.tell(line.source.fileno())[2] == sent


def test_a_client_that_has_left_is_told_of_as_an_error() -> None:
    with Line() as line:
        line.client.close()

        ((_, _, passed, sent, error),) = line.move(chunk(b'"a"'))

        assert (passed > 0, sent, error) == (True, 0, errno.EPIPE)


def test_the_end_of_the_source_is_handed_back_as_nothing() -> None:
    with Line() as line:
        line.upstream.shutdown(socket.SHUT_WR)

        assert line.move(b"") == [(line.source.fileno(), b"", 0, 0, 0)]


def test_a_source_that_cannot_be_read_is_told_of_as_an_error() -> None:
    assert Express is not None
    reading, writing = os.pipe()  # which recv() refuses
    with ExitStack() as stack:
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        epoll = stack.enter_context(select.epoll())
        epoll.register(reading, select.EPOLLIN)
        express = Express()
        express.board(reading, os.dup(writing), b"data: ", b"\n\n\r\n", 1)
        os.write(writing, b"x")

        assert express.move(epoll.fileno(), 0.0) == ([(reading, b"", 0, 0, errno.ENOTSOCK)], [])


def test_other_sockets_and_other_events_are_for_who_asked() -> None:
    with Line() as line, ExitStack() as stack:
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        line.epoll.register(ours, select.EPOLLIN)
        line.epoll.modify(line.source, select.EPOLLIN | select.EPOLLRDHUP)
        theirs.sendall(b"x")
        line.upstream.close()

        rests, ready = line.express.move(line.epoll.fileno(), 0.0)

        assert rests == []
        assert sorted(number for number, _ in ready) == sorted([ours.fileno(), line.source.fileno()])


def test_a_client_is_written_to_by_a_socket_that_is_closed_when_its_stream_leaves() -> None:
    with Line() as line:
        line.server_side.close()  # whoever gets its number now gets nothing of this
        line.move(chunk(b'"a"'))
        assert line.received() == chunk(b'"a"')

        line.express.leave(line.source.fileno())

        assert line.client.recv(1) == b""


def test_a_stream_boards_once_and_leaves_once() -> None:
    with Line() as line:
        number = line.source.fileno()
        with pytest.raises(ValueError, match="already"):
            line.express.board(number, os.dup(line.server_side.fileno()), b"", b"", 0)
        line.express.leave(number)
        with pytest.raises(KeyError):
            line.express.allow(number, 1)
        for ask in (line.express.leave, line.express.tell):
            with pytest.raises(KeyError):
                ask(number)
            with pytest.raises(KeyError):
                ask(1 << 20)


def test_a_wait_for_no_epoll_raises() -> None:
    with Line() as line, pytest.raises(OSError, match="Bad file descriptor"):
        line.express.move(-1, 0.0)


@pytest.fixture(autouse=True)
def no_file_is_left_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before
