"""Bodies: any bytes become events."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.intricate import MOST_PARTS_OF_ANSWER
from sseproxy.core.normalize import compression
from sseproxy.core.normalize.bodies import IDLE, Lost, events_of
from sseproxy.core.normalize.compression import unzip
from sseproxy.core.sse import FLUSH, HEARTBEAT, Event
from tests.harness.clock import Clock

ONE, TWO = b'{"a":1}', b'{"a":2}'


def read(*pieces: bytes, **options: int) -> list[Event]:
    return [event for event in events_of(pieces, **options) if event not in (FLUSH, IDLE)]  # type: ignore[arg-type]


def datas(*pieces: bytes) -> list[bytes]:
    return [event.data for event in read(*pieces)]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: " + ONE + b"\n\ndata: " + TWO + b"\n\n", [ONE, TWO]),
        (ONE + b"\n" + TWO + b"\n", [ONE, TWO]),
        (ONE + b"\r\n" + TWO, [ONE, TWO]),
        (ONE, [ONE]),
        (b"\n\n  " + ONE + b"\n", [ONE]),
        (b'{\n "a": 1\n}\n', [b'{\n "a": 1\n}\n']),
        (b"[" + ONE + b"\n,\n" + TWO + b"]", [b"[" + ONE + b"\n,\n" + TWO + b"]"]),
        (b"[DONE]\n\n", [b"[DONE]"]),
        (b"\xef\xbb\xbfdata: " + ONE + b"\n\n", [ONE]),
        (b"data: " + ONE, [ONE]),
        (b": only\n\n: comments\n\n", [HEARTBEAT.data] * 2),
        (b"", []),
        (b"\n \n", []),
    ],
)
def test_the_kind_of_body_is_seen_from_its_bytes(body: bytes, events: list[bytes]) -> None:
    assert datas(body) == events
    for cut in range(len(body)):
        assert datas(body[:cut], body[cut:]) == events
    assert datas(gzip.compress(body)) == events


@pytest.mark.parametrize(
    "body", [b"<html>", b"  \n<!DOCTYPE html><p>data: x\n\n", b"Internal Server Error", b"Error\n\n", b"\xff\xfe"]
)
def test_what_is_no_answer_is_one_error(body: bytes) -> None:
    for pieces in ([body], [body[:1], body[1:]]):
        (event,) = (event for event in read(*pieces) if event is not HEARTBEAT)
        assert event.error is not None and event.error.type == "upstream_invalid_response"


def test_events_come_as_soon_as_their_bytes() -> None:
    events = events_of(iter([b"data: " + ONE + b"\n\n", b"data: " + TWO + b"\n\n"]))
    assert [next(events).data for _ in range(2)] == [ONE, b""]


class Telling:
    """A body that tells when it is over."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._pieces:
            raise StopIteration
        return self._pieces.pop(0)

    @property
    def is_over(self) -> bool:
        return not self._pieces


def test_what_comes_with_the_end_does_not_leave_before_it_but_the_first_events_always_do() -> None:
    pieces = [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]

    assert [event.data for event in events_of(Telling(*pieces))] == [b"1", b"", b"2", b"", b"3"]
    assert [event.data for event in events_of(Telling(*pieces[:1]))] == [b"1", b""]


def test_json_lines_come_as_soon_as_their_bytes() -> None:
    def pieces() -> Iterator[bytes]:
        yield ONE + b"\n"
        pytest.fail("asked for more before the first line was out")

    assert next(events_of(pieces())).data == ONE


NAMELESS = b'{"choices":[{"message":{"content":"a"}}]}'
NAMED = b'{"object":"chat.completion",' + NAMELESS[1:]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (NAMELESS, [NAMED]),
        (NAMELESS + b"\n", [NAMED + b"\n"]),
        (NAMELESS + b"\r\n \n", [NAMED + b"\r\n \n"]),
        (NAMELESS + b"\n" + NAMELESS, [NAMELESS, NAMELESS]),
        (NAMELESS + b"\r\n \n" + ONE + b"\n", [NAMELESS, ONE]),
    ],
)
def test_white_space_behind_an_answer_makes_no_lines_of_it(body: bytes, events: list[bytes]) -> None:
    assert datas(body) == events
    for cut in range(len(body)):
        assert datas(body[:cut], body[cut:]) == events
    assert datas(*(bytes([byte]) for byte in body)) == events


def test_a_silence_behind_the_first_line_does_not_make_it_the_last() -> None:
    assert datas(NAMELESS + b"\n", b"", b"", NAMELESS) == [NAMELESS, NAMELESS]


def test_a_finished_answer_with_a_newline_behind_it_waits_for_no_more_on_a_connection_held_open() -> None:
    finished = NAMELESS.replace(b"}]}", b',"finish_reason":"stop"}]}')

    def pieces() -> Iterator[bytes]:
        yield finished + b"\n"
        yield b""
        pytest.fail("waited on")

    *_, answer = (event for event in events_of(pieces()) if event is not FLUSH)
    assert answer.data == b'{"object":"chat.completion",' + finished[1:] + b"\n"


def test_an_empty_piece_is_an_idle_tick_and_half_an_event_is_not() -> None:
    events = list(events_of([b"da", b"", b"ta: 1"]))
    assert [event is IDLE for event in events[:4]] == [False, True, False, False]
    assert events[0] is events[2] is events[3] is FLUSH


