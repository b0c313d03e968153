"""Events of a response say where they belong, whatever their upstream leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.places import number_places


def placed(*bodies: dict[str, Any]) -> list[dict[str, Any]]:
    chunks = [Chunk(type=body["type"], body=body) for body in bodies]
    return [event.body for event in number_places(iter(chunks)) if type(event) is Chunk]


def added(id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "item": {"id": id}, **fields}


def text(moment: str, id: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.output_text.{moment}", "item_id": id, **fields}


def test_items_are_numbered_as_they_come_and_their_texts_are_of_the_first_part() -> None:
    call = {"type": "response.function_call_arguments.delta", "item_id": "fc", "delta": "{"}
    done = {"type": "response.output_item.done", "item": {"id": "msg"}}
    told = placed(added("msg"), text("delta", "msg"), added("fc"), call, text("done", "msg"), done)
    assert [body.get("output_index") for body in told] == [0, 0, 1, 1, 0, 0]
    assert [body.get("content_index") for body in told] == [None, 0, None, None, 0, None]


@pytest.mark.parametrize(
    ("event", "number"),
    [
        ("reasoning_text", "content_index"),
        ("content_part", "content_index"),
        ("reasoning_summary_text", "summary_index"),
    ],
)
def test_each_kind_of_part_has_its_own_number(event: str, number: str) -> None:
    told = placed(added("rs"), {"type": f"response.{event}.done", "item_id": "rs"})[1]
    assert told == {"type": f"response.{event}.done", "item_id": "rs", "output_index": 0, number: 0}


def test_what_is_reasoned_begins_as_a_part_where_the_upstream_begins_none() -> None:
    delta = {"type": "response.reasoning_text.delta", "item_id": "rs", "delta": "hm"}
    part = {"type": "response.content_part.added", "item_id": "rs", "part": {"type": "reasoning_text", "text": ""}}
    place = {"output_index": 0, "content_index": 0}

    assert placed(added("rs"), delta, delta)[1:] == [part | place, delta | place, delta | place]
    assert placed(added("rs"), part, delta)[1:] == [part | place, delta | place]


def test_what_is_said_stays_and_the_rest_goes_on_from_it() -> None:
    said = [added("a", output_index=3), text("delta", "a", output_index=3, content_index=2)]
    *kept, next_item, its_text = placed(*said, added("b"), text("delta", "b", content_index=1))
    assert kept == said
    assert (next_item["output_index"], its_text["output_index"], its_text["content_index"]) == (4, 4, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"type": "response.created", "response": {}},
        text("delta", "never shown"),
        {"type": "response.output_item.added", "item": {}},
        {"type": "response.output_item.added", "item": {"id": 5}},
        {"type": "response.output_text.delta", "item_id": []},
        added("msg", output_index="1"),
    ],
)
def test_what_cannot_be_placed_passes(body: dict[str, Any]) -> None:
    assert placed(body) == [body]


@pytest.mark.parametrize("type", ["response.reasoning_text.delta", "response.content_part.added"])
@pytest.mark.parametrize("id", [None, ["rs"]])
def test_an_event_of_an_item_that_it_holds_itself_begins_no_part(type: str, id: Any) -> None:
    odd = {"type": type, "item": {"id": "rs"}, "item_id": id}
    assert placed(odd) == [{**odd, "output_index": 0, "content_index": 0}]
