"""The shortcut: plain chunks of a known shape go around the transforms, which costs a third of going through them.

Order is kept: whatever is not plain is pushed all the way through before the next event is looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from sseproxy.core.chunk import Shapes
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.sse import FLUSH, Event

__all__ = ["shorten"]


def shorten(
    events: Iterator[Event], shapes: Shapes, transforms: Callable[[Iterator[Event]], Iterator[Event]]
) -> Iterator[Event]:
    """Apply `transforms` to all but plain chunks.

    :param shapes: knows plain chunks; what goes through the transforms pauses it until it has come out.
    :param transforms: must pass FLUSH on at once.
    """
    waiting: deque[Event | None] = deque()
    through = transforms(_drain(waiting))
    match = shapes.match
    for event in events:
        if event is FLUSH:
            if not shapes.paused:
                yield event
                continue
        elif event.error is None and event is not IDLE:
            plain = match(event.data)
            if plain is not None:
                yield plain
                continue
        # The second FLUSH comes out when everything before it has; it is not the upstream's.
        waiting.extend((event, FLUSH))
        for result in through:
            if result is FLUSH and not waiting:
                break
            yield result
        else:
            return
    waiting.append(None)
    yield from through


def _drain(waiting: deque[Event | None]) -> Iterator[Event]:
    while (event := waiting.popleft()) is not None:
        yield event
