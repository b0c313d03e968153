"""The shortcut: plain chunks of a known shape go around the transforms, which costs a third of going through them.

Order is kept: whatever is not plain is through before the next event is looked at, for the transforms ask for another
only when they have given out what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import FLUSH, Event

__all__ = ["shorten"]


def shorten(
    events: Iterator[Event], shapes: Shapes, transforms: Callable[[Iterator[Event]], Iterator[Event]]
) -> Iterator[Event]:
    """Apply `transforms` to all but plain chunks.

    :param shapes: knows plain chunks; what goes through the transforms pauses it until it has come out.
    :param transforms: must pass FLUSH on at once.
    """
    events = iter(events)
    other: list[Event] = []
    through = transforms(_others(events, shapes, other))
    match = shapes.match
    while True:
        later: Event | None = None
        for event in events:
            if event is FLUSH:
                yield event
                continue
            if event.error is None and event is not IDLE:
                plain = match(event.data)
                if plain is not None:
                    yield plain
                    continue
            later = event
            break
        if shapes.reported is not None:
            _tell_of_usage(through, shapes, other)
        if later is not None:
            other.append(later)
        for result in through:
            if result is FLUSH and not shapes.paused:
                break  # not the upstream's: the next event may be plain
            yield result
        else:
            return


def _tell_of_usage(through: Iterator[Event], shapes: Shapes, other: list[Event]) -> None:
    """Let the transforms know of the usage in the last chunk that went around them, as if they had seen them all."""
    assert shapes.reported is not None
    data, shapes.told = shapes.reported
    other.append(Event(data))
    shapes.reported, sent = None, shapes.sent
    next(through, None)
    shapes.told, shapes.sent = None, sent


def _others(events: Iterator[Event], shapes: Shapes, other: list[Event]) -> Iterator[Event]:
    """Yield what is not plain: `other`, then all there is while `shapes` is paused; then FLUSH, to be given another."""
    while True:
        if other:
            yield other.pop()
        elif shapes.paused:
            event = next(events, None)
            if event is None:
                return
            yield event
        else:
            yield FLUSH
            if not other:
                return
