"""Of several choices the first one leads every chunk."""

from __future__ import annotations

import json

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize import completion_of, events_of, normalize
from sseproxy.core.normalize.first import NOTHING, lead_with_first
from sseproxy.core.sse import DONE, FLUSH, Event
from tests.core.normalize.making import assert_passes_flush_at_once, bodies, chunk, through


def test_a_chunk_without_the_first_choice_gets_an_empty_one() -> None:
    (body,) = bodies(through(lead_with_first, chunk({"content": "x"}, index=1)))
    assert body["choices"] == [NOTHING, {"index": 1, "delta": {"content": "x"}, "finish_reason": None}]


def test_choices_come_in_order() -> None:
    choices = [{"index": index, "delta": {"content": "x"}, "finish_reason": None} for index in (2, 0)]
    (body,) = bodies(through(lead_with_first, Chunk(body={"choices": choices})))
    assert [choice["index"] for choice in body["choices"]] == [0, 2]


def test_chunks_of_the_first_choice_and_usage_stay_as_they_are() -> None:
    events = [chunk({"content": "x"}), chunk({}, "stop"), Chunk(body={"choices": [], "usage": {}})]
    assert bodies(through(lead_with_first, *events)) == bodies(events)


def run(n: int, *events: Chunk) -> list[Event]:
    body = b"".join(b"data: " + json.dumps(event.body).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    return [event for event in normalize(events_of([body]), api="chat", choices=n) if event is not FLUSH]


def test_what_leads_is_no_choice_of_a_gathered_answer() -> None:
    events = run(2, chunk({"content": "x"}, index=1), chunk({}, "stop", index=1))
    (choice,) = json.loads(completion_of(events, "chat"))["choices"]
    assert (choice["index"], choice["message"]["content"]) == (1, "x")


def test_a_lead_that_comes_from_upstream_opens_no_choice() -> None:
    lead = {"choices": [NOTHING, {"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    finished = [event.finish for event in run(2, Chunk(body=lead))]
    assert finished == [None, "stop", None]


def test_with_one_choice_nothing_leads() -> None:
    assert all(
        len(json.loads(event.data)["choices"]) == 1 for event in run(1, chunk({"content": "x"})) if event.data != DONE
    )


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(lead_with_first)
