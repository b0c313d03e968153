"""The first choice leads every chunk of an answer with several, for readers that look at ``choices[0]`` alone.

The Vercel AI SDK takes whatever stands there for the first choice, and so mixes the texts of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk
from sseproxy.core.sse import Event

__all__ = ["NOTHING", "lead_with_first"]

NOTHING: Final[dict[str, Any]] = {"index": 0, "delta": {}, "finish_reason": None}


def lead_with_first(events: Iterator[Event]) -> Iterator[Event]:
    """Put the choices in order, and in front a first one that says nothing where they come without it."""
    for event in events:
        if type(event) is Chunk and event.body["choices"]:
            choices = sorted(event.body["choices"], key=lambda choice: int(choice["index"]))
            if choices[0]["index"] != 0:
                choices.insert(0, {**NOTHING, "delta": {}})
            elif len(choices) > 1 and not any(choices[0][name] for name in choices[0]):
                choices[0] = {**NOTHING, "delta": {}}
            event.body["choices"] = choices
        yield event
