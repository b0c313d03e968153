"""Event streams by the letter of the standard, at every cut position.

The cases are those of the Web Platform Tests (`eventsource/format-*`) and of eventsource-parser's list.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.failure import Failure
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, PING, Decoder, Event, EventTooLarge, decode, encode

BOM = b"\xef\xbb\xbf"
FRAGMENTS = [
    b"data: ", b"data:", b"data", b"\n", b"\n\n", b"\r", b"\r\n", b": x", b"id: 1", b"event: e", b"retry: 2",
    b"data: x\n\n", b'data: {"a":1}\n\n', b'{"a":1}', b"[DONE]", b" ", b"x", b"\xc3\xa9", b"\xff", BOM,
    b"event: e\ndata: x\n\n", b'event: e\xff\ndata: {"a":1}\n',
]  # fmt: skip

# name: body, events
CASES: dict[str, tuple[bytes, list[Event]]] = {
    # WHATWG, the examples of 9.2.6
    "whatwg_example_1_lines_of_one_event_are_joined_by_lf": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [Event(b"YHOO\n+2\n10")],
    ),
    "whatwg_example_2_comments_and_ids": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [Event(b"first event", id="1"), Event(b"second event", id=""), Event(b" third event")],
    ),
    "whatwg_example_3_empty_data": (b"data\n\ndata\ndata\n\ndata:", [Event(b""), Event(b"\n")]),
    "whatwg_example_4_one_space_is_dropped": (b"data:test\n\ndata: test\n\n", [Event(b"test"), Event(b"test")]),
    # WPT eventsource/format-*
    "wpt_format_bom": (BOM + b"data:1\n\n" + BOM + b"data:2\n\ndata:3\n\n", [Event(b"1"), Event(b"3")]),
    "wpt_format_bom_2_a_second_bom_is_part_of_a_name": (BOM + BOM + b"data:1\n\ndata:2\n\n", [Event(b"2")]),
    "wpt_format_comments": (
        b"data:1\n:\0\ndata:2\n:" + b"x" * 2048 + b"\ndata:3\n:data:fail\n:" + b"x" * 2048 + b"\ndata:4\n\n",
        [Event(b"1\n2\n3\n4")],
    ),
    "wpt_format_data_before_final_empty_line_is_dropped": (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", [
        Event(b"test1", retry=1000)]),
    "wpt_format_field_data": (b"data:\n\ndata\ndata\n\ndata:test\n\n", [Event(b""), Event(b"\n"), Event(b"test")]),
    "wpt_format_field_event": (
        b"event:test\ndata:x\n\ndata:x\n\n", [Event(b"x", type="test"), Event(b"x")]),
    "wpt_format_field_event_empty": (b"event: \ndata:data\n\n", [Event(b"data")]),
    "wpt_format_field_id": (b"id: 1\ndata: 1\n\ndata:2\n\n", [Event(b"1", id="1"), Event(b"2")]),
    "wpt_format_field_id_null": (b"id: 1\0\ndata:a\n\nid: \0 2\ndata:b\n\n", [Event(b"a"), Event(b"b")]),
    "wpt_format_field_parsing": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\n"
        b"data:3\rdata:\r\n data:32\ndata:4\n\n",
        [Event(b"\0\n 2\n1\n3\n\n4")],
    ),
    "wpt_format_field_retry": (b"retry:3000\ndata:x\n\n", [Event(b"x", retry=3000)]),
    "wpt_format_field_retry_bogus": (b"retry:3000\nretry:1000x\ndata:x\n\n", [Event(b"x", retry=3000)]),
    "wpt_format_field_retry_empty": (b"retry\ndata:test\n\n", [Event(b"test")]),
    "wpt_format_field_unknown": (
        b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\n\n", [Event(b"test\n")]),
    "wpt_format_leading_space": (b"data:\ttest\rdata: \ndata:test\n\n", [Event(b"\ttest\n\ntest")]),
    "wpt_format_newlines": (b"data:test\r\ndata\ndata:test\r\n\r", [Event(b"test\n\ntest")]),
    "wpt_format_null_character": (b"data:\0\n\n\n\n", [Event(b"\0")]),
    "wpt_format_utf_8": ("data:ok…\n\n".encode(), [Event("ok…".encode())]),
    # eventsource-parser
    "blank_lines_between_events_are_nothing": (b"\n\n\ndata: 1\n\n\n\ndata: 2\n\n\n", [Event(b"1"), Event(b"2")]),
    "carriage_returns_alone_end_lines": (b"data: 1\r\rdata: 2\rdata: 3\r\r", [Event(b"1"), Event(b"2\n3")]),
    "crlf_ends_one_line_not_two": (b"data: 1\r\ndata: 2\r\n\r\n", [Event(b"1\n2")]),
    "line_ends_can_be_mixed": (b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\n", [Event(b"1"), Event(b"2"), Event(b"3")]),
    "a_colon_without_space_is_enough": (b"data:a:b\n\n", [Event(b"a:b")]),
    "only_one_space_is_stripped": (b"data:   a \n\n", [Event(b"  a ")]),
    "an_event_without_data_is_not_dispatched": (b"event: ping\n\nid: 1\n\nretry: 5\n\ndata: x\n\n", [Event(b"x")]),
    "type_id_and_retry_belong_to_one_block": (
        b"event: a\nid: 7\nretry: 9\ndata: x\n\ndata: y\n\n", [Event(b"x", "a", "7", 9), Event(b"y")]),
    "the_last_of_repeated_fields_wins": (b"event: a\nevent: b\nid: 1\nid: 2\ndata\n\n", [Event(b"", "b", "2")]),
    "retry_takes_digits_only": (
        b"retry: +5\ndata: 1\n\nretry: 5.0\ndata: 2\n\nretry: -5\ndata: 3\n\nretry: 1e3\ndata: 4\n\n",
        [Event(b"1"), Event(b"2"), Event(b"3"), Event(b"4")],
    ),
    "comments_with_colons_and_no_text": (b":\n::\n:data: x\n\ndata: y\n\n", [Event(b"y")]),
    "unknown_and_differently_cased_fields_are_ignored": (b"DATA: 1\ndate: 2\nxdata: 3\ndata: 4\n\n", [Event(b"4")]),
    "characters_of_several_bytes": ("data: 你好 👩‍🚀\n\n".encode(), [Event("你好 👩‍🚀".encode())]),
    "unicode_line_separators_end_no_line": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(), [Event("a\u2028b\u2029c\u0085d\x0be\x0cf".encode())]),
    "invalid_utf_8_becomes_replacement_characters": (b"data: a\xffb\xe2\x80\n\n", [Event("a\ufffdb\ufffd".encode())]),
    "nothing_at_all": (b"", []),
    "half_a_byte_order_mark": (b"\xef\xbb", []),
}  # fmt: skip


def strict(pieces: list[bytes]) -> list[Event]:
    return [event for event in decode(pieces) if event is not FLUSH]


def every_case(function: Any) -> Any:
    return pytest.mark.parametrize(("body", "events"), CASES.values(), ids=CASES.keys())(function)


@every_case
def test_conformance_in_one_read(body: bytes, events: list[Event]) -> None:
    assert strict([body]) == events


@every_case
def test_conformance_at_every_cut(body: bytes, events: list[Event]) -> None:
    for cut in range(len(body) + 1):
        assert strict([body[:cut], body[cut:]]) == events, cut


@every_case
def test_conformance_byte_by_byte(body: bytes, events: list[Event]) -> None:
    assert strict([bytes([byte]) for byte in body]) == events


@given(reads=st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map(b"".join)), lenient=st.booleans())
def test_any_bytes_are_the_same_events_however_they_are_cut(reads: list[bytes], lenient: bool) -> None:
    together, apart = Decoder(lenient=lenient), Decoder(lenient=lenient)
    events = [event for read in reads for event in together.feed(read)]
    assert events == [event for byte in b"".join(reads) for event in apart.feed(bytes([byte]))]
    assert together.finish() == apart.finish()


@every_case
def test_encoded_events_decode_to_themselves(body: bytes, events: list[Event]) -> None:
    assert strict([encode(event) for event in events]) == events


def test_an_event_is_there_with_its_blank_line_and_not_one_byte_later() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\n") == [Event(b"1")]


def test_a_carriage_return_at_the_end_of_a_read_ends_the_line_at_once() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\r\r") == [Event(b"1")]
    assert decoder.feed(b"\ndata: 2\r\n\r") == [Event(b"2")]
    assert decoder.feed(b"\n") == []


def test_flush_follows_every_piece_an_empty_one_too() -> None:
    events = list(decode([b"data: 1\n\ndata: 2\n\n", b"", b"da"]))
    assert [event is FLUSH for event in events] == [False, False, True, True, True]


def test_the_unfinished_last_block_is_visible() -> None:
    decoder = Decoder()
    decoder.feed(b"data: 1\n\nevent: e\ndata: 2\ndata: 3")
    assert decoder.finish() == Event(b"2\n3", type="e")


def test_a_finished_stream_leaves_nothing() -> None:
    decoder = Decoder()
    decoder.feed(b"data: 1\n\n: x\n")
    assert decoder.finish() is None


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_bound_holds_for_one_line_however_it_is_cut(step: int) -> None:
    body = b"data: ok\n\ndata: " + b"x" * 100 + b"\n\n"
    decoder = Decoder(limit=64)
    events: list[Event] = []
    with pytest.raises(EventTooLarge):
        for start in range(0, len(body), step):
            events += decoder.feed(body[start : start + step])
        decoder.finish()
    assert events == [Event(b"ok")]


def test_the_bound_holds_for_many_lines() -> None:
    decoder = Decoder(limit=64)
    with pytest.raises(EventTooLarge):
        for _ in range(64):
            decoder.feed(b"data:\n")


def test_a_line_that_says_nothing_counts_as_the_memory_that_it_takes() -> None:
    decoder = Decoder(limit=64_000)
    decoder.feed(b"data:\n" * 900)
    with pytest.raises(EventTooLarge):
        decoder.feed(b"data:\n" * 200)


def test_an_event_of_just_the_bound_passes() -> None:
    assert Decoder(limit=64).feed(b"data: " + b"x" * 58 + b"\n\n") == [Event(b"x" * 58)]


def test_comments_do_not_count_and_are_not_kept() -> None:
    decoder = Decoder(limit=64)
    for _ in range(100):
        assert decoder.feed(b": " + b"x" * 50) == []
    assert decoder.feed(b"\ndata: 1\n\n") == [Event(b"1")]


def test_a_terminated_decoder_stays_terminated() -> None:
    decoder = Decoder(limit=8)
    for _ in range(2):
        with pytest.raises(EventTooLarge) as caught:
            decoder.feed(b"data: 123456789")
    assert isinstance(caught.value, Failure) and caught.value.status == 502


def test_one_large_event_in_single_bytes_costs_no_more_than_its_bytes() -> None:
    decoder = Decoder()
    for _ in range(200_000):
        decoder.feed(b"x")
    # Linear: fragments are kept, not joined, until the line ends.
    assert len(decoder._tail) == 200_000


def test_encode_is_one_block_with_one_space_and_lf_only() -> None:
    assert encode(Event(b"x")) == b"data: x\n\n"
    assert encode(Event(b"a\nb")) == b"data: a\ndata: b\n\n"
    assert encode(Event(b"x", "t", "1", 5)) == b"event: t\nid: 1\nretry: 5\ndata: x\n\n"
    assert encode(Event(DONE)) == b"data: [DONE]\n\n"


def test_encode_lets_no_field_break_out_of_its_line() -> None:
    event = Event(b"a\r\nb\rc", type="t\r\ndata: evil", id="1\n2\0")
    assert encode(event) == b"event: tdata: evil\nid: 12\ndata: a\ndata: b\ndata: c\n\n"


def test_the_ping_has_one_newline_and_is_no_event() -> None:
    assert PING.count(b"\n") == 1
    assert strict([PING, encode(Event(b"x")), PING]) == [Event(b"x")]


# What servers send instead of events; the standard decoder ignores all of it.
LENIENT: dict[str, tuple[bytes, list[bytes]]] = {
    "single_newlines_between_events": (b'data: {"a":1}\ndata: {"a":2}\ndata: [DONE]\n', [b'{"a":1}', b'{"a":2}', DONE]),
    "a_bare_end_mark": (b'data: {"a":1}\n\n[DONE]\n\n', [b'{"a":1}', DONE]),
    "a_bare_object": (b'data: {"a":1}\n\n{"error":1}\n', [b'{"a":1}', b'{"error":1}']),
    "a_bare_object_on_several_lines": (b'{\n"error": 1\n}\n\n', [b'{\n"error": 1\n}']),
    "an_object_on_several_data_lines": (b'data: {\ndata: "a": {}\ndata: }\n\n', [b'{\n"a": {}\n}']),
    "an_object_in_a_field_called_error": (b'data: {"a":1}\n\nerror: {"code":500}\n\n', [b'{"a":1}', b'{"code":500}']),
    "json_lines": (b'{"a":1}\n{"a":2}\n', [b'{"a":1}', b'{"a":2}']),
}


@pytest.mark.parametrize(("body", "datas"), LENIENT.values(), ids=LENIENT.keys())
def test_lenient_reading_at_every_cut(body: bytes, datas: list[bytes]) -> None:
    for cut in range(len(body) + 1):
        decoder = Decoder(lenient=True)
        assert [event.data for event in decoder.feed(body[:cut]) + decoder.feed(body[cut:])] == datas
        assert decoder.finish() is None


def test_a_sentence_in_a_field_called_error_is_one_too() -> None:
    assert Decoder(lenient=True).feed(b"Error: out of memory\n\n") == [Event(b"out of memory", "error")]


def test_an_object_in_a_field_called_error_is_an_event_of_that_type() -> None:
    body = b'error: {"code":500}\n\ndata: {"a":1}\n\nerror: none\n\n'

    assert Decoder(lenient=True).feed(body) == [Event(b'{"code":500}', "error"), Event(b'{"a":1}'), HEARTBEAT]
    assert Decoder().feed(body) == [Event(b'{"a":1}')]


def test_a_block_that_says_nothing_is_a_heartbeat_to_who_reads_leniently() -> None:
    body = b': a\n: b\n\nevent: ping\n\n\n: c\ndata: {"a":1}\n\ndata: {"a":2}\n: d\n\n: e'
    for cut in range(len(body) + 1):
        decoder = Decoder(lenient=True)
        events = decoder.feed(body[:cut]) + decoder.feed(body[cut:])
        assert events == [HEARTBEAT, HEARTBEAT, Event(b'{"a":1}'), Event(b'{"a":2}')]
    assert Decoder().feed(b": a\n\nevent: ping\n\n") == []


def test_lenient_events_flow_at_their_own_line_end() -> None:
    decoder = Decoder(lenient=True)
    assert decoder.feed(b'data: {"a":1}\n') == [Event(b'{"a":1}')]
    assert decoder.feed(b"\n") == []
