"""Errors leave a stream as one event, behind what stands beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize import events_of, normalize
from sseproxy.core.normalize.bodies import Doubt
from sseproxy.core.normalize.lifting import lift_failures
from sseproxy.core.redact import Redactor
from sseproxy.core.sse import DONE, FLUSH
from tests.core.normalize.making import assert_passes_flush_at_once, bodies, chunk, through

TOOL = {"tool_result": {"name": "search", "error": {"message": "not found"}}, "type": "tool"}


def test_text_beside_an_error_comes_first() -> None:
    event = chunk({"content": "x"}, "error", error={"message": "m"})
    text, error = through(lift_failures, event)
    assert bodies([text]) == [{"choices": [{"index": 0, "delta": {"content": "x"}}]}]
    assert error.error is not None
    assert json.loads(error.data)["error"] == {"message": "m", "type": "upstream_error", "param": None, "code": None}


def test_an_error_without_text_leaves_no_chunk() -> None:
    (event,) = through(lift_failures, chunk({"content": ""}, "error"))
    assert event.error is not None


def test_what_an_error_cost_is_told_before_it() -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 22, "cost": 0.00123}
    told, event = through(lift_failures, chunk({"content": ""}, "error", error={"message": "m"}, usage=usage))

    assert bodies([told]) == [{"choices": [], "usage": usage}]
    assert event.error is not None


def test_groq_s_own_error_ends_the_answer_and_is_not_passed_on() -> None:
    groq = {"id": "req_1", "error": "Service unavailable"}
    text, error = through(lift_failures, chunk({"content": "x"}, x_groq=groq))

    assert bodies([text])[0]["x_groq"] == {"id": "req_1"}
    assert error.error is not None and error.error.message == "Service unavailable"


def test_other_chunks_and_flush_pass() -> None:
    event = chunk({"content": "x"})
    assert through(lift_failures, event) == [event]
    assert_passes_flush_at_once(lift_failures)


def test_the_event_type_makes_a_flat_error() -> None:
    (event,) = through(lift_failures, Chunk(type="error", body={"message": "m", "code": 401}))
    assert event.error is not None and event.error.status == 401


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_may_be_an_error_passes_without_keys(depth: int) -> None:
    text = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    inside = b'{"error":{"message":"Incorrect API key provided: sk-proj-1234567890"}}'
    for _ in range(depth):
        inside = b'{"output":%b}' % inside

    body = [text, b"data: %b\n\n" % inside]
    events = through(lambda events: normalize(events, api="chat", redact=Redactor()), *events_of(body))

    assert events[-1].error is not None and b"[key]" in events[-2].data
    assert not any(b"sk-proj" in event.data for event in events)


@pytest.mark.parametrize("body", [TOOL, {"name": "search", "x": {"Error": "not found"}}])
def test_an_error_in_an_object_of_any_name_may_be_a_failure(body: dict[str, Any]) -> None:
    event, doubt = through(lift_failures, Chunk(body=body))

    assert isinstance(event, Chunk) and event.body == body
    assert isinstance(doubt, Doubt) and doubt.failure is not None and doubt.failure.message == "not found"


def stream(*bodies: dict[str, Any] | str) -> list[dict[str, Any]]:
    data = b"".join(b"data: %b\n\n" % (each if isinstance(each, str) else json.dumps(each)).encode() for each in bodies)
    events = [event.data for event in normalize(events_of([data]), api="chat") if event is not FLUSH]
    return [json.loads(each) for each in events if each != DONE] + [{}] * (events[-1] == DONE)


def test_the_error_of_a_tool_ends_no_answer_that_goes_on() -> None:
    text, stop = chunk({"content": "x"}).body, chunk({}, "stop").body

    *_, last, end = stream(text, TOOL, text, stop, "[DONE]")
    assert end == {} and last["choices"][0]["finish_reason"] == "stop"
    *_, last = stream(text, TOOL, "[DONE]")
    assert last["error"]["message"] == "not found"
    (only,) = stream(TOOL, "[DONE]")
    assert only["error"]["message"] == "not found"
