"""A Responses stream ends with its whole answer, or says once, in ``response.failed``, that it failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import completion_of, events_of, failure_events, normalize, responses
from sseproxy.core.redact import Redactor
from sseproxy.core.sse import FLUSH, Event
from sseproxy.core.usage import Usage

RESPONSE = {"id": "resp_1", "object": "response", "created_at": 5, "model": "m", "status": "in_progress", "output": []}
CREATED = {"type": "response.created", "sequence_number": 0, "response": RESPONSE}
DELTA = {"type": "response.output_text.delta", "sequence_number": 1, "output_index": 0, "delta": "a"}
ERROR = {"type": "error", "error": {"type": "server_error", "code": "server_is_overloaded", "message": "Overloaded."}}
REASON = {"code": "server_is_overloaded", "message": "Overloaded."}
FAILED = {
    "type": "response.failed",
    "sequence_number": 3,
    "response": {**RESPONSE, "status": "failed", "error": REASON, "usage": {"input_tokens": 11, "output_tokens": 22}},
}


def blocks(*bodies: dict[str, Any] | str) -> bytes:
    texts = (body if isinstance(body, str) else json.dumps(body) for body in bodies)
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


def run(*pieces: bytes, **options: Any) -> list[Event]:
    events = normalize(events_of(pieces), api="responses", make_id=lambda: "made", now=lambda: 7.5, **options)
    return [event for event in events if event is not FLUSH]


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def test_the_first_events_have_a_whole_response_where_llama_cpp_tells_half_of_one() -> None:
    half = {"id": "resp_9", "object": "response", "status": "in_progress", "model": None}
    told = [{"type": f"response.{kind}", "response": half} for kind in ("created", "queued", "in_progress")]
    late = {"type": "response.completed", "response": {"id": "resp_9", "status": "completed", "output": []}}

    *begun, last = (json.loads(event.data) for event in run(blocks(*told, late), model="m"))

    assert begun == [{**body, "response": {**half, "created_at": 7, "model": "m", "output": []}} for body in told]
    assert last == late


def test_a_response_that_is_told_without_any_id_keeps_the_one_it_is_given() -> None:
    bare: list[dict[str, Any]] = [{"type": f"response.{kind}", "response": {}} for kind in ("created", "in_progress")]
    made = iter("ab")
    events = normalize(events_of([blocks(*bare)]), api="responses", make_id=lambda: next(made), now=lambda: 7.5)

    bodies = [json.loads(event.data) for event in events if event is not FLUSH]

    assert [body["response"]["id"] for body in bodies if "response" in body] == ["resp_a"] * 3
    assert bodies[-1]["response"]["status"] == "failed"


@pytest.mark.parametrize("between", [[], [{"type": "keepalive"}], [DELTA, DELTA]])
def test_an_error_and_its_failed_response_are_one_failure_with_the_usage(between: list[dict[str, Any]]) -> None:
    *_, last = events = run(blocks(CREATED, DELTA, ERROR, *between, FAILED, {"type": "response.late"}))

    assert types(events) == ["response.created", "response.output_text.delta", "error", "response.failed"]
    assert json.loads(last.data) == {**FAILED, "error": {**ERROR["error"], "param": None}}  # type: ignore[dict-item]
    assert last.error is not None and (last.error.code, last.error.message) == ("server_is_overloaded", "Overloaded.")
    assert last.usage == Usage(11, 0, 0, 22)
    assert sum(event.error is not None for event in events) == 1


@pytest.mark.parametrize("tail", [[], [b"", b""], [blocks("[DONE]"), b"", b"", blocks(FAILED)], [blocks(DELTA) * 200]])
def test_an_error_alone_becomes_the_failure_of_the_response_that_was_begun(tail: list[bytes]) -> None:
    *_, last = events = run(blocks(CREATED, DELTA, ERROR), *tail)

    assert types(events) == ["response.created", "response.output_text.delta", "error", "response.failed"]
    assert json.loads(last.data) == {
        "type": "response.failed",
        "sequence_number": 3,
        "response": {**RESPONSE, "status": "failed", "error": REASON},
        "error": {**ERROR["error"], "param": None},  # type: ignore[dict-item]
    }


@pytest.mark.parametrize(("silence", "most"), [(b"", 2), (b": ping\n\n", 10), (blocks("alive"), 10)])
def test_what_follows_an_error_is_waited_for_no_longer_than_two_silences_or_ten_heartbeats(
    silence: bytes, most: int
) -> None:
    def pieces() -> Iterator[bytes]:
        yield blocks(CREATED, ERROR)
        yield from [silence] * most
        pytest.fail("it waits on")

    assert types(run(*[])) == ["response.failed"]
    events = normalize(events_of(pieces()), api="responses")
    assert [event.type for event in events if event is not FLUSH] == ["response.created", "error", "response.failed"]


def test_a_failed_response_behind_some_heartbeats_is_waited_for_with_its_usage() -> None:
    *_, last = run(blocks(CREATED, ERROR), *[b": ping\n\n"] * 5, blocks(FAILED))

    assert last.usage == Usage(11, 0, 0, 22)


@pytest.mark.parametrize(
    "body", [{"type": "error", "message": "m", "code": 429}, {"error": {"message": "m", "code": 429}}]
)
def test_a_failure_before_anything_is_that_of_a_response_made_up(body: dict[str, Any]) -> None:
    (event,) = run(blocks(body), model="asked")

    assert event.error is not None and event.error.status == 429
    response = json.loads(event.data)["response"]
    assert (response["id"], response["created_at"], response["model"]) == ("resp_made", 7, "asked")
    assert (response["status"], response["error"]) == ("failed", {"code": "429", "message": "m"})


def test_a_stream_that_breaks_off_fails_the_response_that_was_begun() -> None:
    last = run(blocks(CREATED, DELTA))[-1]

    told = json.loads(last.data)
    assert (told["response"]["id"], told["sequence_number"]) == ("resp_1", 3)
    assert told["response"]["error"]["code"] == told["error"]["code"] == "upstream_truncated"


@pytest.mark.parametrize("error", [None, {}, {"code": None, "message": ""}, "none"])
def test_a_failed_response_that_gives_no_reason_gets_one(error: Any) -> None:
    response = {**RESPONSE, "status": "failed", "error": error}
    last = run(blocks(CREATED, {"type": "response.failed", "response": response}))[-1]

    assert last.error is not None
    reason = {"code": "upstream_error", "message": "The upstream's response failed."}
    assert json.loads(last.data)["response"] == {**response, "error": reason}


def test_neither_of_the_events_of_a_failure_quotes_a_key() -> None:
    reason = {"code": "invalid_api_key", "message": "Incorrect API key provided: sk-proj-1234567890"}
    *_, error, last = run(blocks(CREATED, {"type": "error", "error": reason}), redact=Redactor())

    assert (error.type, last.type) == ("error", "response.failed")
    assert b"[key]" in error.data and b"[key]" in last.data
    assert b"sk-proj" not in error.data + last.data


@pytest.mark.parametrize("failure", [[ERROR], [ERROR, FAILED], [FAILED]])
def test_a_failure_is_told_by_an_error_too_in_both_of_its_forms(failure: list[dict[str, Any]]) -> None:
    *_, error, last = run(blocks(CREATED, DELTA, *failure))

    told = json.loads(error.data)
    assert (error.type, told["type"], told["sequence_number"]) == ("error", "error", 2)
    assert {name: told[name] for name in ("code", "message", "param")} == {**REASON, "param": None}
    assert told["error"].items() >= {**REASON, "param": None}.items() and isinstance(told["error"]["type"], str)
    assert json.loads(last.data)["sequence_number"] == 3


@pytest.mark.parametrize("known", [[], [CREATED]])
def test_a_failure_read_again_is_the_same(known: list[dict[str, Any]]) -> None:
    events = run(blocks(*known, {"type": "error", "error": {"message": "m", "type": "t"}}))
    again = run(blocks(*(event.data.decode() for event in events)))

    assert [event.data for event in again] == [event.data for event in events]
    last = again[-1]
    assert last.error is not None and (last.error.type, last.error.message) == ("t", "m")


def test_a_failure_of_the_proxy_s_own_has_the_same_form() -> None:
    (error, event) = failure_events(UpstreamFailure("m", type="budget_exceeded", code="c"), "responses")

    assert json.loads(error.data)["message"] == "m" and error.error is None
    told = json.loads(event.data)
    assert (event.type, told["type"], told["sequence_number"]) == ("response.failed", "response.failed", 1)
    assert told["response"]["status"] == "failed"
    assert told["response"]["error"] == {"code": "c", "message": "m"}
    assert told["error"] == {"message": "m", "type": "budget_exceeded", "param": None, "code": "c"}


def item(id: str, text: str = "ab", status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def done(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def text(piece: Any, index: int = 0, part: int = 0, **fields: Any) -> dict[str, Any]:
    place = {"output_index": index, "content_index": part}
    return {"type": "response.output_text.delta", **place, "delta": piece, **fields}


@pytest.mark.parametrize("left_out", [{}, {"output": None}, {"output": []}])
@pytest.mark.parametrize("kind", ["completed", "incomplete", "cancelled"])
@pytest.mark.parametrize(
    ("told", "output"),
    [
        ([done(1, item("b")), done(0, item("a"))], [item("a"), item("b")]),
        ([text("x", item_id="a"), done(0, item("a"))], [item("a")]),
        ([done(0, item("a")), text("x", item_id="a")], [item("a")]),
        ([done(0, item("a")), done(1, 5), done("2", item("c"))], [item("a")]),  # type: ignore[arg-type]
        ([], None),
    ],
)
def test_a_last_event_without_the_output_gets_what_was_streamed(
    told: list[dict[str, Any]], output: Any, kind: str, left_out: dict[str, Any]
) -> None:
    last = {"type": f"response.{kind}", "response": {"id": "resp_1", "status": kind, **left_out}}
    stream = blocks(CREATED, *told, last)

    events = run(stream)
    response = {**last["response"], **({} if output is None else {"output": output})}  # type: ignore[dict-item]
    assert json.loads(events[-1].data)["response"] == response
    assert json.loads(completion_of(normalize(events_of([stream]), api="responses"), "responses")) == response
    assert [event.data for event in run(blocks(*(event.data.decode() for event in events)))] == [
        event.data for event in events
    ]


@pytest.mark.parametrize(
    ("told", "output"),
    [
        ([text("a", item_id="i"), text("b", item_id="i")], [item("i")]),
        ([text("b", 1, item_id="i"), done(0, item("a")), text(5, 1)], [item("a"), item("i", "b")]),
        ([text("ab")], [item("msg_0")]),
    ],
)
def test_text_of_an_item_that_was_never_done_is_a_message_of_the_last_event(
    told: list[dict[str, Any]], output: list[dict[str, Any]]
) -> None:
    last = run(blocks(CREATED, *told, {"type": "response.completed", "response": RESPONSE}))[-1]

    assert json.loads(last.data)["response"]["output"] == output
    assert last.content == ""


def test_text_in_parts_stays_in_parts_and_what_was_cut_off_says_so() -> None:
    last = {"type": "response.incomplete", "response": {**RESPONSE, "status": "incomplete"}}
    told = json.loads(run(blocks(CREATED, text("b", part=1), text("a"), last))[-1].data)

    (message,) = told["response"]["output"]
    assert (message["status"], [part["text"] for part in message["content"]]) == ("incomplete", ["a", "b"])


def test_output_in_the_last_event_stays_as_it_came() -> None:
    raw = '{"type": "response.completed",  "response": {"output": [1]}}'

    assert run(blocks(CREATED, done(0, item("a")), raw))[-1].data.decode() == raw


def test_what_is_gathered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "BODY_LIMIT", 300)
    last = {"type": "response.completed", "response": RESPONSE}

    assert json.loads(run(blocks(CREATED, done(0, item("a")), last))[-1].data)["response"]["output"] == []
