"""The express: what it passes on is what Plain reads of the same bytes; what it does not is handed back as it came."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from math import inf
from sys import maxsize
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.normalize import Plain, events_of, normalize
from sseproxy.wsgi.relay import Express
from tests.harness import wait_until

if TYPE_CHECKING:
    from sseproxy.wsgi.express import Seat

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


class Ending(NamedTuple):
    """What a stream has come to when it is over."""

    texts: str
    times: list[float]
    sent: int
    has_left: bool
    rest: tuple[bytes, int, int, int] | None


class Line:
    """An express with one stream on it."""

    def __init__(
        self, room: int = maxsize, *, client_buffer: int | None = None, patience: float = inf, unlike: bytes = b""
    ) -> None:
        assert Express is not None
        self.upstream, self.source = socket.socketpair()
        self.client, self.server_side = socket.socketpair()
        if client_buffer is not None:
            self.server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, client_buffer)
        self.express = Express()
        self.room = room
        self.seat = self.board(self.source.fileno(), room, patience, unlike)

    def board(self, source: int, room: int = maxsize, patience: float = inf, unlike: bytes = b"") -> Seat:
        opening, ending, _ = Reads().plain.surroundings()
        return self.express.board(source, self.server_side.fileno(), opening, ending, unlike, room, patience)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.express.close()
        for each in (self.upstream, self.source, self.client, self.server_side):
            each.close()
        del self.express, self.seat  # whoever keeps a frame of the test, as Hypothesis does, keeps none of their files

    def look(self) -> str:
        """What has been said since this was asked last, of a stream that is not over."""
        texts, _, _, is_over, _, _ = self.seat.wait(self.room, 0.0)
        assert not is_over
        return said(texts)

    def ending(self) -> Ending:
        """Wait until it is over."""
        texts, times, sent, is_over, has_left, rest = self.seat.wait(self.room, inf)
        assert is_over
        return Ending(said(texts), times, sent, has_left, rest)

    def move(self, data: bytes) -> Ending:
        """Send this and something that is not plain, have it moved, and wait until that is over."""
        self.upstream.sendall(data)
        self.upstream.shutdown(socket.SHUT_WR)
        return self.ending()

    def received(self) -> bytes:
        try:
            return self.client.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


def said(texts: bytes) -> str:
    return "".join(msgspec.json.decode(b"[" + texts[:-1] + b"]"))


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
        ending = line.move(data)
        assert ending.rest is not None
        back, passed, sent, error = ending.rest
        passed = passed if back else len(data)  # else all of it was moved, and what is handed back is the end

        assert passed <= Reads().passes(data)[0]
        assert (passed, ending.texts) == Reads().passes(data[:passed])
        assert line.received() == data[:passed]
        assert ending.sent == passed
        assert (back, sent, error) == ((data, passed, 0) if passed < len(data) else (b"", 0, 0))


@given(st.lists(USUAL, min_size=1, max_size=6))
def test_usual_texts_pass_all_at_once(texts: list[str]) -> None:
    data = b"".join(chunk(msgspec.json.encode(text)) for text in texts)
    with Line() as line:
        ending = line.move(data)

        assert ending.rest == (b"", 0, 0, 0)
        assert line.received() == data
        assert ending.texts == "".join(texts)
        assert len(ending.times) == 1


@pytest.mark.parametrize("text", [b'"Hello there"', b'"Hello"'])
def test_a_text_that_begins_like_the_one_before_is_handed_back(text: bytes) -> None:
    with Line(unlike=b'"Hello') as line:
        assert line.move(chunk(text) + chunk(b'" you"')).rest == (chunk(text) + chunk(b'" you"'), 0, 0, 0)
        assert line.received() == b""


def test_only_the_first_text_is_compared_with_the_one_before() -> None:
    data = chunk(b'"Hell"') + chunk(b'"Hello there"')
    with Line(unlike=b'"Hello') as line:
        assert line.move(data).texts == "HellHello there"
        assert line.received() == data


@pytest.mark.parametrize("text", ['a "b" \\ c\n\td\r\b\f', "caf\xe9", "日本語", "\U0001f600", "a: b", "data:x", "\x7f"])
def test_escapes_and_other_scripts_pass(text: str) -> None:
    with Line() as line:
        assert line.move(chunk(msgspec.json.encode(text))).texts == text


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
        line.upstream.sendall(data)

        assert line.ending() == ("", [], 0, False, (data, 0, 0, 0))
        assert line.received() == b""


def test_no_more_text_passes_than_there_is_room_for() -> None:
    words = [chunk(b'"12345"') for _ in range(4)]
    with Line(room=12) as line:
        ending = line.move(b"".join(words))

        assert ending.rest == (b"".join(words), len(b"".join(words[:2])), len(b"".join(words[:2])), 0)
        assert ending.texts == "1234512345"


def test_it_goes_on_while_the_streams_thread_looks_up() -> None:
    words = [chunk(b'"one"'), chunk(b'" two"'), chunk(b'" three"')]
    with Line() as line:
        heard = []
        for word in words:
            line.upstream.sendall(word)
            assert line.client.recv(1 << 20) == word
            heard.append(line.look())

        assert heard == ["one", " two", " three"]


def test_more_may_be_allowed() -> None:
    with Line(room=5) as line:
        line.upstream.sendall(chunk(b'"12345"'))
        line.client.recv(1 << 20)
        line.look()
        line.room = 6
        line.look()

        assert line.move(chunk(b'"123456"')).texts == "123456"


def test_what_has_passed_but_was_not_told_is_off_the_room() -> None:
    with Line() as line:
        line.room = 5
        line.look()
        line.upstream.sendall(chunk(b'"12345"'))
        line.client.recv(1 << 20)

        assert line.move(chunk(b'"1"')).rest == (chunk(b'"1"'), 0, 0, 0)


def test_what_a_slow_client_does_not_take_is_handed_back() -> None:
    data = chunk(b'"' + b"x" * 60_000 + b'"')
    with Line(client_buffer=4096) as line:
        line.upstream.sendall(data)
        ending = line.ending()

        assert ending.rest == (data, len(data), ending.sent, 0)
        assert 0 <= ending.sent < len(data)
        assert len(line.received()) == ending.sent


def test_a_client_that_closes_is_told_of() -> None:
    with Line() as line:
        line.client.shutdown(socket.SHUT_WR)

        assert line.ending() == ("", [], 0, True, None)


def test_a_client_that_cannot_be_written_to_is_told_of_as_an_error() -> None:
    with Line() as line:
        line.server_side.shutdown(socket.SHUT_WR)
        line.upstream.sendall(chunk(b'"a"'))
        ending = line.ending()

        assert ending.has_left or ending.rest == (chunk(b'"a"'), len(chunk(b'"a"')), 0, errno.EPIPE)
        assert line.received() == b""


def test_the_end_of_the_source_is_handed_back_as_nothing() -> None:
    with Line() as line:
        line.upstream.shutdown(socket.SHUT_WR)

        assert line.ending() == ("", [], 0, False, (b"", 0, 0, 0))


def test_a_source_that_cannot_be_read_is_told_of_as_an_error() -> None:
    reading, writing = os.pipe()  # which recv() refuses
    with Line() as line, ExitStack() as stack:
        for number in (reading, writing):
            stack.callback(os.close, number)
        line.express.wake(line.source.fileno())
        line.seat = line.board(reading)
        os.write(writing, b"x")

        assert line.ending().rest == (b"", 0, 0, errno.ENOTSOCK)


def test_after_so_long_a_silence_it_is_over() -> None:
    with Line(patience=0.1) as line:
        assert line.ending() == ("", [], 0, False, None)


def test_what_came_while_the_thread_stood_still_is_no_silence() -> None:
    program = """
