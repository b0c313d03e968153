"""What a response says is read once, in whichever of its events it comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.normalize import events_of, normalize, read_completion
from sseproxy.core.normalize.output import Output
from sseproxy.core.normalize.whole import replay

TEXT = {"type": "output_text", "text": "a"}
MESSAGE = {"type": "message", "id": "i", "content": [TEXT, {"type": "refusal", "refusal": "b"}]}
OTHERS = [
    ({"type": "reasoning", "summary": [{"text": "c"}], "content": [{"type": "reasoning_text", "text": "d"}]}, "dc"),
    ({"type": "function_call", "name": "f", "arguments": "{}"}, "f{}"),
    ({"type": "function_call", "name": "f", "arguments": {"k": 1}}, 'f{"k":1}'),
    ({"type": "custom_tool_call", "name": "f", "input": "e"}, "fe"),
    ({"type": "mcp_call", "name": "f", "arguments": "{}", "output": "of the tool"}, "f{}"),
    ({"type": "code_interpreter_call", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}, "1+1"),
    ({"type": "web_search_call", "action": {"query": "q", "sources": [{"url": "u"}]}}, '{"query":"q"}'),
    ({"type": "file_search_call", "queries": ["q"], "results": [{"text": "found"}]}, '["q"]'),
    ({"type": "file_search_call", "queries": []}, ""),
    ({"type": "computer_call", "actions": [{"type": "type", "text": "x"}]}, '[{"type":"type","text":"x"}]'),
    ({"type": "apply_patch_call", "operation": {"diff": "+x"}}, '{"diff":"+x"}'),
    ({"type": "image_generation_call", "revised_prompt": "p", "result": "AAAA"}, "p"),
    ({"type": "message", "content": [{"type": "output_audio", "transcript": "t", "data": "AAAA"}]}, "t"),
]


def told(*bodies: dict[str, Any]) -> tuple[str, str]:
    """All that is read of the events."""
    output = Output()
    read = [output.read(body) for body in bodies]
    return "".join(content for content, _ in read), "".join(hidden for _, hidden in read)


def text(moment: str, **place: Any) -> dict[str, Any]:
    return {"type": f"response.output_text.{moment}", "delta" if moment == "delta" else "text": "a", **place}


def done(index: int | None, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def completed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"output": list(items)}}


FIRST = {"output_index": 0, "content_index": 0, "item_id": "i"}
PART = {"type": "response.content_part.done", **FIRST, "part": TEXT}
WHOLES = [text("done", **FIRST), PART, done(0, MESSAGE), completed(MESSAGE)]


@pytest.mark.parametrize("begin", range(4))
def test_a_text_counts_where_it_is_told_first_and_never_again(begin: int) -> None:
    content, hidden = told(*WHOLES[begin:])
    assert (content, hidden) == ("a", "b")
    assert told(text("delta", **FIRST), text("delta", **FIRST), *WHOLES[begin:]) == ("aa", "b")


def test_texts_that_are_told_as_wholes_alone_count_all() -> None:
    events = [done(index, {**MESSAGE, "id": f"i{index}"}) for index in range(3)]
    assert told(*events, completed(*(event["item"] for event in events), MESSAGE)) == ("aaaa", "bbbb")


@pytest.mark.parametrize(
    "place",
    [
        {"output_index": 0, "item_id": "another in each event"},
        {"output_index": 1, "item_id": "i"},
        {"output_index": True, "content_index": None, "item_id": "i"},
        {"item_id": "another in each event"},
        {},
    ],
)
def test_a_place_that_is_told_wrong_or_not_at_all_doubles_nothing(place: dict[str, Any]) -> None:
    assert told(text("delta", **place), completed({"id": "i", "content": [TEXT]})) == ("a", "")


def test_items_of_one_id_count_each() -> None:
    assert told(completed(MESSAGE, MESSAGE)) == ("aa", "bb")


def test_what_an_item_holds_when_it_begins_may_be_a_beginning_but_for_its_name() -> None:
    call = {"id": "i", "name": "f", "arguments": "{}"}
    assert told({"type": "response.output_item.added", "output_index": 0, "item": call}) == ("", "f")


@pytest.mark.parametrize(("item", "hidden"), OTHERS)
def test_all_that_a_model_writes_counts_streamed_or_not(item: dict[str, Any], hidden: str) -> None:
    answer = {"object": "response", "status": "completed", "output": [MESSAGE, item]}
    whole = read_completion("responses", json.dumps(answer).encode())
    streamed = list(normalize(events_of([json.dumps(answer).encode()]), api="responses"))

    assert sorted(whole.content + whole.hidden) == sorted("ab" + hidden)
    assert told(*(chunk.body for chunk in replay("responses", answer)))[0] == whole.content
    assert sorted("".join(event.hidden for event in streamed)) == sorted(whole.hidden)
    assert [event.finish for event in streamed if event.finish] == [whole.finish]


@pytest.mark.parametrize(
    "body",
    [
        {"type": [], "output_index": {}, "item": {"type": [], "name": []}},
        {"type": "response.output_item.done", "output_index": [], "item": {"id": [], "content": [None, {"text": 5}]}},
        {"type": "response.output_text.done", "output_index": [], "item_id": {}, "content_index": [], "text": ["a"]},
        {"type": "response.content_part.done", "part": ["a"]},
        {"type": "response.completed", "response": {"output": {"a": 1}}},
    ],
)
def test_what_makes_no_sense_says_nothing(body: dict[str, Any]) -> None:
    assert told(body) == ("", "")


def test_an_answer_whose_text_came_in_pieces_is_not_read_again_where_its_end_is_made_up() -> None:
    pieces = [text("delta", output_index=index) for index in (1, 4)]
    body = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in [*pieces, completed()])

    events = list(normalize(events_of([body]), api="responses"))

    assert "".join(event.content for event in events) == "aa"
    assert b'"text":"a"' in b"".join(event.data for event in events if event.type == "response.completed")
