"""Reading for the meter, without a change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.normalize import annotate
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import Usage


def read(api: str, *bodies: dict[str, Any]) -> list[Event]:
    return list(annotate(iter([Event(json.dumps(body).encode()) for body in bodies]), api=api))


@pytest.mark.parametrize(
    ("api", "body", "content", "hidden", "finish"),
    [
        ("chat", {"choices": [{"delta": {"content": "a", "refusal": "b"}}]}, "a", "b", None),
        ("chat", {"choices": [{"delta": {}, "finish_reason": "stop"}]}, "", "", "stop"),
        ("chat", {"choices": [{"delta": {"content": [1]}}, None]}, "", "", None),
        ("completions", {"choices": [{"text": "a", "finish_reason": "length"}]}, "a", "", "length"),
        ("responses", {"type": "response.output_text.delta", "delta": "a"}, "a", "", None),
        ("responses", {"type": "response.refusal.delta", "delta": "a"}, "", "a", None),
        ("responses", {"type": "response.reasoning_summary_text.delta", "delta": "a"}, "", "a", None),
        ("responses", {"type": "response.function_call_arguments.delta", "delta": "a"}, "", "a", None),
        ("responses", {"type": "response.output_item.added", "item": {"name": "f"}}, "", "f", None),
        ("responses", {"type": "response.completed", "response": {}}, "", "", "stop"),
        (
            "responses",
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}},
            "",
            "",
            "content_filter",
        ),
        ("messages", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, "a", "", None),
        ("messages", {"type": "content_block_delta", "delta": {"thinking": "a"}}, "", "a", None),
        ("messages", {"type": "content_block_delta", "delta": {"partial_json": "a"}}, "", "a", None),
        ("messages", {"type": "content_block_delta", "delta": {"type": "compaction_delta", "content": "a"}}, "", "a",
         None),
        ("messages", {"type": "content_block_delta", "delta": {"citation": {"cited_text": "a"}}}, "", "", None),
        ("messages", {"type": "content_block_start", "content_block": {"name": "f"}}, "", "f", None),
        ("messages", {"type": "content_block_start", "content_block": {"type": "text", "text": "a"}}, "a", "", None),
        ("messages", {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}, "", "", "length"),
        ("messages", {"type": 7, "delta": 5, "content_block": 5, "message": 5, "usage": 5}, "", "", None),
        ("responses", {"type": [], "delta": 5, "response": 5, "item": 5}, "", "", None),
    ],
)  # fmt: skip
def test_what_an_event_adds(api: str, body: dict[str, Any], content: str, hidden: str, finish: str | None) -> None:
    (event,) = read(api, body)
    assert (event.content, event.hidden, event.finish, event.read) == (content, hidden, finish, True)
    assert json.loads(event.data) == body


def test_a_call_finishes_a_response_with_tool_calls() -> None:
    item = {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}}
    assert read("responses", item, {"type": "response.completed", "response": {}})[-1].finish == "tool_calls"


def test_a_tool_that_the_vendor_runs_counts_once_though_it_is_told_again_with_its_result() -> None:
    called = {"index": 0, "type": "search", "arguments": "a"}
    tools = [called], [{**called, "output": "o"}], [{**called, "index": 1}], [{"arguments": "b"}], [{"arguments": "b"}]
    events = read("chat", *({"choices": [{"index": [], "delta": {"executed_tools": each}}]} for each in tools))
    assert [event.hidden for event in events] == ["a", "", "a", "b", "b"]


CALL = {"type": "tool_use", "name": "f", "input": {"k": 1}}
BLOCKS = [{"type": "thinking", "thinking": "a", "signature": "s"}, {"type": "text", "text": "b", "citations": []}, CALL]
STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}


def told(*bodies: dict[str, Any]) -> tuple[str, str]:
    events = read("messages", *bodies)
    return "".join(event.content for event in events), "".join(event.hidden for event in events)


def begun(block: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


@pytest.mark.parametrize(
    "bodies",
    [
        [{"type": "message_start", "message": {"content": BLOCKS}}],
        [begun(block, index) for index, block in enumerate(BLOCKS)],
        [{"type": "message_start", "message": {"content": BLOCKS}}, *map(begun, BLOCKS)],
        [*map(begun, BLOCKS), {"type": "content_block_delta", "index": 2, "delta": {"partial_json": '{"k":1}'}}],
        [*map(begun, [*BLOCKS[:2], {**CALL, "input": {}}]), {"delta": {"partial_json": '{"k":1}'}}],
    ],
)
def test_what_a_message_says_counts_once_wherever_it_comes(bodies: list[dict[str, Any]]) -> None:
    assert told(*bodies, STOP, {"type": "message_stop"}) == ("b", 'af{"k":1}')


@pytest.mark.parametrize("content", [None, "a", [None, {"text": 5, "thinking": [], "name": {}, "input": "i"}]])
def test_what_is_no_block_says_nothing(content: Any) -> None:
    assert told({"type": "message_start", "message": {"content": content}}, STOP) == ("", "")


@pytest.mark.parametrize(
    ("block", "hidden"),
    [
        ({"type": "compaction", "content": "a", "encrypted_content": "e"}, "a"),
        ({"type": "compaction", "content": None}, ""),
        ({"type": "mcp_tool_result", "content": "of the tool"}, ""),
        ({"type": "web_search_tool_result", "content": [{"title": "t"}]}, ""),
    ],
)
def test_a_compaction_counts_and_a_result_does_not(block: dict[str, Any], hidden: str) -> None:
    assert told(begun(block), STOP) == ("", hidden)
    assert told({"type": "message_start", "message": {"content": [block]}}, STOP) == ("", hidden)


def test_anthropic_usage_is_told_in_two_halves() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 3}}}
    delta = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7, "input_tokens": None}}
    assert [event.usage for event in read("messages", start, delta)] == [Usage(8, 3), Usage(8, 3, 0, 7)]


def test_what_a_cache_keeps_for_an_hour_is_told_in_the_first_half_alone() -> None:
    written = {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 9}}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, **written}}}
    events = read("messages", start, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}})

    assert events[-1].usage == Usage(14, 0, 9, 2, apart=(("cache_write_1h", 9),))


def test_a_later_null_does_not_erase_usage() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    events = read("chat", {"choices": [], "usage": usage}, {"choices": [], "usage": None})
    assert [event.usage for event in events] == [Usage(5, 0, 0, 2), None]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("chat", {"error": {"message": "m"}}),
        ("messages", {"type": "error", "error": {"message": "m"}}),
        ("responses", {"type": "response.failed", "response": {"error": {"message": "m"}}}),
    ],
)
def test_errors_are_seen(api: str, body: dict[str, Any]) -> None:
    (event,) = read(api, body)
    assert event.error is not None and event.error.message == "m"


def test_what_is_read_already_or_no_json_stays_as_it_is() -> None:
    known = Event(b'{"choices":[{"delta":{"content":"a"}}]}', read=True, content="b")
    events = list(annotate(iter([known, FLUSH, Event(DONE), Event(b'{"broken'), Event(b"{[]}")]), api="chat"))
    assert events[0] is known and known.content == "b"
    assert events[1] is FLUSH
    assert all(event.read and not event.content for event in events[2:])