@pytest.mark.parametrize("document", [b'{"choices":[]}', b'{\n "error": 1\n}', b'{"done":true}'])
def test_a_whole_document_is_not_waited_for(document: bytes) -> None:
    def held() -> Iterator[bytes]:
        yield from (document[:5], b"", document[5:], b"")
        pytest.fail("waited")

    assert [event.data for event in events_of(held()) if event not in (FLUSH, IDLE)] == [document]


@pytest.mark.parametrize("line", [b'{"done":false}', b'{"choices":[{"delta":{}}]}'])
def test_a_line_that_may_be_followed_by_others_is(line: bytes) -> None:
    assert datas(line, b"", b"", b"\n" + line) == [line, line]


def test_a_broken_last_block_is_lost() -> None:
    (event,) = read(b'data: {"a":')
    assert isinstance(event, Lost) and event.error is not None and event.error.type == "upstream_truncated"


@pytest.mark.parametrize(
    "error", [UpstreamFailure("reset", code="c"), ConnectionResetError(), EOFError(), zlib.error()]
)
def test_a_failing_body_ends_in_one_event_after_what_came(error: Exception) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"data: " + ONE + b"\n\ndata: " + TWO
        raise error

    first, second, last = (event for event in events_of(pieces()) if event is not FLUSH)
    assert (first.data, second.data) == (ONE, TWO)
    assert isinstance(last, Lost) and last.error is not None


def test_other_exceptions_are_not_swallowed() -> None:
    def pieces() -> Iterator[bytes]:
        yield b""
        raise KeyError

    with pytest.raises(KeyError):
        list(events_of(pieces()))


def test_what_else_a_body_raises_is_told_in_the_words_that_were_asked_for() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"data: " + ONE + b"\n\n"
        raise KeyError

    told = UpstreamFailure("it failed", code="c")
    first, last = (event for event in events_of(pieces(), failure_for=lambda error: told) if event is not FLUSH)
    assert first.data == ONE and isinstance(last, Lost) and last.error is told


def test_events_and_documents_are_bounded() -> None:
    (ok, event) = read(b"data: 1\n\ndata: " + b"x" * 100, limit=50)
    assert ok.data == b"1"
    assert event.error is not None and event.error.code == "event_too_large"
    (event,) = read(b'{"a":"', *[b"x" * 10] * 100, body_limit=50)
    assert event.error is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'data: {"choices":[', b"]}\n\n"),
        (b'{"choices":[', b"]}"),
        (b'{"choices":[\n', b"\n]}\n"),
        (b"data: [", b"]"),
    ],
)
def test_what_takes_many_times_its_own_size_to_read_is_not_read(before: bytes, after: bytes) -> None:
    parts = b",".join([b"{}"] * (MOST_PARTS_OF_ANSWER + 1))
    tracemalloc.start()
    try:
        events = read(before + parts[:100], parts[100:] + after)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [event.error and event.error.message for event in events if event is not HEARTBEAT] == [
        "The upstream sent more than 2000000 objects, lists and named values at once."
    ]
    assert peak < 10 * len(parts)


def test_a_document_may_be_as_long_as_any_json_answer() -> None:
    document = b'{"a":"' + b"x" * (40 * 1024 * 1024) + b'"}'

    assert datas(document) == [document]


def test_an_image_is_one_event() -> None:
    image = b'{"choices":[{"delta":{"images":["%b"]}}]}' % (b"A" * 4_000_000)

    assert datas(*re.findall(b"(?s).{1,65536}", b"data: " + image + b"\n\n")) == [image]


PACKED = [
    gzip.compress(b"a" * 99, mtime=0),
    gzip.compress(b"a", mtime=0) * 99,
    *(zlib.compress(b"a" * 99, level) for level in range(10)),
]


@pytest.mark.parametrize("packed", PACKED)
def test_compressed_bytes_are_undone_at_every_cut(packed: bytes) -> None:
    for cut in range(len(packed)):
        assert b"".join(unzip([packed[:cut], packed[cut:]])) == b"a" * 99
    assert b"".join(unzip(bytes([byte]) for byte in packed)) == b"a" * 99


@pytest.mark.parametrize("body", [b"", b"x", b"\x1f", b"xyz", b"\x1fabc", b"x-id: 1\n\n"])
def test_other_bytes_pass(body: bytes) -> None:
    assert b"".join(unzip([body])) == body
    assert b"".join(unzip([body[:1], body[1:]])) == body


def test_a_bomb_comes_out_in_small_pieces() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert max(len(piece) for piece in unzip([bomb])) <= 64 * 1024


def test_bytes_that_inflate_to_nothing_are_an_idle_tick_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(compression, "monotonic", clock)
    packer = zlib.compressobj()
    begin = packer.compress(b"a") + packer.flush(zlib.Z_SYNC_FLUSH)
    empty_block = b"\0\0\0\xff\xff"

    def dripping() -> Iterator[bytes]:
        yield begin
        for _ in range(7):
            clock.now += 0.5
            yield empty_block
        yield packer.compress(b"b") + packer.flush()

    assert list(unzip(dripping())) == [b"a", b"", b"", b"", b"b"]


def test_no_clock_is_asked_for_bytes_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "monotonic", None)

    assert list(unzip([ONE, b"", TWO])) == [ONE, b"", TWO]


def test_broken_gzip_ends_in_an_error() -> None:
    packed = bytearray(gzip.compress(b"data: 1\n\n" * 1000))
    packed[30] ^= 255
    assert read(bytes(packed))[-1].error is not None
