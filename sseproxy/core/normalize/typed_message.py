"""What SDKs cannot read a Messages stream without: ``message_start``, first and whole, and usage in ``message_delta``.

llama.cpp leaves the former out where the first token is a part of a character.
Specification: https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.reading import NOTHING_TOLD
from sseproxy.core.sse import Event
from sseproxy.core.usage_so_far import merge_fields

__all__ = ["complete_message"]

_NEED_A_START: Final = ("content_block_start", "content_block_delta", "message_delta")
_NEEDED: Final = ("id", "content", "usage")


def complete_message(events: Iterator[Event], make_id: Callable[[], str], model: str) -> Iterator[Event]:
    """Let the stream begin with a whole ``message_start``, and tell what one behind that has to say as usage."""
    start = _empty(make_id, model)
    begun = stood_in = False
    last: dict[str, Any] = {"delta": {"stop_reason": None, "stop_sequence": None}, "usage": NOTHING_TOLD}
    for event in events:
        if type(event) is Chunk:
            if event.type == "message_start":
                if stood_in:
                    event.type, event.body = "message_delta", _delta(event.body, last)
                    stood_in = False
                else:
                    event.body = _whole(event.body, start)
                    start = {**start, "id": event.body["message"]["id"]}
                begun = True
            elif not begun and event.type in _NEED_A_START:
                yield Chunk(type="message_start", body={"type": "message_start", "message": start})
                begun = stood_in = True
            if event.type == "message_delta":
                if not isinstance(event.body.get("usage"), dict):
                    event.body = {**event.body, "usage": last["usage"]}
                last = event.body
        yield event


def _whole(body: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """A ``message_start`` with what its message lacks; without an ID it begins no other one than the last."""
    given = body.get("message")
    message: dict[str, Any] = given if isinstance(given, dict) else {}
    lacking = {name: start[name] for name in _NEEDED if not isinstance(message.get(name), type(start[name]))}
    if not message.get("id"):
        lacking["id"] = start["id"]
    return {**body, "message": {**message, **lacking} if message else start} if lacking else body


def _delta(body: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    """A ``message_start`` that came late, as the ``message_delta`` which adds what it says of usage to the last one."""
    message = body.get("message")
    usage = message.get("usage") if isinstance(message, dict) else None
    stated = {**(usage if isinstance(usage, dict) else {}), "output_tokens": 0}
    return {"type": "message_delta", "delta": last["delta"], "usage": merge_fields(stated, last["usage"])}


def _empty(make_id: Callable[[], str], model: str) -> dict[str, Any]:
    return {
        "id": f"msg_{make_id()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
