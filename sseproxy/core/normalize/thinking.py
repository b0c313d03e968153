"""Reasoning inside the text: moves what stands between ``<think>`` and ``</think>`` to ``reasoning_content``.

Only on the operator's word (``dialect.think_tags``): a model may also write about these tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.finish import finish_of
from sseproxy.core.sse import Event

__all__ = ["split_thinking"]

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class _Splitter:
    """The text of one choice: before the tag, inside, after it."""

    def __init__(self) -> None:
        self.held = ""
        self.state = "before"

    def feed(self, text: str) -> tuple[str, str]:
        """Return what of `text` (and of what was held) is thinking, and what is content."""
        text = self.held + text
        self.held = ""
        if self.state == "before":
            bare = text.lstrip()
            if _OPEN.startswith(bare):
                self.held = text
                return "", ""
            if not bare.startswith(_OPEN):
                self.state = "after"
                return "", text
            self.state = "inside"
            text = bare[len(_OPEN) :]
        if self.state == "inside":
            thinking, close, text = text.partition(_CLOSE)
            if not close:
                self.held = _partial(thinking)
                return thinking[: len(thinking) - len(self.held)], ""
            self.state = "space"
            return thinking, self._skip_space(text)
        return "", self._skip_space(text) if self.state == "space" else text

    def _skip_space(self, text: str) -> str:
        text = text.lstrip()
        if text:
            self.state = "after"
        return text


def _partial(text: str) -> str:
    """Return the end of `text` that may be the beginning of the closing tag."""
    for size in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if _CLOSE.startswith(text[-size:]):
            return text[-size:]
    return ""


def split_thinking(events: Iterator[Event]) -> Iterator[Event]:
    """Move the thinking of every choice; what is held when the answer ends goes out as it is."""
    splitters: dict[int, _Splitter] = {}
    for event in events:
        if type(event) is Chunk:
            for choice in event.body["choices"]:
                event.steady = False
                splitter = splitters.setdefault(choice["index"], _Splitter())
                _split(choice["delta"], splitter)
                if finish_of(choice.get("finish_reason"), calls=False) is not None:
                    _release(choice["delta"], splitter)
        elif event.data:
            yield from _rest(splitters)
        yield event
    yield from _rest(splitters)


def _split(delta: dict[str, Any], splitter: _Splitter) -> None:
    text = delta.get("content")
    if not isinstance(text, str):
        return
    thinking, delta["content"] = splitter.feed(text)
    if thinking:
        delta["reasoning_content"] = delta.get("reasoning_content", "") + thinking


def _release(delta: dict[str, Any], splitter: _Splitter) -> None:
    if splitter.held:
        name = "reasoning_content" if splitter.state == "inside" else "content"
        delta[name] = delta.get(name, "") + splitter.held
        splitter.held = ""


def _rest(splitters: dict[int, _Splitter]) -> Iterator[Event]:
    for index, splitter in splitters.items():
        if splitter.held:
            delta: dict[str, Any] = {}
            _release(delta, splitter)
            yield Chunk(body={"choices": [{"index": index, "delta": delta}]}, steady=False)
