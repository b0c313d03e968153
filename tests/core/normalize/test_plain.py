"""Plain reads: what goes around a stream's decoder and transforms is what they would have made of it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.normalize import Plain, events_of, normalize
from sseproxy.core.sse import FLUSH, Event


def chunk(text: str, tail: str = "") -> bytes:
    return (
        b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"content":"%b"},"finish_reason":null}]%b}\n\n' % (text.encode(), tail.encode())
    )


FINISH = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
)


class Stream:
    """A normalised stream that is read as the relay reads it."""

    def __init__(self) -> None:
        self.plain = Plain()
        self.around = 0
        self._reads: list[bytes] = []
        events = events_of(self._body(), plain=self.plain)
        self._events = normalize(events, api="chat", model="m", make_id=lambda: "0", now=lambda: 1.0, plain=self.plain)

    def _body(self) -> Iterator[bytes]:
        while self._reads:
            yield self._reads.pop()

    def read(self, data: bytes) -> list[Event]:
        """The events that come of a read."""
        if self.plain.is_ready() and (events := self.plain.read(data)) is not None:
            self.around += len(events)
            return events
        return self.iterate(data)

    def iterate(self, data: bytes) -> list[Event]:
        self._reads.append(data)
        events = []
        for event in self._events:
            if event is FLUSH:
                break
            events.append(event)
        return events

    def finish(self) -> list[Event]:
        return [event for event in self._events if event is not FLUSH]


def begun() -> Stream:
    stream = Stream()
    stream.read(chunk("Hello"))
    stream.read(chunk(" world"))
    assert stream.plain.is_ready()
    return stream


def both_ways(reads: Sequence[bytes]) -> tuple[list[Any], list[Any], int]:
    one, other = Stream(), Stream()
    around = [facts(event) for data in reads for event in one.read(data)] + [facts(event) for event in one.finish()]
    through = [facts(event) for data in reads for event in other.iterate(data)]
    return around, through + [facts(event) for event in other.finish()], one.around


def facts(event: Event) -> tuple[Any, ...]:
    return event.data, event.type, event.read, event.content, event.hidden, event.usage, event.finish, bool(event.error)


_TEXTS = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=8)
_READS = st.one_of(
    _TEXTS.map(chunk),
    st.tuples(_TEXTS, _TEXTS).map(lambda texts: chunk(texts[0]) + chunk(texts[1])),
    _TEXTS.map(lambda text: chunk(text, ',"obfuscation":"abc"')),
    _TEXTS.map(lambda text: chunk(text).replace(b"\n\n", b"\r\n\r\n")),
    _TEXTS.map(lambda text: chunk(text).replace(b'"content"', b'"reasoning_content"')),
    _TEXTS.flatmap(lambda text: st.integers(1, len(chunk(text))).map(lambda cut: chunk(text)[:cut])),
    st.sampled_from(
        [
            b"\n",
            b"\r",
            b": comment\n\n",
            b"data: ",
            b"data: x\n\n",
            chunk("a\rb"),
            chunk("data: x"),
            chunk("\\u2028"),
            chunk("\u2028"),
            chunk("a", ',"obfuscation":"a\rb"'),
            chunk("a").replace(b"a", b"\xff"),
            chunk("a") + b"data: {half",
            chunk("a") + FINISH,
            b'data: {"error":{"message":"no"}}\n\n',
            FINISH,
            b"data: [DONE]\n\n",
        ]
    ),
)


@given(st.lists(_READS, max_size=10))
def test_what_goes_around_is_what_goes_through(reads: list[bytes]) -> None:
    around, through, _ = both_ways([chunk("Hello"), chunk(" world"), *reads])

    assert around == through


def test_all_reads_of_a_known_shape_go_around() -> None:
    around, through, count = both_ways([chunk("Hello"), chunk(" a"), chunk(" b"), chunk(" c") + chunk(" d"), FINISH])

    assert around == through
    assert count == 3


def test_nothing_is_plain_before_the_stream_has_begun() -> None:
    assert not Stream().plain.is_ready()
    assert not Plain().is_ready()


@pytest.mark.parametrize("rest", [b"data: {", b"event: x\n", b"data: x\r"])
def test_nothing_is_plain_in_the_middle_of_an_event(rest: bytes) -> None:
    stream = begun()
    stream.read(rest)

    assert not stream.plain.is_ready()


def test_nothing_is_plain_while_the_normaliser_holds_something_back() -> None:
    stream = begun()

    stream.read(FINISH)

    assert not stream.plain.is_ready() or stream.plain.read(chunk(" more")) is None


def test_a_compressed_stream_is_never_plain() -> None:
    stream = Stream()
    stream.read(gzip.compress(chunk("Hello") + chunk(" world")))

    assert not stream.plain.is_ready()


def test_a_line_end_inside_of_padding_ends_the_line() -> None:
    padded = [chunk(text, ',"obfuscation":"abc"') for text in ("Hello", " a", " b")]

    around, through, count = both_ways([*padded, chunk(" c", ',"obfuscation":"a\rb"'), FINISH])

    assert around == through
    assert count == 1


def test_text_that_was_not_plain_after_all_is_counted_once() -> None:
    stream = begun()
    assert stream.plain.shapes is not None
    before = stream.plain.shapes.sent

    assert stream.plain.read(chunk(" a") + b"data: {broken\n\n") is None

    assert stream.plain.shapes.sent == before


def test_a_read_that_is_plain_only_at_first_leaves_no_trace() -> None:
    around, through, count = both_ways(
        [chunk("Hello"), chunk(" a") + b"data: {broken\n\n", FINISH, b"data: [DONE]\n\n"]
    )

    assert around == through
    assert count == 0
