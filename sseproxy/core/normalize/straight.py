"""The straight way: a stream that is canonical already, or nearly, passes, and no transform is ever set up for it.

What most upstreams send is a chunk with the role, chunks of text, one with the finish, one with usage, ``[DONE]``. Each
is read strictly, and handed out as the transforms would hand it out. With the first thing that is anything else
the stream takes the long way for good: what would have left traces in the transforms by then, a handful of chunks
however long the stream, is replayed to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from sseproxy.core.normalize.answer import Answer, Transforms
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.normalize.end import PATIENCE
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event

__all__ = ["go_straight"]


def go_straight(
    events: Iterator[Event], shapes: Shapes, transforms: Transforms, *, fold: bool = True
) -> Iterator[Event]:
    """Pass a chat stream of one answer while it is canonical, then :func:`shorten` its long way.

    :param shapes: knows plain chunks; learns them here as it does at the end of the long way.
    :param transforms: the long way.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    """
    events = iter(events)
    answer = Answer(shapes, fold)
    for event in events:
        if event is FLUSH:
            yield event
            continue
        # Neither a failure nor silence of either kind has the shape of a chunk, nor can be read as one.
        # Most plain chunks go around this: the end is asked for first.
        if shapes.last is None or (passed := answer.end(event) or shapes.match(event.data)) is None:
            passed = answer.read(event)
            if passed is None:
                if event is IDLE or event is HEARTBEAT or answer.holds(event):
                    continue
                events = chain((event,), events)
                break
        yield passed
        if answer.has_ended:
            yield from _conclude(events, answer, transforms)
            return
    yield from answer.resume(events, transforms)


def _conclude(events: Iterator[Event], answer: Answer, transforms: Transforms) -> Iterator[Event]:
    """Hold usage and the end mark, as :func:`~sseproxy.core.normalize.end.conclude` does, until nothing follows."""
    usage = answer.usage
    done = False
    reads = 0
    for event in events:
        if event is FLUSH:
            yield event
            reads += done
            if reads > PATIENCE:
                break
        elif event is IDLE and done:
            break
        elif event.data == DONE and not (event.type or done):
            done = True
            answer.held.append(DONE)
        elif done or (usage := answer.take_usage(event, usage)) is None:
            yield from answer.resume(chain((event,), events), transforms, reads)
            return
    if answer.finish is not None:
        yield answer.finish
    if usage is not None:
        yield usage
    yield Event(DONE, read=True)
