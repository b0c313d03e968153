"""Typed streams pass through, repaired, and end for certain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sseproxy.core.chat import Api
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.normalize import completion_of, events_of, failure_events, normalize
from sseproxy.core.normalize.end import HEARTBEATS
from sseproxy.core.sse import FLUSH, Event

COMPLETED = {"type": "response.completed", "response": {"status": "completed", "output": []}}
STOP = {"type": "message_stop"}
FAILED = {"responses": ["error", "response.failed"], "messages": ["error"]}


def block(body: dict[str, Any] | str, type: str = "") -> bytes:
    data = body if isinstance(body, str) else json.dumps(body)
    return (f"event: {type}\n" if type else "").encode() + f"data: {data}\n\n".encode()


def run(api: Api, *blocks: bytes) -> list[Event]:
    return [event for event in normalize(events_of([b"".join(blocks)]), api=api) if event is not FLUSH]


def test_events_keep_their_own_bytes() -> None:
    raw = '{"type": "response.metadata",  "response": {"x": 1.50}}'
    first, last = run("responses", block(raw, "response.metadata"), block(COMPLETED))
    assert first.data.decode() == raw
    assert last.type == "response.completed"


@pytest.mark.parametrize(("line", "own"), [("", "a.b"), ("other", "a.b"), ("a.b", ""), ("a.b", None)])
def test_line_and_json_agree_on_the_type(line: str, own: Any) -> None:
    body = {"x": 1} if own is None else {"type": own, "x": 1}
    first = run("responses", block(body, line), block(COMPLETED))[0]
    assert first.type == "a.b" == json.loads(first.data)["type"]


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed", "cancelled"])
def test_nothing_follows_a_terminal_event(kind: str) -> None:
    terminal = block({"type": f"response.{kind}", "response": {}})
    events = run("responses", terminal, block({"type": "response.late"}), block("[DONE]"))
    assert [event.type for event in events] == [f"response.{kind}"]


def test_pings_pass_in_messages_and_the_end_mark_does_not() -> None:
    events = run("messages", block({"type": "ping"}, "ping"), block("[DONE]"), block(STOP))
    assert [event.type for event in events] == ["ping", "message_stop"]


@pytest.mark.parametrize(
    ("api", "body", "message"),
    [
        ("responses", {"type": "error", "code": "c", "message": "m"}, "m"),
        ("responses", {"error": {"message": "m", "code": "c"}}, "m"),
        ("responses", {"type": "response.failed", "response": {"error": {"code": "c", "message": "m"}}}, "m"),
        ("responses", {"type": "response.failed", "response": {}}, "The upstream's response failed."),
        ("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "m"),
        ("messages", {"type": "error", "error": "m"}, "m"),
        ("messages", {"detail": "m"}, "m"),
    ],
)
def test_every_error_is_one_an_sdk_raises_on(api: Api, body: dict[str, Any], message: str) -> None:
    _, *events = run(api, block({"type": "something"}), block(body))
    assert [event.type for event in events] == FAILED[api]
    assert events[-1].error is not None and events[-1].error.message == message
    assert {json.loads(event.data)["error"]["message"] for event in events} == {message}


@pytest.mark.parametrize("api", ["responses", "messages"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_that_only_the_event_line_calls_one_keeps_its_own_type(api: Api, wrapped: bool) -> None:
    error = {"code": 500, "message": "m", "type": "server_error"}
    failed = block({"type": "server_error", "error": error} if wrapped else error, "error")
    _, *events = run(api, block({"type": "something"}), failed)
    failure, told = events[-1].error, [json.loads(event.data) for event in events]
    assert failure is not None and (failure.message, failure.status) == ("m", 500)
    assert [event.type for event in events] == [each["type"] for each in told] == FAILED[api]
    assert all((each["error"]["message"], each["error"]["type"]) == ("m", "server_error") for each in told)


def test_a_message_that_the_upstream_does_not_begin_is_begun() -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "🐉"}}
    blocks = [block(body, str(body["type"])) for body in ({"type": "ping"}, start, delta, delta, STOP)]
    raw = normalize(events_of([b"".join(blocks)]), api="messages", model="m", make_id=lambda: "1")
    events = [event for event in raw if event is not FLUSH]
    kinds = ["ping", "message_start", "content_block_start", "content_block_delta", "content_block_delta"]
    assert [event.type for event in events] == [*kinds, "message_stop"]
    message = json.loads(events[1].data)["message"]
    assert (message["id"], message["role"], message["model"], message["content"]) == ("msg_1", "assistant", "m", [])
    assert events[1].usage is None


HEL, LO = (
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in ("Hel", "lo")
)
END: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
NAMELESS = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
NAMED = {"type": "message_start", "message": {**NAMELESS["message"], "id": "n"}}


@pytest.mark.parametrize(
    ("bodies", "starts"),
    [
        ([HEL, NAMED, LO, END], 1),
        ([HEL, LO, END, NAMED], 1),
        ([HEL, LO, {**END, "usage": {"input_tokens": 0, "output_tokens": 5}}, NAMED], 1),
        ([NAMELESS, HEL, LO, END], 1),
        ([NAMELESS, HEL, NAMELESS, LO, END], 2),
    ],
)
def test_a_message_that_begins_late_or_without_an_id_is_one(bodies: list[dict[str, Any]], starts: int) -> None:
    raw = [block(body, str(body["type"])) for body in (*bodies, STOP)]
    events = [event for event in normalize(events_of(raw), api="messages") if event is not FLUSH]
    kinds, message = [event.type for event in events], json.loads(completion_of(iter(events), "messages"))

    assert (kinds[0], kinds.count("message_start")) == ("message_start", starts)
    assert json.loads(events[0].data)["message"]["id"] == message["id"] != ""
    assert ([each["text"] for each in message["content"]], message["stop_reason"]) == (["Hello"], "end_turn")
    assert message["usage"] == {"input_tokens": 9, "output_tokens": 5}


def test_a_message_says_where_its_content_and_usage_are_to_go_and_each_delta_of_it_says_usage() -> None:
    begun, end = {"type": "message_start"}, {**END, "usage": None}
    start, _, delta, _ = run("messages", *(block(body, str(body["type"])) for body in (begun, HEL, end, STOP)))

    message = json.loads(start.data)["message"]
    assert (message["role"], message["content"], start.usage) == ("assistant", [], None)
    assert json.loads(delta.data)["usage"] == {"output_tokens": 0} and delta.usage is None


def test_usage_that_a_delta_only_repeats_says_nothing_of_the_text_before_it() -> None:
    bare = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    _, stated, _, repeated, _ = run("messages", *(block(body, str(body["type"])) for body in (END, HEL, bare, STOP)))

    assert json.loads(repeated.data)["usage"] == json.loads(stated.data)["usage"] == {"output_tokens": 5}
    assert stated.usage is not None and repeated.usage is None


def test_usage_that_a_delta_is_given_as_it_has_none_is_no_statement() -> None:
    bare = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    events = run("messages", *(block(body, str(body["type"])) for body in (NAMED, NAMED, HEL, bare, STOP)))

    assert json.loads(events[3].data)["usage"] == {"output_tokens": 0} and events[3].usage is None


@pytest.mark.parametrize("api", ["responses", "messages"])
def test_a_stream_that_breaks_off_ends_in_an_error_event(api: Api) -> None:
    events = run(api, block({"type": "something"}))
    assert [event.type for event in events] == ["something", *FAILED[api]]
    assert events[-1].error is not None and events[-1].error.type == "upstream_truncated"
    assert [json.loads(event.data)["type"] for event in events] == ["something", *FAILED[api]]


@pytest.mark.parametrize("api", ["responses", "messages"])
@pytest.mark.parametrize("said", [{"outcome": {"error": {"message": "Out of credit."}}}, "Out of credit."])
def test_what_may_be_a_failure_says_why_a_stream_broke_off_behind_it(api: Api, said: dict[str, Any] | str) -> None:
    *_, last = run(api, block({"type": "something"}), block(said))
    assert last.error is not None and last.error.message == "Out of credit."
    *_, gone = run(api, block(said), block({"type": "something"}))
    assert gone.error is not None and gone.error.type == "upstream_truncated"


@pytest.mark.parametrize("api", ["responses", "messages"])
def test_an_error_in_some_object_that_is_all_there_is_is_told_and_words_alone_are_not(api: Api) -> None:
    *_, last = run(api, block({"outcome": {"error": {"message": "Out of credit."}}}))
    assert last.error is not None and last.error.message == "Out of credit."
    *_, strange = run(api, block("alive"))
    assert strange.error is not None and strange.error.type == "upstream_invalid_stream"


def test_an_error_in_some_object_ends_no_message_that_goes_on() -> None:
    tool = block({"outcome": {"error": {"message": "No such page."}}})
    assert run("messages", block({"type": "something"}), tool, block(STOP))[-1].type == "message_stop"


@pytest.mark.parametrize("api", ["responses", "messages"])
def test_a_failing_connection_ends_in_an_error_event(api: Api) -> None:
    raw = [Event(b'{"type":"x"}'), Event(error=UpstreamFailure("gone"), read=True)]
    assert [event.type for event in normalize(iter(raw), api=api)] == ["x", *FAILED[api]]


@pytest.mark.parametrize("body", [b"", b"data: [DONE]\n\n", b'data: {"choices":[]}\n\n', b"<html>"])
def test_what_is_no_event_of_the_api_is_never_an_empty_success(body: bytes) -> None:
    (event,) = run("responses", body)
    assert event.type == "response.failed" and event.error is not None


@pytest.mark.parametrize(
    ("failure", "type"),
    [
        (UpstreamFailure("gone", type="upstream_truncated", status=502), "api_error"),
        (UpstreamFailure("m", type="overloaded_error", status=529), "overloaded_error"),
        (Failure("no more", type="insufficient_quota", status=429), "rate_limit_error"),
    ],
)
def test_a_message_that_fails_midway_has_anthropic_s_type(failure: Failure, type: str) -> None:
    (event,) = failure_events(failure, "messages")
    assert json.loads(event.data)["error"]["type"] == type and event.error is failure


def test_errors_say_what_usage_was_known() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    last = run("messages", block(start))[-1]
    assert last.usage is not None and last.usage.input_tokens == 9


def test_traps_for_naive_readers_are_escaped() -> None:
    (event, _) = run("messages", block('{"type":"x","t":"data: \u2028"}'), block(STOP))
    assert event.data == rb'{"type":"x","t":"data:\u0020\u2028"}'


def test_a_repeated_whole_message_is_dropped_and_a_lone_one_replayed() -> None:
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]}
    assert [event.type for event in run("messages", block({"type": "y"}), block(message), block(STOP))] == [
        "y", "message_stop",
    ]  # fmt: skip
    events = run("messages", json.dumps(message).encode())
    assert [event.type for event in events] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert "".join(event.content for event in events) == "x"


def test_a_whole_response_that_failed_says_why() -> None:
    answer = {"object": "response", "status": "failed", "error": {"code": "c", "message": "m"}, "output": []}
    last = run("responses", json.dumps(answer).encode())[-1]
    assert last.type == "response.failed" and last.error is not None and last.error.message == "m"


DELTA = block({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})


@pytest.mark.parametrize("tail", [[], [b"data: [DONE]\n\n"], [b"", b""], [b"data: {"]])
def test_a_message_that_lacks_only_its_last_event_gets_it(tail: list[bytes]) -> None:
    events = [event for event in normalize(events_of([DELTA, *tail]), api="messages") if event is not FLUSH]
    assert [event.type for event in events] == ["message_start", "message_delta", "message_stop"]


@pytest.mark.parametrize(
    "heartbeat", [b": ping\n\n", b"event: ping\n\n", block({"type": "ping"}, "ping"), block("null")]
)
def test_a_message_is_not_kept_open_by_heartbeats(heartbeat: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield DELTA
        for _ in range(HEARTBEATS):
            yield heartbeat
        pytest.fail("it waits on")

    assert [*normalize(events_of(pieces()), api="messages")][-1].type == "message_stop"


def test_one_without_a_stop_reason_does_not() -> None:
    assert run("messages", block({"type": "message_delta", "delta": {}}))[-1].error is not None


def test_events_flow_one_by_one() -> None:
    asked = 0

    def source() -> Any:
        nonlocal asked
        for kind in ("a", "b", "message_stop"):
            asked += 1
            yield Event(b'{"type":"%s"}' % kind.encode())

    events = normalize(source(), api="messages")
    assert [(next(events).type, asked) for _ in range(3)] == [("a", 1), ("b", 2), ("message_stop", 3)]
