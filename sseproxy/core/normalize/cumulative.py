"""Cumulative text: upstreams whose every chunk repeats all the text before it (QwenLM/qwen-code#3896).

Certain only by the operator's word. Without it (``auto``) the evidence has to be beyond chance, for text must never
be altered: from the first chunk on, three chunks in a row each begin with the whole one before and grow, and what is
repeated is long and varied. Chunks that could still go either way are held, which an ordinary stream ends with its
second chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, Literal

from sseproxy.core.chunk import Chunk
from sseproxy.core.sse import Event

__all__ = ["strip_repetition"]

_LONG: Final = 8
_VARIED: Final = 4
_MOST: Final = 8


def strip_repetition(
    events: Iterator[Event], mode: Literal["auto", "always", "never"], names: tuple[str, ...]
) -> Iterator[Event]:
    """Cut what each text repeats.

    :param names: the fields of ``choices[]`` that hold text, ``delta.`` before those inside the delta; the first of
        them gives the evidence for all.
    """
    if mode == "never":
        return events
    return _strip(events, names, {}) if mode == "always" else _suspect(events, names)


def _strip(events: Iterator[Event], names: tuple[str, ...], seen: dict[tuple[int, str], str]) -> Iterator[Event]:
    for event in events:
        if type(event) is Chunk:
            _cut(event, names, seen)
        yield event


def _cut(event: Chunk, names: tuple[str, ...], seen: dict[tuple[int, str], str]) -> None:
    event.steady = False
    for choice in event.body["choices"]:
        for name in names:
            holder, field = _place(choice, name)
            text = holder.get(field)
            if not isinstance(text, str) or not text:
                continue
            key = (choice["index"], name)
            before = seen.get(key, "")
            if text.startswith(before):
                holder[field] = text[len(before) :]
            elif before.startswith(text):
                holder[field] = ""
                continue
            seen[key] = text


def _place(choice: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    if name.startswith("delta."):
        return choice["delta"], name[6:]
    return choice, name


def _suspect(events: Iterator[Event], names: tuple[str, ...]) -> Iterator[Event]:
    """Watch the first texts; with the verdict, hand over to the rule or to nothing."""
    held: list[Event] = []
    first: dict[tuple[int, str], str] = {}
    last = ""
    for event in events:
        if type(event) is not Chunk:
            if not event.data:  # a sentinel
                yield event
                continue
            held.append(event)
            break
        text = _text(event, names[0])
        if not held and (not text or not last):
            if text:
                event.steady = False
                first = {(0, name): said for name in names if (said := _text(event, name))}
                last = text
            yield event
            continue
        held.append(event)
        grows = not text or (text.startswith(last) and len(text) > len(last))
        if not grows or len(held) > _MOST:
            event.steady = event.steady and len(held) == 1
            break
        event.steady = False
        if not text:
            continue
        if last != first[0, names[0]] and len(last) >= _LONG and len(set(last)) >= _VARIED:
            events = chain(held, events)
            yield from _strip(events, names, first)
            return
        last = text
    yield from held
    yield from events


def _text(event: Chunk, name: str) -> str:
    choices = event.body["choices"]
    if len(choices) != 1:
        return ""
    holder, field = _place(choices[0], name)
    text = holder.get(field)
    return text if isinstance(text, str) else ""
