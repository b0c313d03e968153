"""Whole answers of the typed APIs, replayed as the stream they would have been.

For upstreams that answer ``stream: true`` with one JSON document; every field of it comes out in some event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk, write_json

__all__ = ["replay"]

_EMPTY: Final = {"text": "", "thinking": "", "signature": "", "input": {}}
# The parts of an OpenAI item that have events of their own, by the types of item and part: the names of the events of
# the part and of those of its text, and the field that holds the text.
_PARTS: Final = {
    ("message", "output_text"): ("content_part", "output_text", "text"),
    ("message", "refusal"): ("content_part", "refusal", "refusal"),
    ("reasoning", "reasoning_text"): ("content_part", "reasoning_text", "text"),
    ("reasoning", "summary_text"): ("reasoning_summary_part", "reasoning_summary_text", "text"),
}
# Where parts are, and what their number is called.
_LISTS: Final = (("summary", "summary_index"), ("content", "content_index"))
# The calls whose input has events of its own, and the field that holds it.
_INPUTS: Final = {
    "function_call": ("function_call_arguments", "arguments"),
    "mcp_call": ("mcp_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
    "code_interpreter_call": ("code_interpreter_call_code", "code"),
}


def replay(api: str, answer: dict[str, Any]) -> Iterator[Chunk]:
    """Yield the events of `answer`, an Anthropic message or an OpenAI response."""
    bodies = _message(answer) if api == "messages" else _response(answer)
    for number, body in enumerate(bodies):
        if api == "responses":
            body["sequence_number"] = number
        yield Chunk(type=body["type"], body=body)


def _message(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    usage = message.get("usage")
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    if isinstance(usage, dict):
        start["usage"] = {**usage, "output_tokens": 0}
    yield {"type": "message_start", "message": start}
    for index, block in _numbered(message.get("content")):
        yield from _block(index, block)
    end = {"type": "message_delta", "delta": {name: message.get(name) for name in ("stop_reason", "stop_sequence")}}
    yield {**end, "usage": usage} if isinstance(usage, dict) else end
    yield {"type": "message_stop"}


def _block(index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"index": index}
    empty = {name: _EMPTY.get(name, value) for name, value in block.items()}
    yield {"type": "content_block_start", **place, "content_block": empty}
    for name, kind in (("text", "text_delta"), ("thinking", "thinking_delta"), ("signature", "signature_delta")):
        if block.get(name):
            yield {"type": "content_block_delta", **place, "delta": {"type": kind, name: block[name]}}
    if isinstance(block.get("input"), dict):
        delta = {"type": "input_json_delta", "partial_json": write_json(block["input"]).decode()}
        yield {"type": "content_block_delta", **place, "delta": delta}
    yield {"type": "content_block_stop", **place}


def _response(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in _numbered(response.get("output")):
        yield from _item(index, item)
    status = response.get("status")
    kind = status if status in ("incomplete", "failed", "cancelled") else "completed"
    yield {"type": f"response.{kind}", "response": response}


def _item(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = str(item.get("type"))
    place = {"item_id": item.get("id"), "output_index": index}
    lists = [(name, number) for name, number in _LISTS if kind in ("message", "reasoning") and name in item]
    event, field = _INPUTS.get(kind, ("", ""))
    given = item.get(field)
    empty: dict[str, Any] = {name: [] for name, _ in lists}
    if isinstance(given, str):
        empty[field] = ""
    added = {**item, **empty, "status": "in_progress"}
    yield {"type": "response.output_item.added", "output_index": index, "item": added}
    for name, number in lists:
        for at, part in _numbered(item[name]):
            yield from _part(kind, {**place, number: at}, part)
    if isinstance(given, str):
        yield from _text(event, place, field, given)
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(kind: str, place: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if (row := _PARTS.get((kind, str(part.get("type"))))) is None:
        return
    name, event, field = row
    text = part.get(field)
    yield {"type": f"response.{name}.added", **place, "part": {**part, field: ""}}
    if isinstance(text, str) and text:
        yield from _text(event, place, field, text)
    yield {"type": f"response.{name}.done", **place, "part": part}


def _text(event: str, place: dict[str, Any], field: str, text: str) -> Iterator[dict[str, Any]]:
    yield {"type": f"response.{event}.delta", **place, "delta": text}
    yield {"type": f"response.{event}.done", **place, field: text}


def _numbered(values: Any) -> list[tuple[int, dict[str, Any]]]:
    """The objects in a list, each with its place there."""
    return [(at, each) for at, each in enumerate(values if isinstance(values, list) else []) if isinstance(each, dict)]
