"""Where in a response an event belongs, for servers that leave it out (llama.cpp): SDKs put items and texts together by
these numbers, and openai-python's ``responses.stream()`` raises without them; openai-node's at reasoning that is of no
part.

Specification: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk
from sseproxy.core.sse import Event

__all__ = ["number_places"]

# By the events of an item's parts and of their texts, without `.added`, `.delta` or `.done`: what its number is called.
_NUMBERS: Final = {
    "response.content_part": "content_index",
    "response.output_text": "content_index",
    "response.refusal": "content_index",
    "response.reasoning_text": "content_index",
    "response.reasoning_summary_part": "summary_index",
    "response.reasoning_summary_text": "summary_index",
}

_PART_ADDED: Final = "response.content_part.added"
_REASONED: Final = "response.reasoning_text.delta"


def number_places(events: Iterator[Event]) -> Iterator[Event]:
    """Add ``output_index`` to events of an item that lack it, in the order in which the items came; and that the part
    is the first, where they do not say which; what is reasoned begins as a part.
    """
    items: dict[str, int] = {}
    begun: set[str] = set()
    for event in events:
        if type(event) is Chunk and (place := _place(event.body, event.type, items)):
            event.body = {**event.body, **place}
            if _begins_no_part(event.body, event.type, begun):
                yield Chunk(type=_PART_ADDED, body=_reasoning_part(event.body))
        yield event


def _begins_no_part(body: dict[str, Any], type: str, begun: set[str]) -> bool:
    """Tell whether this is the first of what an item reasons, without a part that it is of."""
    id = body.get("item_id")
    if type not in (_PART_ADDED, _REASONED) or not isinstance(id, str) or id in begun:
        return False
    begun.add(id)
    return type == _REASONED


def _reasoning_part(delta: dict[str, Any]) -> dict[str, Any]:
    place = {name: delta[name] for name in ("item_id", "output_index", "content_index")}
    return {"type": _PART_ADDED, **place, "part": {"type": "reasoning_text", "text": ""}}


def _place(body: dict[str, Any], type: str, items: dict[str, int]) -> dict[str, int]:
    """Return the numbers that the event lacks.

    :param items: the index of each item by its id; one that this event is the first to show is added.
    """
    id, item, index = body.get("item_id"), body.get("item"), body.get("output_index")
    if isinstance(item, dict):
        id = item.get("id")
        if isinstance(id, str) and id not in items:
            items[id] = index if isinstance(index, int) else max(items.values(), default=-1) + 1
    if index is not None or not isinstance(id, str) or id not in items:
        return {}
    place = {"output_index": items[id]}
    number = _NUMBERS.get(type.rpartition(".")[0])
    if number is not None and body.get(number) is None:
        place[number] = 0
    return place
