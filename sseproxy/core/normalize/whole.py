"""Whole answers of the typed APIs, replayed as the stream they would have been.

For upstreams that answer ``stream: true`` with one JSON document; every field of it comes out in some event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, write_json

__all__ = ["replay"]

_EMPTY = {"text": "", "thinking": "", "signature": "", "input": {}}


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
    content = message.get("content")
    for index, block in enumerate(content if isinstance(content, list) else []):
        if isinstance(block, dict):
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
    output = response.get("output")
    for index, item in enumerate(output if isinstance(output, list) else []):
        if isinstance(item, dict):
            yield from _item(index, item)
    status = response.get("status")
    kind = status if status in ("incomplete", "failed", "cancelled") else "completed"
    yield {"type": f"response.{kind}", "response": response}


def _item(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"item_id": item.get("id"), "output_index": index}
    empty: dict[str, Any] = {**item, **({"content": []} if "content" in item else {})}
    if "arguments" in item:
        empty["arguments"] = ""
    yield {"type": "response.output_item.added", "output_index": index, "item": {**empty, "status": "in_progress"}}
    content = item.get("content")
    for number, part in enumerate(content if isinstance(content, list) else []):
        if isinstance(part, dict):
            yield from _part({**place, "content_index": number}, part)
    arguments = item.get("arguments")
    if isinstance(arguments, str):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": arguments}
        yield {"type": "response.function_call_arguments.done", **place, "arguments": arguments}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(place: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    field = "refusal" if "refusal" in part else "text"
    kind = "response.refusal" if field == "refusal" else "response.output_text"
    text = part.get(field)
    yield {"type": "response.content_part.added", **place, "part": {**part, field: ""}}
    if isinstance(text, str) and text:
        yield {"type": f"{kind}.delta", **place, "delta": text}
        yield {"type": f"{kind}.done", **place, field: text}
    yield {"type": "response.content_part.done", **place, "part": part}
