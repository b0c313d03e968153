"""Whole messages in a stream: adopted where nothing was streamed, dropped where they repeat what was.

Some servers end a stream with the answer as a whole: in ``message`` beside an empty delta, or in a completion of its
own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.deltas import index_of, legacy_text
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import Event

__all__ = ["settle_messages"]


class _Streamed:
    """What one choice has said in deltas: its first text, and whether it made calls."""

    def __init__(self) -> None:
        self.text = ""
        self.called = False

    def add(self, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        self.text = self.text or (content if isinstance(content, str) else "")
        self.called = self.called or bool(delta.get("tool_calls"))


def settle_messages(events: Iterator[Event], shapes: Shapes, choices: int = 1) -> Iterator[Event]:
    """Take what ``choices[].message`` says beyond the deltas into the stream, and nothing twice.

    :param shapes: knows how much text has been sent.
    :param choices: how many answers were asked for; with several, a repetition cannot be told for certain.
    """
    streamed: defaultdict[int, _Streamed] = defaultdict(_Streamed)
    for event in events:
        if type(event) is Chunk and isinstance(event.body.get("choices"), list):
            entries = event.body["choices"]
            for position, choice in enumerate(entries):
                if not isinstance(choice, dict):
                    continue
                index = 0 if choices == 1 else index_of(choice.get("index"), position)
                delta, message = choice.get("delta"), choice.get("message")
                if isinstance(delta, dict) and _says(delta):
                    streamed[index].add(delta)
                elif delta is None and (text := legacy_text(choice)):
                    streamed[index].add({"content": text})
                elif isinstance(message, dict) and _says(message):
                    if delta is None and choices == 1 and index in streamed:
                        message = _beyond(message, streamed[index], shapes.sent)
                    elif isinstance(delta, dict) and index not in streamed and _is_told_by_its_message(choice):
                        streamed[index].add(message)
                    elif choices == 1 and index in streamed and choice.get("finish_reason"):
                        message = _further_calls(message, streamed[index])
                        if not message:
                            continue
                    else:
                        continue
                    rest = {name: value for name, value in choice.items() if name != "delta"}
                    event.body = {**event.body, "choices": [*entries[:position], {**rest, "message": message},
                                                            *entries[position + 1 :]]}  # fmt: skip
                    entries = event.body["choices"]
                    event.steady = False
        yield event


def _says(delta: dict[str, Any]) -> bool:
    return any(value for name, value in delta.items() if name != "role")


def _is_told_by_its_message(choice: dict[str, Any]) -> bool:
    """Whether no deltas follow: one with a role is the first of them, unless it comes with the finish (Perplexity)."""
    return bool(choice.get("finish_reason")) or not any(choice["delta"].values())


def _beyond(message: dict[str, Any], streamed: _Streamed, sent: int) -> dict[str, Any]:
    """Return what `message` says beyond what was streamed; all of it, if it is no repetition."""
    text = message.get("content") or ""
    if not isinstance(text, str) or len(text) != sent or not text.startswith(streamed.text):
        return message
    return _further_calls(message, streamed)


def _further_calls(message: dict[str, Any], streamed: _Streamed) -> dict[str, Any]:
    return {"tool_calls": message["tool_calls"]} if message.get("tool_calls") and not streamed.called else {}
