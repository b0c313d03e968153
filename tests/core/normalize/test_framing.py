"""Framing repair: what is no JSON object is put right, dropped or an error."""

from __future__ import annotations

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize.bodies import Doubt
from sseproxy.core.normalize.framing import repair_framing
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event
from tests.core.normalize.making import assert_passes_flush_at_once, bodies


def repair(*events: Event | bytes) -> list[Event]:
    raw = [Event(event) if isinstance(event, bytes) else event for event in events]
    return list(repair_framing(iter(raw), Shapes()))


@pytest.mark.parametrize(
    "data", [b"", b" ", b"null", b"[]", b"7", b": keepalive", b"2024-04-07 20:20:50.554328", b"{}"]
)
def test_what_says_nothing_is_a_heartbeat(data: bytes) -> None:
    assert repair(data) == [HEARTBEAT]


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] ", b'"[DONE]"', b"data: [DONE]", b"[done]", b"[Done] "])
def test_the_end_mark_is_found(data: bytes) -> None:
    assert [event.data for event in repair(data)] == [DONE]


def test_ping_events_are_heartbeats_unless_the_protocol_has_them() -> None:
    ping = Event(b'{"type":"ping"}', type="ping")
    assert repair(ping) == [HEARTBEAT]
    assert [event.type for event in repair_framing(iter([ping]), Shapes(), pings=True)] == ["ping"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1}\n{"a":2}',
        b'{"a":1}{"a":2}',
        b'{"a":1} data: {"a":2}',
        b'[{"a":1},{"a":2}]',
        b'data: {"a":1}\ndata: {"a":2}',
        b'{"a":1},{"a":2}',
    ],
)
def test_chunks_that_share_an_event_are_told_apart(data: bytes) -> None:
    assert bodies(repair(data)) == [{"a": 1}, {"a": 2}]


def test_an_object_over_several_lines_is_one() -> None:
    assert bodies(repair(b'{\n"a": 1\n}')) == [{"a": 1}]


def test_an_end_mark_glued_to_a_chunk_still_ends() -> None:
    assert [event.data for event in repair(b'{"a":1}\n[DONE]')][1:] == [DONE]


def test_a_chunk_written_as_a_json_string_is_read() -> None:
    assert bodies(repair(rb'"{\"a\":1}"')) == [{"a": 1}]
    for data in (rb'"{\"a\":"', rb'"{\"a\"'):
        (event,) = repair(data)
        assert event.error is not None


def test_broken_json_is_an_error_for_it_may_have_been_text() -> None:
    (event,) = repair(b'{"choices":[{"delta":{"content":"x"}')
    assert event.error is not None and event.error.type == "upstream_invalid_stream"


def test_an_error_amid_broken_json_is_believed() -> None:
    assert bodies(repair(b'{"id":"ch\n{"error":{"message":"lost"}}')) == [{"error": {"message": "lost"}}]


def test_a_good_line_amid_broken_json_is_not_enough() -> None:
    (event,) = repair(b'{"id":"ch\n{"choices":[]}')
    assert event.error is not None


@pytest.mark.parametrize(
    "data",
    [
        b"error",
        b"Error: CUDA out of memory",
        b"ERROR - out of memory",
        b"error|out of memory",
        b"[ERROR] out of memory",
        b"Error in stream: out of memory",
        b"An error occurred while processing your request.",
        b"openai.RateLimitError: Error code: 429",
        b"Internal Server Error",
        b'"Error: out of memory"',
    ],
)
def test_words_that_call_themselves_an_error_are_one(data: bytes) -> None:
    (failed,) = repair(data)
    assert failed.error is not None and failed.error.message == data.decode().strip('"')


@pytest.mark.parametrize(
    "data", [b"Errors are human", b"error-free", b"No error: all is well", b"Rate limit exceeded", b'"alive"', b"alive"]
)
def test_other_words_may_be_a_failure_or_a_heartbeat(data: bytes) -> None:
    (doubt,) = repair(data)
    assert isinstance(doubt, Doubt) and doubt.failure is not None
    assert doubt.failure.message == data.decode().strip('"') and doubt.error is None


@pytest.mark.parametrize("event", [Event(b"out of memory", type="error"), b"Error: out of memory", b"error"])
def test_an_error_in_plain_text_is_an_error(event: Event | bytes) -> None:
    (failed,) = repair(event)
    assert failed.error is not None and failed.error.message in ("out of memory", "Error: out of memory", "error")


@pytest.mark.parametrize("data", [b'{"a":"\\ud83d"}', b'{"a":NaN}', b'{"a":"\t"}', b'{"a":1e400}'])
def test_json_as_servers_write_it_is_read(data: bytes) -> None:
    assert len(bodies(repair(data))) == 1


def test_nesting_without_end_is_an_error_not_a_crash() -> None:
    (event,) = repair(b'{"a":' * 100_000)
    assert event.error is not None


def test_errors_that_are_known_already_pass_in_canonical_form() -> None:
    (event,) = repair(Event(b"whatever", error=UpstreamFailure("lost"), read=True))
    assert event.data.startswith(b'{"error":{"message":"lost"')


def test_flush_passes_at_once() -> None:
    assert repair(FLUSH)[0] is FLUSH
    assert_passes_flush_at_once(lambda events: repair_framing(events, Shapes()))


def test_data_comes_out_as_chunks() -> None:
    (event,) = repair(b'{"a":1}')
    assert type(event) is Chunk and event.data == b'{"a":1}'
