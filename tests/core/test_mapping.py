"""core/mapping: answers of an application's own shape, read and passed on byte for byte."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.mapping import ITSELF, AnswerMapping, find
from sseproxy.core.sse import FLUSH, Event
from sseproxy.core.usage import Usage

MAPPING = AnswerMapping(usage=("meta", "usage"), text=("data", "answer"), model=("meta", "model"))
BARE = AnswerMapping(usage=("usage",), text=ITSELF)
USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
DOCUMENT = json.dumps({"data": {"answer": "hi there"}, "meta": {"usage": USAGE, "model": "m1"}}).encode()


def said(text: str, **meta: object) -> bytes:
    return json.dumps({"data": {"answer": text}, "meta": meta}).encode()


STREAMS = {
    "events": [b"data: " + said("a") + b"\n\n", b": ping\n\n", b"data: " + said("b", usage=USAGE) + b"\n\n"],
    "lines": [said("a") + b"\n", said("b", usage=USAGE) + b"\n"],
    "events with CRLF": [
        b"event: x\r\ndata: " + said("a") + b"\r\n\r\n",
        b"data: " + said("b", usage=USAGE) + b"\r\n\r\n",
    ],
}


def read(
    pieces: Iterable[bytes], mapping: AnswerMapping = MAPPING, *, whole: bool = False, bare: bool = False
) -> tuple[list[Event], list[str]]:
    models: list[str] = []
    return list(mapping.read(pieces, models.append, whole=whole, bare=bare)), models


def bytes_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if event is not FLUSH)


def test_a_document_says_its_text_its_usage_and_its_model() -> None:
    events, models = read([DOCUMENT], whole=True)

    assert bytes_of(events) == DOCUMENT
    assert [event.content for event in events if event is not FLUSH] == ["hi there"]
    assert events[-1].usage == Usage(input_tokens=3, output_tokens=4)
    assert models == ["m1"]


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["bare", "newline"])
def test_a_document_leaves_with_its_last_event_however_it_was_cut(end: bytes) -> None:
    body = DOCUMENT + end
    for cut in range(len(body)):
        events, _ = read([body[:cut], body[cut:]], whole=True)

        assert [event.data for event in events if event is not FLUSH] == [body]
        assert events[-1].usage is not None


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS)
def test_a_stream_passes_piece_by_piece_and_is_read(pieces: list[bytes]) -> None:
    events, _ = read(pieces)

    assert [event.data for event in events if event is not FLUSH and event.data] == pieces
    assert "".join(event.content for event in events) == "ab"
    assert [event.usage.output_tokens for event in events if event.usage] == [4]


def test_lines_that_claim_to_be_a_document_flow_from_the_second_on() -> None:
    events, _ = read([said("a") + b"\n", said("b") + b"\n", said("c") + b"\n"], whole=True)

    written = [event.data.count(b"\n") for event in events if event is not FLUSH and event.data]
    assert written == [2, 1]


def test_an_idle_tick_is_one_and_nothing_else() -> None:
    events, _ = read([b"", b"", said("a") + b"\n", b""])

    assert [event is FLUSH for event in events[:2]] == [True, True]
    assert bytes_of(events) == said("a") + b"\n"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>a page</html>",
        b"plain text",
        b"[1, 2]",
        b"null",
        b'{"data": 3, "meta": []}',
        b'{"data": {"ans',
        b"\xff\0",
    ],
)
def test_what_is_of_another_shape_passes_and_says_nothing(body: bytes, whole: bool) -> None:
    events, models = read([body[:3], body[3:], b"", b"more"] if body else [], whole=whole)

    assert bytes_of(events) == (body + b"more" if body else b"")
    assert not any(event.content or event.usage for event in events)
    assert models == []


def test_a_compressed_answer_is_read_and_passes_compressed() -> None:
    body = gzip.compress(DOCUMENT)

    events, models = read([body[:10], body[10:]], whole=True)

    assert bytes_of(events) == body
    assert models == ["m1"]


@pytest.mark.parametrize("mapping", [MAPPING, BARE], ids=["in a field", "bare"])
def test_an_application_that_raises_does_so_after_all_it_has_sent(mapping: AnswerMapping) -> None:
    def pieces() -> Iterator[bytes]:
        yield said("a") + b"\n"
        raise OSError("gone")

    events = mapping.read(pieces(), print, bare=True)
    received = b""
    with pytest.raises(OSError, match="gone"):
        for event in events:
            received += event.data

    assert received == said("a") + b"\n"


@given(pieces=st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([p for s in STREAMS.values() for p in s]))))
def test_any_body_passes_byte_for_byte(pieces: list[bytes]) -> None:
    for mapping, whole, bare in itertools.product((MAPPING, BARE), (True, False), (True, False)):
        assert bytes_of(read(pieces, mapping, whole=whole, bare=bare)[0]) == b"".join(pieces)


def content_of(events: list[Event]) -> str:
    return "".join(event.content for event in events if event is not FLUSH)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"data: Hello\n\ndata:  world\n\ndata: [DONE]\n\n", "Hello world"),
        (b"data: one\ndata: two\n\n", "one\ntwo"),
        (b'data: "caf\\u00e9"\n\ndata: " two\\nlines"\n\n', "café two\nlines"),
        (b"data: 42\n\ndata: [1]\n\ndata: {not JSON\n\n", "42[1]{not JSON"),
        (b"event: status\ndata:\n\n: ping\n\ndata: x\n\n", "x"),
    ],
    ids=["bare", "lines", "strings", "looks like JSON", "nothing"],
)
def test_text_that_stands_in_no_field_is_all_that_is_no_object(stream: bytes, text: str) -> None:
    for cut in range(len(stream)):
        events, _ = read([stream[:cut], stream[cut:]], BARE)

        assert bytes_of(events) == stream
        assert content_of(events) == text


def test_an_object_amid_bare_text_is_read_for_usage_and_is_no_text() -> None:
    events, _ = read(
        [b"data: hi\n\n", b"data: " + json.dumps({"usage": USAGE, "sources": ["a"]}).encode() + b"\n\n"], BARE
    )

    assert content_of(events) == "hi"
    assert events[-3].usage == Usage(input_tokens=3, output_tokens=4)


def test_a_body_of_text_is_read_piece_by_piece_however_its_characters_are_cut() -> None:
    text = "Grüße, 世界 🙂"
    pieces = [bytes([byte]) for byte in text.encode()]

    events, _ = read([*pieces, b""], BARE, bare=True)

    assert content_of(events) == text
    assert [event.data for event in events if event is not FLUSH and event.data] == pieces


def test_a_compressed_body_of_text_is_read_and_a_broken_one_passes() -> None:
    whole = gzip.compress(b"one two three")
    for body, text in ((whole, "one two three"), (whole[:10] + b"\xff" * 20, "")):
        events, _ = read([body[:5], body[5:]], BARE, bare=True)

        assert bytes_of(events) == body
        assert content_of(events) == text


def test_a_body_of_text_is_none_where_text_stands_in_a_field() -> None:
    events, _ = read([b"one two"], bare=True)

    assert bytes_of(events) == b"one two"
    assert content_of(events) == ""


def test_a_path_leads_through_objects_and_lists() -> None:
    value = {"answers": [{"text": "one"}, {"text": "two"}], "1": "x"}

    assert find(value, ("answers", "1", "text")) == "two"
    assert find(value, ("1",)) == "x"
    assert [find(value, path) for path in [(), ("answers", "9"), ("answers", "text"), ("1", "2")]] == [None] * 4


def test_usage_is_read_by_other_vendors_names_too() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 40}

    events, _ = read([said("", usage=usage)], whole=True)

    assert events[-1].usage == Usage(input_tokens=45, cached_input_tokens=40, output_tokens=2)


def test_a_body_that_is_no_text_counts_as_no_prompt() -> None:
    prompts = [bytes(MAPPING.as_request(body, "m").fields["prompt"]) for body in (b"Why?", b"\x89PNG")]

    assert prompts == [b'"Why?"', b'""']
