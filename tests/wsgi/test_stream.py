"""wsgi/stream: bytes outside, events inside, closed exactly once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pytest

from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.sse import FLUSH, PING, Event
from sseproxy.wsgi.ride import RELAY_KEY, board
from sseproxy.wsgi.stream import MAX_HELD, EventStream
from tests.harness import PATIENCE


class Body:
    """A WSGI body that counts its closes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self.closed += 1


def shout(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        yield event if event is FLUSH else Event(data=event.data.upper())


def test_what_one_read_brought_leaves_in_one_write() -> None:
    stream = EventStream.of([b"data: a\n\ndata: b\n\n", b"data: c\n\n"])

    assert [piece for piece in stream if piece] == [b"data: a\n\ndata: b\n\n", b"data: c\n\n"]


def test_an_event_split_over_reads_leaves_whole() -> None:
    stream = EventStream.of([b"data: a", b"bc\n", b"\ndata: d\n\n"])

    assert [piece for piece in stream if piece] == [b"data: abc\n\ndata: d\n\n"]


def test_a_stream_of_a_stream_is_itself() -> None:
    stream = EventStream.of([b"data: a\n\n"])

    assert EventStream.of(stream) is stream


def test_transforms_see_events_in_the_order_they_were_attached() -> None:
    stream = EventStream.of([b"data: a\n\n"]).pipe(shout)
    stream.pipe(lambda events: (Event(data=e.data + b"!") if e is not FLUSH else e for e in events))

    assert b"".join(stream) == b"data: A!\n\n"


def test_a_transform_attached_too_late_is_an_error() -> None:
    stream = EventStream.of([b"data: a\n\n"])
    next(stream)

    with pytest.raises(RuntimeError, match="after the first event"):
        stream.pipe(shout)


def test_exhaustion_closes_the_body_once_and_close_again_does_nothing() -> None:
    body = Body([b"data: a\n\n"])
    stream = EventStream.of(body)
    list(stream)
    stream.close()
    stream.close()

    assert body.closed == 1


def test_a_stream_that_never_started_is_closed_too() -> None:
    body = Body([b"data: a\n\n"])

    EventStream.of(body).close()

    assert body.closed == 1


def test_callbacks_run_last_in_first_out_and_before_the_body_is_closed() -> None:
    order: list[str] = []
    stream = EventStream.of([b""])
    stream.on_close(lambda: order.append("upstream"))
    stream.on_close(lambda: order.append("settle"))

    stream.close()

    assert order == ["settle", "upstream"]


def test_a_failing_callback_does_not_keep_the_others_from_running() -> None:
    body = Body([])
    stream = EventStream.of(body)

    def fail() -> None:
        raise ValueError("ledger away")

    stream.on_close(fail)

    with pytest.raises(ValueError, match="ledger away"):
        stream.close()
    assert body.closed == 1


def test_a_callback_added_after_the_end_runs_at_once() -> None:
    stream = EventStream.of([])
    stream.close()
    ran: list[bool] = []

    stream.on_close(lambda: ran.append(True))

    assert ran == [True]


def test_closing_from_many_threads_closes_once() -> None:
    body = Body([b"data: a\n\n"])
    stream = EventStream.of(body)
    ready = threading.Barrier(8)

    def close() -> None:
        ready.wait()
        stream.close()

    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert body.closed == 1


def test_a_silent_tick_writes_nothing_until_a_keep_alive_is_due() -> None:
    stream = EventStream.of([b"data: a\n\n", b"", b""])
    stream.keepalive = 3600

    assert list(stream) == [b"data: a\n\n", b"", b""]


def test_a_keep_alive_is_a_comment_with_one_newline_and_never_shares_a_write_with_data() -> None:
    stream = EventStream.of([b"data: a\n\n", b"", b"", b"data: b\n\n"])
    stream.keepalive = 0

    assert list(stream) == [b"data: a\n\n", b"", PING, b"data: b\n\n"]
    assert PING == b": ping\n"


def test_a_client_that_left_in_silence_ends_the_stream_with_a_broken_pipe() -> None:
    body = Body([b"data: a\n\n", b"", b"data: never\n\n"])
    stream = EventStream.of(body)
    stream.gone = lambda: True

    assert next(stream) == b"data: a\n\n"
    assert next(stream) == PING
    assert body.closed == 1
    assert stream.client_left
    with pytest.raises(BrokenPipeError):
        next(stream)


def test_events_before_an_exception_are_written_before_it_is_raised() -> None:
    def events() -> Iterator[Event]:
        yield Event(data=b"a")
        raise ValueError("boom")

    stream = EventStream(events())

    assert next(stream) == b"data: a\n\n"
    with pytest.raises(ValueError, match="boom"):
        next(stream)


def test_peek_shows_the_first_event_and_leaves_it_in_place() -> None:
    stream = EventStream.of([b"", b"data: a\n\n"])

    first = stream.peek()

    assert first is not None
    assert first.data == b"a"
    assert b"".join(stream) == b"data: a\n\n"


def test_peek_gives_up_after_the_keep_alive_time_and_the_stream_goes_on() -> None:
    stream = EventStream.of([b"", b"data: a\n\n"])
    stream.keepalive = 0

    assert stream.peek() is None
    assert b"".join(stream).endswith(b"data: a\n\n")


def test_peek_gives_up_where_too_much_would_wait_and_the_stream_goes_on() -> None:
    silent = (Event(data=b"x" * 1000) for _ in range(10 * MAX_HELD // 1000))
    stream = EventStream(silent)

    assert stream.peek(lambda event: event.data == b"told") is None
    assert sum(1 for _ in silent) >= 8 * MAX_HELD // 1000
    assert next(stream).startswith(b"data: xxx")


def test_a_stream_that_is_dropped_unclosed_still_ends() -> None:
    ended = threading.Event()
    stream = EventStream(iter([Event(data=b"x"), FLUSH, Event(data=b"y")]))
    stream.on_close(ended.set)
    next(stream)

    del stream

    assert ended.wait(PATIENCE)


def test_a_ride_is_made_when_the_first_piece_has_left() -> None:
    made: list[object] = []

    class Ride:
        def carry(self, stream: EventStream) -> bool:
            return False

    def offer(source: object) -> Ride:
        made.append(source)
        return Ride()

    source = SimpleNamespace(receive=None)
    stream = EventStream(iter([Event(b"1"), FLUSH, Event(b"2"), FLUSH, Event(b"3")]))
    board(stream, source, {RELAY_KEY: offer}, lambda: True)
    rides = [list(made) for _ in stream]

    assert rides == [[], [source], [source]]


def test_a_failure_that_a_format_cannot_tell_breaks_the_connection_off_and_is_no_error_of_the_server() -> None:
    def broken(events: Iterator[Event]) -> Iterator[Event]:
        raise UpstreamFailure("The upstream broke off.")
        yield

    with pytest.raises(BrokenPipeError):
        next(EventStream.of([b"data: a\n\n"]).pipe(broken))
