"""The relay: what rides comes out as what is iterated, and everything that is not plain goes back to its own thread."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sseproxy.core.normalize import Plain, events_of, normalize
from sseproxy.core.sse import Event
from sseproxy.server.writers import SocketWriter
from sseproxy.upstream.body import BEGINNING, UpstreamBody
from sseproxy.upstream.chunked import ChunkedDecoder
from sseproxy.upstream.connection import Connection
from sseproxy.upstream.head import ResponseHead
from sseproxy.upstream.kept import Connections
from sseproxy.wsgi.relay import Express, Relay
from sseproxy.wsgi.ride import RELAY_KEY, Ride, board
from sseproxy.wsgi.stream import EventStream
from tests.harness import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="missing part: epoll (Linux)")
built = pytest.mark.skipif(Express is None, reason="missing part: sseproxy/wsgi/express.c is not built (a C compiler)")


def chunk(text: str, finish: str = "null") -> bytes:
    return (
        b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"content":%b},"finish_reason":%b}]}\n\n' % (text.encode().join([b'"', b'"']), finish.encode())
    )


FIRST = chunk("Hello")
LAST = [chunk("", '"stop"'), b"data: [DONE]\n\n"]


def normal(events: Iterator[Event], plain: Plain | None = None) -> Iterator[Event]:
    return normalize(events, api="chat", model="m", make_id=lambda: "0", now=lambda: 1.0, plain=plain)


def plain(pieces: Sequence[bytes]) -> bytes:
    """What iteration makes of a body."""
    return b"".join(EventStream(events_of(iter(pieces))).pipe(normal))


def text(events: Iterable[Event]) -> str:
    """What the answer says."""
    return "".join(event.content for event in events)


class Trip:
    """A stream between two real connections, iterated by a thread as a server would.

    :param room: tokens after which to wait; None: never.
    """

    def __init__(
        self,
        relay: Relay | None,
        *,
        chunked: bool = False,
        framed: bool = False,
        client_buffer: int | None = None,
        lane: bool = False,
        deadline: float = float("inf"),
        come: Sequence[bytes] = (),
        all_come: bool = False,
        room: int | None = None,
    ) -> None:
        self._relay = relay
        self.upstream, ours = socket.socketpair()
        self.inner = ours
        self.client, theirs = socket.socketpair()
        if client_buffer is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, client_buffer)
        self.response = SimpleNamespace(chunked=chunked, headers_sent=True, sent=0)
        head = ResponseHead(200, [], None, framed, False)
        connections = Connections(lambda: ours, 0)
        with_head = b"".join(map(in_chunk, come) if framed else come) + (b"0\r\n\r\n" if framed and all_come else b"")
        body = UpstreamBody(Connection(ours), head, with_head, connections, idle=20, deadline=deadline)
        plain = Plain()
        self.stream = EventStream(events_of(body, plain=plain)).pipe(self._watched).pipe(partial(normal, plain=plain))
        if lane:
            self.stream.open_lane(plain)
        self.heard: list[str] = []
        self.times: list[float] = []
        self.stream.pipe(self._listen, self._hear)
        if room is not None:
            self.stream.limit(lambda: max(0, self._look_at - self._tokens))
        self._each = room
        self._tokens, self._look_at = 0, room or 0
        self.waited: list[str] = []  # names of the threads that had to
        self.stream.on_close(body.close)
        self.threads: list[str] = []
        self.writer = SocketWriter(theirs, self.response)
        environ = {} if relay is None else {RELAY_KEY: partial(Ride, relay, self.writer)}
        board(self.stream, body, environ, plain.is_uncompressed)
        self.error: BaseException | None = None
        self.when_failed: Callable[[], object] = lambda: None
        self._theirs = theirs
        self._frame: Callable[[bytes], bytes] = in_chunk if chunked else bytes
        self._framed = framed
        self._worker = threading.Thread(target=self._serve, daemon=True)
        self._received: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Trip:
        self._worker.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self.upstream, self.client, self._theirs, self.inner):
            each.close()

    def _watched(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event.type != "flush":
                self.threads.append(threading.current_thread().name)
            yield event

    def _listen(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event.content:
                self.heard.append(event.content)
                self._count(event.content)
            yield event

    def _hear(self, content: str, hidden: str, times: Sequence[float]) -> None:
        self.heard.append(content)
        self.times += times
        self._count(content)

    def _count(self, content: str) -> None:
        self._tokens += len(content.encode())
        if self._each is not None and self._tokens > self._look_at:
            self._look_at = self._tokens + self._each
            self.waited.append(threading.current_thread().name)

    def _serve(self) -> None:
        try:
            for piece in self.stream:
                if piece:
                    self._theirs.sendall(self._frame(piece))
        except BaseException as error:
            self.error = error
            self.when_failed()  # while the failure, and with it its traceback, is there
        finally:
            self.stream.close()
            self._theirs.close()

    def send(self, piece: bytes) -> None:
        """Send a piece, and wait until it was read."""
        with suppress(BrokenPipeError):  # the stream has ended
            self.upstream.sendall(in_chunk(piece) if self._framed else piece)
        wait_until(lambda: self._worker.is_alive() is False or unread(self.inner) == 0)

    def wait_for_ride(self) -> None:
        """Wait until the stream is on the relay."""
        wait_until(lambda: self._relay is not None and self.stream.ride in self._relay._rides)

    def finish(self) -> None:
        """Close the upstream's side."""
        with suppress(OSError):
            if self._framed:
                self.upstream.sendall(b"0\r\n\r\n")
            self.upstream.shutdown(socket.SHUT_WR)

    def read(self) -> None:
        """Begin to read as a client."""
        self._reader.start()

    def _read(self) -> None:
        while data := self.client.recv(65536):
            self._received.append(data)

    def received(self) -> bytes:
        """All that the client got, when the stream has ended."""
        self._worker.join(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._worker.is_alive()
        return b"".join(self._received)


def in_chunk(piece: bytes) -> bytes:
    """As one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def unread(connection: socket.socket) -> int:
    """Bytes that have come and were not read."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0])
    except (OSError, ValueError):  # closed
        return 0


@pytest.fixture(params=[pytest.param(True, marks=built), False], ids=["express", "python"])
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    made = Relay(express=request.param)
    yield made
    made.close()


def through(
    relay: Relay | None, pieces: Sequence[bytes], *, riding: bool = False, at_once: int = 0, **options: Any
) -> tuple[bytes, Trip]:
    """What a client gets of these pieces, sent one after the other, and then the end of the connection.

    :param riding: the second piece is for the relay.
    :param at_once: how many of them come with the head.
    """
    with Trip(relay, come=pieces[:at_once], all_come=at_once == len(pieces), **options) as trip:
        trip.read()
        for number, piece in enumerate(pieces[at_once:]):
            if number == 1 and riding:
                trip.wait_for_ride()
            trip.send(piece)
        trip.finish()
        return trip.received(), trip


def test_the_middle_of_a_stream_is_moved_by_the_relay_and_its_end_by_its_own_thread(relay: Relay) -> None:
    pieces = [FIRST, *[chunk(f" w{number}") for number in range(20)], *LAST]

    got, trip = through(relay, pieces, riding=True)

    assert got == plain(pieces)
    assert set(trip.threads[2:-2]) == {"sseproxy-relay"}
    assert trip.threads[-1] != "sseproxy-relay"
    assert trip.response.sent > 0


def test_without_a_thread_for_the_relay_a_stream_goes_on_in_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "sseproxy-relay":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", none_left)
    pieces = [FIRST, *[chunk(f" w{number}") for number in range(5)], *LAST]
    with closing(Relay(express=False)) as relay:
        got, trip = through(relay, pieces)

    assert got == plain(pieces)
    assert "sseproxy-relay" not in trip.threads


def test_pieces_are_framed_as_the_server_has_said_in_its_head(relay: Relay) -> None:
    pieces = [FIRST, *[chunk(f" w{number}") for number in range(5)], *LAST]

    got, _ = through(relay, pieces, chunked=True)

    assert ChunkedDecoder().feed(got) == plain(pieces)


_EVENTS = st.one_of(
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=12).map(chunk),
    st.sampled_from(
        [
            b": comment\n\n",
            b"data: {broken\n\n",
            b'data: {"error":{"message":"no","type":"t"}}\n\n',
            b"event: ping\ndata: {}\n\n",
            b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f",'
            b'"arguments":"{}"}}]}}]}\n\n',
            b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n',
            *LAST,
        ]
    ),
    st.binary(max_size=20),
)


