"""A whole response is replayed in the events that its items and parts have."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.normalize.whole import replay


def events_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """What is replayed of one item, without what is the same for all."""
    answer = {"object": "response", "status": "completed", "output": [item]}
    created, begun, *events, last = [chunk.body for chunk in replay("responses", answer)]
    assert (created["type"], begun["type"], last["response"]) == ("response.created", "response.in_progress", answer)
    assert [body.pop("sequence_number") for body in events] == list(range(2, 2 + len(events)))
    assert all(body.pop("output_index") == 0 and body.pop("item_id", "i") == "i" for body in events)
    return events


def middle(item: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes between the beginning and the end of an item."""
    added, *events, done = events_of(item)
    assert (added["type"], added["item"]["status"]) == ("response.output_item.added", "in_progress")
    assert done == {"type": "response.output_item.done", "item": item}
    return events


@pytest.mark.parametrize(
    ("kind", "part", "name", "event", "field"),
    [
        ("message", {"type": "output_text", "text": "a", "annotations": []}, "content", "output_text", "text"),
        ("message", {"type": "refusal", "refusal": "a"}, "content", "refusal", "refusal"),
        ("reasoning", {"type": "reasoning_text", "text": "a"}, "content", "reasoning_text", "text"),
        ("reasoning", {"type": "summary_text", "text": "a"}, "summary", "reasoning_summary_text", "text"),
    ],
)
def test_a_part_has_the_events_of_its_type(kind: str, part: dict[str, Any], name: str, event: str, field: str) -> None:
    place = {f"{name}_index": 1}
    around = "content_part" if name == "content" else "reasoning_summary_part"
    assert middle({"id": "i", "type": kind, name: [None, part]}) == [
        {"type": f"response.{around}.added", **place, "part": {**part, field: ""}},
        {"type": f"response.{event}.delta", **place, "delta": "a"},
        {"type": f"response.{event}.done", **place, field: "a"},
        {"type": f"response.{around}.done", **place, "part": part},
    ]


@pytest.mark.parametrize(
    ("kind", "event", "field"),
    [
        ("function_call", "function_call_arguments", "arguments"),
        ("mcp_call", "mcp_call_arguments", "arguments"),
        ("custom_tool_call", "custom_tool_call_input", "input"),
        ("code_interpreter_call", "code_interpreter_call_code", "code"),
    ],
)
def test_the_input_of_a_call_has_the_events_of_its_type(kind: str, event: str, field: str) -> None:
    item = {"id": "i", "type": kind, field: "{}"}
    assert events_of(item)[0]["item"][field] == ""
    assert middle(item) == [
        {"type": f"response.{event}.delta", "delta": "{}"},
        {"type": f"response.{event}.done", field: "{}"},
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "i", "action": {"query": "q"}},
        {"type": "x", "id": "i", "arguments": "{}", "content": [{"type": "output_text", "text": "a"}]},
        {"type": ["x"], "id": "i", "summary": [{"type": "summary_text", "text": "a"}]},
        {"type": "message", "id": "i", "content": [{"type": "reasoning_text", "text": "a"}, {"type": []}, 5]},
        {"type": "function_call", "id": "i", "arguments": {"a": 1}},
    ],
)
def test_what_has_no_events_of_its_own_begins_and_ends(item: dict[str, Any]) -> None:
    assert middle(item) == []