import os, signal, socket
from sseproxy.wsgi.express import Express
pairs = [(*socket.socketpair(), *socket.socketpair()) for _ in range(400)]
express = Express()
seats = [express.board(up[1].fileno(), up[2].fileno(), b"<", b">\\n\\n\\r\\n", b"", 99, 0.2) for up in pairs]
print(flush=True)
input()
for up in pairs:
    up[0].sendall(b"7\\r\\n<\\"a\\">\\n\\n\\r\\n")
    up[0].shutdown(socket.SHUT_WR)
os.kill(os.getpid(), signal.SIGSTOP)
print(sum(seat.wait(99, float("inf"))[0] == b'"a",' for seat in seats))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        child.stdin.write("\n")
        child.stdin.flush()
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        threading.Event().wait(0.5)  # longer than the patience
        child.send_signal(signal.SIGCONT)

        assert child.stdout.readline() == "400\n"


@pytest.mark.parametrize("how", ["wake", "close"])
def test_it_may_be_ended_from_elsewhere_and_moves_nothing_after_that(how: str) -> None:
    with Line() as line:
        line.upstream.sendall(chunk(b'"a"'))
        line.client.recv(1 << 20)
        line.express.wake(line.source.fileno()) if how == "wake" else line.express.close()
        line.upstream.sendall(chunk(b'"b"'))

        assert [line.ending().texts, line.ending().texts] == ["a", ""]  # it stays so
        assert line.ending().rest is None
        assert line.received() == b""


def test_a_stream_whose_seat_nobody_knows_any_more_has_left() -> None:
    with Line() as line:
        del line.seat
        line.upstream.sendall(chunk(b'"a"'))
        line.seat = line.board(line.source.fileno())

        assert line.move(b"").texts == "a"


def test_many_streams_are_moved_side_by_side() -> None:
    with Line() as line, ExitStack() as stack:
        lines = []
        for _ in range(300):
            pairs = (*socket.socketpair(), *socket.socketpair())
            for end in pairs:
                stack.enter_context(end)
            around = Reads().plain.surroundings() if not lines else lines[0][1]
            seat = line.express.board(pairs[1].fileno(), pairs[2].fileno(), *around, maxsize, inf)
            lines.append((pairs, around, seat))
        for number, (pairs, _, _) in enumerate(lines):
            pairs[0].sendall(chunk(b'"%d"' % number))
            pairs[0].shutdown(socket.SHUT_WR)
        for number, (pairs, _, seat) in enumerate(lines):
            assert said(seat.wait(maxsize, inf)[0]) == str(number)
            assert pairs[3].recv(1 << 20) == chunk(b'"%d"' % number)


def test_a_stream_boards_once() -> None:
    with Line() as line, pytest.raises(FileExistsError):
        line.board(line.source.fileno())


def test_nobody_boards_where_it_is_closed_or_where_there_is_no_socket() -> None:
    with Line() as line:
        with pytest.raises(OSError, match="Bad file descriptor"):
            line.board(-1)
        line.express.close()
        with pytest.raises(OSError, match="canceled"):
            line.board(line.upstream.fileno())


def test_a_seat_is_got_from_an_express_alone() -> None:
    with Line() as line, pytest.raises(TypeError):
        type(line.seat)()


@pytest.fixture(autouse=True)
def no_file_is_left_open() -> Iterator[None]:
    before = open_files()
    yield
    gc.collect()  # an express closes its own with itself
    wait_until(lambda: len(open_files()) <= len(before), 5, lambda: f"{open_files()}, before: {before}")


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for entry in os.scandir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself, or another thread's
            found.append(os.readlink(entry.path))
    return found
