"""Sealing: chunks become events again, with their final bytes and what the meter needs to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, rewrite, text_of, texts_by_choice
from sseproxy.core.normalize.executed_tools import ExecutedTools
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import Event

__all__ = ["seal"]


def seal(events: Iterator[Event], shapes: Shapes) -> Iterator[Event]:
    """Write every chunk; one that no transform changed keeps the upstream's own bytes.

    :param shapes: learns from chunks that were treated steadily.
    """
    tools = ExecutedTools()
    for event in events:
        if type(event) is not Chunk:
            yield event
            continue
        said = tools.new_in(event.body)
        sealed = _seal(event, said)
        shapes.sent += len(sealed.content)
        if event.steady and said is event.body:
            shapes.learn(event.data, sealed, event.watch, event.reads)
        else:
            shapes.forget()
        yield sealed


def _seal(event: Chunk, said: dict[str, Any]) -> Event:
    body = event.body
    content, hidden = text_of(said)
    finish = None
    for choice in body["choices"]:
        finish = finish or choice["finish_reason"]
    data = rewrite(event.data, body)
    return Event(data, "", None, None, True, content, hidden, event.usage, finish, by_choice=texts_by_choice(said))