@given(
    st.lists(_EVENTS, max_size=12).map(b"".join),
    st.lists(st.integers(1, 400), max_size=12),
    st.fixed_dictionaries(
        {"lane": st.booleans(), "framed": st.booleans(), "chunked": st.booleans()},
        optional={"room": st.integers(1, 100)},
    ),
    st.booleans(),
    st.sampled_from([0, 1, 20, 25, 1000]),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_what_rides_is_what_iteration_makes_of_any_bytes(
    relay: Relay, data: bytes, cuts: list[int], ways: dict[str, bool], rides: bool, at_once: int
) -> None:
    # More of them than are handed out first of what has come with the head, and perhaps all there is.
    words = [chunk(f" w{number}") for number in range(max(1, min(at_once, 25)))]
    pieces = [FIRST, *words, *pieces_of(data, cuts)]

    got, trip = through(relay if rides else None, pieces, at_once=min(at_once, len(pieces)), **ways)

    assert (ChunkedDecoder().feed(got) if ways["chunked"] else got) == plain(pieces)
    assert "".join(trip.heard) == text(normal(events_of(iter(pieces))))
    assert "sseproxy-relay" not in trip.waited


@pytest.mark.parametrize("ways", [{}, {"framed": True}, {"chunked": True}, {"framed": True, "chunked": True}])
def test_plain_reads_go_around_the_iterator_and_transforms_hear_of_them(relay: Relay, ways: dict[str, bool]) -> None:
    words = [chunk(f" w{number}") for number in range(20)]
    pieces = [FIRST, *words[:10], b"".join(words[10:]), *LAST]

    got, trip = through(relay, pieces, lane=True, **ways)

    assert (ChunkedDecoder().feed(got) if "chunked" in ways else got) == plain(pieces)
    assert "".join(trip.heard) == "Hello" + "".join(f" w{number}" for number in range(20))
    assert len(trip.threads) == len([FIRST, words[0], *LAST])
    assert len(trip.times) == len([*words[1:10], words[10:]])


@pytest.mark.parametrize("rides", [True, False])
@pytest.mark.parametrize("without", [0, len(LAST)], ids=["all", "not the end"])
def test_what_has_come_with_the_head_goes_around_the_iterator_once_it_is_known_to_be_plain(
    relay: Relay, rides: bool, without: int
) -> None:
    words = [chunk(f" w{number}") for number in range(100)]
    pieces = [FIRST, *words, *LAST]

    got, trip = through(
        relay if rides else None, pieces, lane=True, framed=True, chunked=True, at_once=len(pieces) - without
    )

    assert ChunkedDecoder().feed(got) == plain(pieces)
    assert "".join(trip.heard) == "Hello" + "".join(f" w{number}" for number in range(100))
    assert len(trip.threads) == BEGINNING + len(LAST)


def test_transforms_hear_of_what_passes_while_it_goes_on(relay: Relay) -> None:
    with Trip(relay, lane=True, framed=True, chunked=True) as trip:
        trip.read()
        for piece in (FIRST, chunk(" one"), chunk(" two"), chunk(" three")):
            trip.send(piece)
        wait_until(lambda: trip.send(chunk(" more")) or "".join(trip.heard).count(" more") > 1)

        assert len(trip.threads) <= 3
        for piece in LAST:
            trip.send(piece)
        trip.finish()
        trip.received()


def test_what_came_with_the_last_text_is_there_to_be_read_on_when_the_client_has_left(relay: Relay) -> None:
    trip = Trip(relay, lane=True, framed=True, chunked=True)
    left: list[bytes] = []

    def read_on() -> None:
        for event in trip.stream._events:
            left.append(event.data)
            if event.data == b"[DONE]":
                return

    trip.when_failed = read_on
    with trip:
        for piece in (FIRST, chunk(" one"), chunk(" two"), chunk(" three")):
            trip.send(piece)
        wait_until(lambda: b" three" in trip.client.recv(65536, socket.MSG_PEEK))
        trip.writer._socket.shutdown(socket.SHUT_WR)  # as a client that has left, but nobody hears of it
        trip.upstream.sendall(b"".join(map(in_chunk, [chunk(" four"), *LAST])) + b"0\r\n\r\n")
        trip._worker.join(20)

        assert isinstance(trip.error, BrokenPipeError)
        assert left[-1] == b"[DONE]"


def test_after_a_failure_nothing_is_moved_any_more(relay: Relay) -> None:
    trip = Trip(relay, lane=True, framed=True, chunked=True)
    fails = threading.Event()

    def fail(content: str, hidden: str, times: Sequence[float]) -> None:
        if fails.is_set():
            raise RuntimeError("as expected")

    def look() -> None:
        unread_before = len(trip.client.recv(65536, socket.MSG_PEEK))
        trip.upstream.sendall(in_chunk(chunk(" after it")))
        wait_until(lambda: unread(trip.inner) > 0)
        kept.append((unread(trip.inner), len(trip.client.recv(65536, socket.MSG_PEEK)) - unread_before))

    kept: list[tuple[int, int]] = []
    trip.stream.pipe(lambda events: events, fail)
    trip.when_failed = look
    with trip:
        for piece in (FIRST, chunk(" one"), chunk(" two")):
            trip.send(piece)
        wait_until(lambda: b" two" in trip.client.recv(65536, socket.MSG_PEEK))
        fails.set()
        trip.send(chunk(" three"))
        trip._worker.join(20)

        assert isinstance(trip.error, RuntimeError)
        assert kept == [(len(in_chunk(chunk(" after it"))), 0)]


@pytest.mark.parametrize("ways", [{}, {"lane": True, "framed": True, "chunked": True}])
def test_a_server_that_closes_the_connection_is_heard_of_at_once(relay: Relay, ways: dict[str, bool]) -> None:
    trip = Trip(relay, **ways)
    closed: list[Callable[[], object] | None] = []
    trip.writer.when_closed = closed.append  # type: ignore[method-assign]
    left = threading.Event()
    trip.stream.gone = left.is_set
    with trip:
        trip.read()
        for piece in (FIRST, chunk(" one"), chunk(" two")):
            trip.send(piece)
        wait_until(lambda: b" two" in b"".join(trip._received))
        left.set()
        next(filter(None, closed))()
        trip.received()

        assert isinstance(trip.error, BrokenPipeError)
        assert "".join(trip.heard) == "Hello one two"


def test_plain_reads_go_around_the_iterator_without_a_relay_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproxy.wsgi.lane.TURN", PATIENCE)
    words = [chunk(f" w{number}") for number in range(20)]
    pieces = [FIRST, *words[:10], b"".join(words[10:]), *LAST]

    got, trip = through(None, pieces, lane=True)

    assert got == plain(pieces)
    assert "".join(trip.heard) == "Hello" + "".join(f" w{number}" for number in range(20))
    assert len(trip.threads) == len([FIRST, words[0], *LAST])


def test_transforms_have_their_turn_without_a_relay_too() -> None:
    with Trip(None, lane=True) as trip:
        trip.read()
        for piece in (FIRST, chunk(" one"), chunk(" two")):
            trip.send(piece)
        begun = len(trip.threads)
        wait_until(lambda: trip.send(chunk(" more")) or len(trip.threads) > begun)
        trip.finish()
        trip.received()

    assert len(trip.threads) < len(trip.heard)


def test_what_passed_by_is_told_of_when_the_stream_is_closed() -> None:
    with Trip(None, lane=True) as trip:
        for piece in (FIRST, chunk(" one"), chunk(" two")):
            trip.send(piece)
        wait_until(lambda: b" two" in trip.client.recv(65536, socket.MSG_PEEK))
        trip.client.close()
        wait_until(lambda: trip.send(chunk(" more")) or not trip._worker.is_alive())

    assert "".join(trip.heard).startswith("Hello one two more")


def test_silence_is_heard_of_without_a_relay_too() -> None:
    with Trip(None, lane=True) as trip:
        trip.stream.keepalive = 0.1
        trip.read()
        for piece in (FIRST, chunk(" one"), chunk(" two")):
            trip.send(piece)
        wait_until(lambda: b": ping" in b"".join(trip._received))
        for piece in LAST:
            trip.send(piece)
        trip.finish()
        trip.received()


@pytest.mark.parametrize("ways", [{}, {"framed": True, "chunked": True}])
def test_an_answer_that_flows_is_ended_when_it_has_taken_too_long(relay: Relay, ways: dict[str, bool]) -> None:
    with Trip(relay, lane=True, deadline=monotonic() + 1, **ways) as trip:
        trip.read()
        trip.send(FIRST)
        wait_until(lambda: trip.send(chunk(" more")) or not trip._worker.is_alive())

        assert b"upstream_total_timeout" in trip.received()


def test_a_transform_that_must_get_all_events_gets_them(relay: Relay) -> None:
    seen: list[Event] = []

    def watch(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            seen.append(event)
            yield event

    trip = Trip(relay, lane=True)
    trip.stream.pipe(watch)
    with trip:
        trip.read()
        for piece in (FIRST, chunk(" a"), chunk(" b"), *LAST):
            trip.send(piece)
        trip.finish()
        trip.received()

    assert text(seen) == "Hello a b"


def pieces_of(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(data[:length])
        data = data[length:]
    return [piece for piece in [*pieces, data] if piece]


def test_an_upstream_that_breaks_off_is_told_by_the_streams_own_thread(relay: Relay) -> None:
    pieces = [FIRST, chunk(" world"), chunk(" and")]

    got, _ = through(relay, pieces)

    assert got == plain(pieces)
    assert b"error" in got


def test_a_client_that_leaves_ends_the_ride_at_once(relay: Relay) -> None:
    with Trip(relay) as trip:
        trip.stream.gone = lambda: True
        trip.send(FIRST)
        assert trip.client.recv(65536)
        trip.client.close()
        trip._worker.join(PATIENCE)

        assert isinstance(trip.error, BrokenPipeError)


def test_a_client_that_reads_slowly_holds_up_its_own_upstream_and_gets_all(relay: Relay) -> None:
    pieces = [FIRST, *[chunk("word " * 3000) for _ in range(40)], *LAST]
    with Trip(relay, client_buffer=4096) as slow:
        sender = threading.Thread(target=slow.upstream.sendall, args=(b"".join(pieces),), daemon=True)
        sender.start()
        other, _ = through(relay, [FIRST, chunk(" other"), *LAST])  # nobody else waits for it
        assert other == plain([FIRST, chunk(" other"), *LAST])
        assert sender.is_alive()
        slow.read()
        sender.join(PATIENCE)
        slow.finish()

        assert slow.received() == plain(pieces)


def test_work_that_may_have_to_wait_is_done_by_the_streams_own_thread(relay: Relay) -> None:
    pieces = [FIRST, *[chunk(" word" * 10) for _ in range(20)], *LAST]

    got, trip = through(relay, pieces, riding=True, room=400)

    assert got == plain(pieces)
    assert "".join(trip.heard) == text(normal(events_of(iter(pieces))))
    assert "sseproxy-relay" in trip.threads
    assert trip.waited
    assert "sseproxy-relay" not in trip.waited


@pytest.mark.parametrize("ways", [{}, {"framed": True}, {"framed": True, "chunked": True}])
@pytest.mark.parametrize("rides", [True, False])
def test_of_a_read_beyond_the_room_all_but_one_event_a_time_goes_around_the_iterator(
    relay: Relay, rides: bool, ways: dict[str, bool]
) -> None:
    words = [chunk(f" w{number:02}") for number in range(60)]
    pieces = [FIRST, words[0], b"".join(words[1:]), *LAST]

    got, trip = through(relay if rides else None, pieces, lane=True, room=40, **ways)

    assert (ChunkedDecoder().feed(got) if "chunked" in ways else got) == plain(pieces)
    assert "".join(trip.heard) == "Hello" + "".join(f" w{number:02}" for number in range(60))
    assert len(trip.waited) == len("Hello" + " w00" * 60) // (40 + len(" w00"))
    assert len(trip.threads) == len([FIRST, words[0], *LAST]) + len(trip.waited)


def test_a_failure_in_a_transform_reaches_the_streams_own_thread(relay: Relay) -> None:
    def fail(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if b"two" in event.data:
                raise RuntimeError("as expected")
            yield event

    trip = Trip(relay)
    trip.stream.pipe(fail)
    with trip:
        trip.read()
        for piece in (FIRST, chunk(" one"), chunk(" two")):
            trip.send(piece)
        trip.received()

        assert isinstance(trip.error, RuntimeError)


def test_a_relay_that_closes_gives_its_rides_back() -> None:
    relay = Relay()
    pieces = [FIRST, chunk(" one"), *LAST]
    with Trip(relay) as trip:
        trip.read()
        for piece in pieces[:2]:
            trip.send(piece)
        relay.close()
        for piece in pieces[2:]:
            trip.send(piece)
        trip.finish()

        assert trip.received() == plain(pieces)


def test_a_client_that_only_closes_its_writing_side_gets_the_whole_answer(relay: Relay) -> None:
    pieces = [FIRST, *[chunk(f" w{number}") for number in range(20)], *LAST]
    with Trip(relay) as trip:
        trip.read()
        trip.send(pieces[0])
        trip.client.shutdown(socket.SHUT_WR)
        for piece in pieces[1:]:
            trip.send(piece)
        trip.finish()

        assert trip.received() == plain(pieces)


def test_clients_that_close_at_any_moment_do_not_harm_the_relay(relay: Relay) -> None:
    for number in range(60):
        with Trip(relay) as trip:
            trip.stream.gone = lambda: True
            if number % 2:
                trip.client.shutdown(socket.SHUT_WR)
            trip.send(FIRST)
            trip.client.close()
            trip.send(chunk(" more"))
            trip.finish()
            trip._worker.join(PATIENCE)
            assert not trip._worker.is_alive()

    pieces = [FIRST, *[chunk(f" w{number}") for number in range(5)], *LAST]
    got, trip = through(relay, pieces)
    assert got == plain(pieces)
    assert "sseproxy-relay" in trip.threads


def packed(pieces: Sequence[bytes]) -> list[bytes]:
    """Each compressed as far as it can be read, and then the four bytes that end a flush (RFC 1951 section 3.2.4)."""
    packer = zlib.compressobj(wbits=31)
    flushed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [part for each in flushed for part in (each[:-4], each[-4:])] + [packer.flush()]


@pytest.mark.parametrize("lane", [True, False])
def test_a_compressed_stream_loses_nothing_where_one_read_makes_more_than_a_write(relay: Relay, lane: bool) -> None:
    large = chunk("".join(f"| row {number:06d} | active " for number in range(60_000)))
    pieces = [FIRST, *[chunk(f" w{number}") for number in range(5)], large, chunk(" x"), *LAST]
    reads = [part[at : at + 16384] for part in packed(pieces) for at in range(0, len(part), 16384)]

    got, trip = through(relay, reads, chunked=True, framed=True, lane=lane)

    assert ChunkedDecoder().feed(got) == plain(pieces)
    assert "sseproxy-relay" not in trip.threads


def test_a_compressed_stream_is_not_over_because_a_read_of_it_makes_nothing_yet(relay: Relay) -> None:
    """What came within a tick of the last byte was no silence, after which an answer that is over ends."""
    usage = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    pieces = [FIRST, *[chunk(f" w{number}") for number in range(5)], *LAST, usage]

    got, _ = through(relay, packed(pieces), lane=True)

    assert b'"completion_tokens":2' in got
    assert got == plain(pieces)


def test_bytes_that_make_no_piece_do_not_keep_the_client_from_its_keep_alives(relay: Relay) -> None:
    with Trip(relay) as trip:
        trip.stream.keepalive = 0.1
        trip.read()
        trip.send(FIRST)
        wait_until(lambda: trip.send(b": busy\n\n") or b": ping" in b"".join(trip._received))
        for piece in LAST:
            trip.send(piece)
        trip.finish()
        trip.received()


@pytest.mark.parametrize(
    "event",
    [
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
        b'data: {"error":{"message":"no","type":"t"}}\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_what_may_settle_a_charge_is_read_by_the_streams_own_thread(relay: Relay, event: bytes) -> None:
    with Trip(relay) as trip:
        trip.read()
        trip.send(FIRST)
        trip.wait_for_ride()
        for piece in (chunk(" one"), event):
            trip.send(piece)
        trip.finish()
        trip.received()

        assert trip.threads[1:3] == ["sseproxy-relay", trip.threads[0]]


def test_an_error_that_is_null_ends_nothing(relay: Relay) -> None:
    pieces = [FIRST, b'data: {"choices":[{"index":0,"delta":{"content":" x"}}],"error": null}\n\n', chunk(" y"), *LAST]

    got, trip = through(relay, pieces, riding=True)

    assert got == plain(pieces)
    assert trip.threads[1:3] == ["sseproxy-relay"] * 2
