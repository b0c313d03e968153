"""Plain reads: what goes around a stream's decoder and transforms is what they would have made of it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.normalize import Plain, events_of, normalize
from sseproxy.core.sse import FLUSH, Event, encode
from sseproxy.upstream.chunked import ChunkedDecoder


def chunk(text: str, tail: str = "") -> bytes:
    return (
        b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"content":"%b"},"finish_reason":null}]%b}\n\n' % (text.encode(), tail.encode())
    )


def thought(text: str) -> bytes:
    return chunk(text).replace(b'"content"', b'"reasoning_content"')


def spoken(text: str) -> bytes:
    return chunk("%s").replace(b'"content":"%s"', b'"audio":{"transcript":"%b"}' % text.encode())


def piece(arguments: str, name: str = "") -> bytes:
    named = b'"id":"a","type":"function",' if name else b""
    function = b'"name":"%b",' % name.encode() if name else b""
    function += b'"arguments":%b' % json.dumps(arguments).encode()
    call = b'{"tool_calls":[{"index":0,%b"function":{%b}}]}' % (named, function)
    return chunk("").replace(b'{"content":""}', call)


FINISH = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
)


LONG = b"data: null\n\n"  # no trace is left of it but the way
ROLE = chunk("").replace(b'{"content"', b'{"role":"assistant","content"')


class Stream:
    """A normalised stream that is read as the relay reads it."""

    def __init__(self) -> None:
        self.plain = Plain()
        self.around = 0  # bytes
        self.wrote: list[bytes] = []
        self.said = ["", ""]
        self.rest: list[Any] = []
        self._reads: list[bytes] = []
        events = events_of(self._body(), plain=self.plain)
        self._events = normalize(events, api="chat", model="m", make_id=lambda: "0", now=lambda: 1.0, plain=self.plain)

    def _body(self) -> Iterator[bytes]:
        while self._reads:
            yield self._reads.pop()

    def read(self, data: bytes, chunks: bytes | None = None) -> None:
        """Read this around the stream if it is plain, else through it.

        :param chunks: the same in its transfer framing, to be tried first.
        """
        if self.plain.is_ready() and chunks is not None:
            hears = self.plain.listen()
            heard = hears is not None and hears(chunks)
            passed = dechunked(chunks if heard else chunks[: self.plain.passes(chunks, framed=True)])
            self.wrote.append(passed)
            self.around += len(passed)
            data = data[len(passed) :]
        if self.plain.is_ready():
            piece, taken = self.plain.read(data)
            self.wrote.append(piece)
            self.around += taken
            data = data[taken:]
        self._say(*self.plain.said())
        if data:
            self.iterate(data)

    def iterate(self, data: bytes) -> None:
        self._reads.append(data)
        for event in self._events:
            if event is FLUSH:
                break
            self._hand_out(event)

    def finish(self) -> None:
        for event in self._events:
            if event is not FLUSH:
                self._hand_out(event)

    def _hand_out(self, event: Event) -> None:
        self.wrote.append(encode(event))
        self._say(event.content, event.hidden)
        if not (event.content or event.hidden):
            self.rest.append((event.read, event.usage, event.finish, bool(event.error)))

    def _say(self, content: str, hidden: str) -> None:
        self.said[0] += content
        self.said[1] += hidden

    @property
    def facts(self) -> tuple[Any, ...]:
        """All that a client and a transform see of it."""
        return b"".join(self.wrote), self.said, self.rest


def begun() -> Stream:
    stream = Stream()
    stream.read(chunk("Hello"))
    stream.read(chunk(" world"))
    assert stream.plain.is_ready()
    return stream


def chunked(data: bytes) -> bytes:
    """Each event, and what is left, in an HTTP chunk of its own."""
    blocks = [block for block in re.split(rb"(?<=\n\n)", data) if block]
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks)


def dechunked(data: bytes) -> bytes:
    """What whole chunks hold."""
    decoder = ChunkedDecoder()
    payload = decoder.feed(data)
    assert decoder.between and not decoder.done
    return payload


def both_ways(reads: Sequence[bytes], framed: bool = False, *, long: bool = False) -> tuple[Any, Any, int]:
    """What becomes of a stream around and through its transforms.

    :param long: the latter by the long way, which a canonical stream does not take otherwise.
    """
    one, other = Stream(), Stream()
    if long:
        other.iterate(LONG)
    for data in reads:
        one.read(data, chunked(data) if framed else None)
        other.iterate(data)
    one.finish()
    other.finish()
    return one.facts, other.facts, one.around


_TEXTS = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=8)
_READS = st.one_of(
    _TEXTS.map(chunk),
    st.tuples(_TEXTS, _TEXTS).map(lambda texts: chunk(texts[0]) + chunk(texts[1])),
    _TEXTS.map(lambda text: chunk(text, ',"obfuscation":"abc"')),
    _TEXTS.map(lambda text: chunk(text).replace(b"\n\n", b"\r\n\r\n")),
    _TEXTS.map(thought),
    _TEXTS.map(spoken),
    st.sampled_from([piece("", "f"), piece('{"a'), piece('":'), piece("1"), piece("}"), piece('{"a":1}'), piece(" ")]),
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


@given(st.lists(_READS, max_size=10), st.booleans())
def test_what_goes_around_is_what_goes_through(reads: list[bytes], framed: bool) -> None:
    around, through, _ = both_ways([chunk("Hello"), chunk(" world"), *reads], framed)

    assert around == through


@given(
    st.sampled_from(["Hello", " ", "a/b", "a\\n", "\u2028", "data: "]),
    st.lists(
        _READS | st.sampled_from(["Hello", "Hello there", "  ", "a/bc", "a\\/b", "a\\nb"]).map(chunk), max_size=10
    ),
    st.booleans(),
)
def test_from_the_first_text_on_what_goes_around_a_canonical_stream_is_what_goes_through(
    first: str, reads: list[bytes], framed: bool
) -> None:
    around, through, _ = both_ways([ROLE, chunk(first), *reads], framed, long=True)

    assert around == through


@pytest.mark.parametrize(
    "rest",
    [b"", b'data: {"error":{"message":"no"}}\n\n', thought("hm") + chunk("Hello there") + chunk("Hello there, you")],
)
def test_a_second_text_that_has_passed_elsewhere_is_known_wherever_the_canonical_stream_goes(rest: bytes) -> None:
    one, other = Stream(), Stream()
    other.iterate(LONG)
    for data in (ROLE, chunk("Hello")):
        one.read(data)
        other.iterate(data)
    assert one.plain.surroundings()[2] == b'"Hello'
    one.plain.hear(b'" \\"you\\"",')
    one.wrote.append(chunk(' \\"you\\"'))
    assert one.plain.surroundings()[2] == b""
    other.iterate(chunk(' \\"you\\"'))
    for data in (rest, chunk(" Hello"), FINISH):
        one.read(data)
        other.iterate(data)
    one.finish()
    other.finish()

    assert one.facts == other.facts


def test_behind_a_first_text_that_can_be_written_in_two_ways_the_second_goes_through() -> None:
    stream = Stream()
    stream.read(ROLE)
    stream.read(chunk("a/b"))

    assert not stream.plain.is_ready()
    stream.read(chunk(" c"))
    assert stream.plain.surroundings()[2] == b""


@pytest.mark.parametrize("text", ["Hello there", "Hello", "Hell\\u006f there"])
def test_a_second_text_that_begins_like_the_first_goes_around_only_if_it_is_the_same(text: str) -> None:
    stream = Stream()
    for data in (ROLE, chunk("Hello")):
        stream.read(data)
    hears = stream.plain.listen()

    assert hears is not None
    assert hears(chunked(chunk(text))) == (text == "Hello")
    if text != "Hello":
        assert not stream.plain.passes(chunked(chunk(text)), framed=True)
        assert stream.plain.read(chunk(text)) == (b"", 0)


@pytest.mark.parametrize("framed", [False, True])
def test_all_reads_of_a_known_shape_go_around(framed: bool) -> None:
    known = [chunk(" b"), chunk(" c") + chunk(" d"), chunk(" e") + FINISH]

    around, through, count = both_ways([chunk("Hello"), chunk(" a"), *known], framed)

    assert around == through
    assert count == len(b"".join(known)) - len(FINISH)


def test_chunks_of_a_known_shape_leave_as_they_came() -> None:
    stream = begun()

    for data in (chunk(" a"), chunk(" b: c") + chunk(" \u00fc \\n") + chunk(' \\"}')):
        assert stream.plain.passes(chunked(data), framed=True) == len(chunked(data))
    assert stream.plain.said() == (' a b: c ü \n "}', "")


_GOOD = chunked(chunk(" one") + chunk(" two"))
_BITS = st.sampled_from(
    [b"", b"\r\n", b"\n", b'"', b"\\", b"0", b"A", b";x", b" ", b"\x00", b"\xff", b"\xc2\x85", chunk("x")]
)


@given(st.integers(0, len(_GOOD)), st.integers(0, 8), _BITS)
def test_chunks_that_leave_as_they_came_are_whole_and_what_the_stream_would_have_made_of_them(
    at: int, lost: int, bit: bytes
) -> None:
    data = _GOOD[:at] + bit + _GOOD[at + lost :]
    stream = begun()

    if passed := data[: stream.plain.passes(data, framed=True)]:
        other = begun()
        other.iterate(dechunked(passed))
        assert b"".join(other.wrote[len(stream.wrote) :]) == dechunked(passed)


@pytest.mark.parametrize(
    "data",
    [
        chunked(chunk(" a")).upper(),
        b"0" + chunked(chunk(" a")),
        chunked(chunk(" a")).replace(b"\r\n", b";x\r\n", 1),
        chunked(chunk(" a"))[:-1],
        chunked(chunk("data: x")),
        chunked(chunk("\u2028")),
        chunked(chunk("ab")).replace(b"ab", b"\xe9b"),
        chunked(chunk("")),
        chunked(FINISH),
        chunk(" a"),
        b"",
    ],
)
def test_nothing_else_leaves_as_it_came(data: bytes) -> None:
    stream = begun()
    hears = stream.plain.listen()

    assert not stream.plain.passes(data, framed=True)
    assert hears is not None
    assert not hears(data)


@pytest.mark.parametrize("rest", [b"5\r\ndata", b"0\r\n\r\n", chunked(FINISH)])
def test_what_follows_plain_chunks_stays(rest: bytes) -> None:
    plain = chunked(chunk(" a") + chunk(" b"))

    assert begun().plain.passes(plain + rest, framed=True) == len(plain)


def test_what_is_changed_never_leaves_as_it_came() -> None:
    stream = Stream()
    for text in ("Hello", " a", " b"):
        stream.read(chunk(text, ',"obfuscation":"abc"'))

    assert stream.plain.is_ready()
    assert not stream.plain.passes(chunked(chunk(" c", ',"obfuscation":"abc"')), framed=True)


@pytest.mark.parametrize("said", [thought, spoken])
def test_reasoning_and_speech_leave_as_they_came_and_are_no_visible_text(said: Callable[[str], bytes]) -> None:
    stream = Stream()
    for text in ("Hm", " so"):
        stream.read(said(text))

    assert stream.plain.passes(chunked(said(" then")), framed=True)
    assert stream.plain.said() == ("", " then")


@pytest.mark.parametrize("framed", [False, True])
def test_arguments_go_around_but_what_may_complete_or_repeat_them(framed: bool) -> None:
    plain = [piece('":'), piece('"[') + piece("1"), piece("2")]
    reads = [piece("", "f"), piece('{"a'), *plain, piece(']"') + piece("}"), piece('{"a":"[12]"}'), FINISH]

    around, through, count = both_ways(reads, framed)

    assert around == through
    assert around[1] == ["", 'f{"a":"[12]"}']
    assert count == len(b"".join(plain))


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

    assert not stream.plain.is_ready() or stream.plain.read(chunk(" more")) == (b"", 0)


def test_a_compressed_stream_is_never_plain() -> None:
    stream = Stream()
    stream.read(gzip.compress(chunk("Hello") + chunk(" world")))

    assert not stream.plain.is_ready()


def test_a_line_end_inside_of_padding_ends_the_line() -> None:
    padded = [chunk(text, ',"obfuscation":"abc"') for text in ("Hello", " a", " b")]

    around, through, count = both_ways([*padded, chunk(" c", ',"obfuscation":"a\rb"'), FINISH])

    assert around == through
    assert count == len(padded[2])


def test_what_is_not_plain_is_left_and_counts_for_nothing() -> None:
    stream = begun()
    assert stream.plain.shapes is not None
    before = stream.plain.shapes.sent

    assert stream.plain.read(chunk(" a") + b"data: {broken\n\n") == (chunk(" a"), len(chunk(" a")))
    assert stream.plain.said() == (" a", "")

    assert stream.plain.shapes.sent == before + len(" a")
