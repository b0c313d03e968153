"""The shortcut around the transforms keeps order and state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sseproxy.core.normalize import events_of, normalize
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, Event


def chunk(text: str, **fields: Any) -> Event:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}
    return Event(json.dumps(body, separators=(",", ":")).encode())


def taught() -> Shapes:
    shapes = Shapes()
    shapes.learn(chunk("Hello").data, Event(chunk("Hello").data, read=True, content="Hello"))
    return shapes


def test_plain_chunks_go_around_and_others_through_in_order() -> None:
    seen: list[Event] = []

    def spy(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            seen.append(event)
            yield event

    events = [chunk("a"), chunk("b", more=1), chunk("c"), FLUSH]
    out = list(shorten(iter(events), taught(), spy))
    assert [event.data for event in out] == [event.data for event in events]
    assert [event for event in seen if event is not FLUSH] == [events[1]]


def test_each_event_is_out_before_the_next_is_asked_for() -> None:
    asked = 0

    def source() -> Iterator[Event]:
        nonlocal asked
        for event in (chunk("", more=0), FLUSH, chunk("a"), FLUSH, chunk("b", more=1), FLUSH):
            asked += 1
            yield event

    out = shorten(source(), taught(), partial(map, lambda event: event))
    for number in range(1, 7):
        next(out)
        assert asked == number


def test_every_flush_comes_out_once_and_goes_through_only_while_a_chunk_is_on_its_way() -> None:
    shapes = taught()
    paused: list[bool] = []

    def pause_and_spy(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event is FLUSH:
                paused.append(shapes.paused)
            elif json.loads(event.data).get("more"):
                shapes.pause()
            yield event

    events = [FLUSH, chunk("a"), FLUSH, chunk("b", more=1), FLUSH, FLUSH, chunk("c"), FLUSH]
    out = list(shorten(iter(events), shapes, pause_and_spy))
    assert [(event is FLUSH, event.data) for event in out] == [(event is FLUSH, event.data) for event in events]
    assert paused == [True, True, True]


def test_transforms_that_end_end_the_stream() -> None:
    def stop(events: Iterator[Event]) -> Iterator[Event]:
        yield next(events)

    assert len(list(shorten(iter([chunk("b", more=1)] * 5), taught(), stop))) == 1


def test_what_is_held_comes_out_at_the_end() -> None:
    def hold(events: Iterator[Event]) -> Iterator[Event]:
        held: list[Event] = []
        for event in events:
            if event is FLUSH:
                yield event
            else:
                held.append(event)
        yield from held

    out = list(shorten(iter([chunk("b", more=1), FLUSH, chunk("c", more=2)]), Shapes(), hold))
    assert [event is FLUSH for event in out] == [True, False, False]


@pytest.mark.parametrize("late", ["a", "b" * 50])
def test_text_after_the_end_mark_is_no_plain_chunk(late: str) -> None:
    body = b"".join(
        b"data: " + event.data + b"\n\n"
        for event in [*map(chunk, "abcd"), Event(DONE), chunk(late), chunk(late), chunk(late)]
    )
    events = [event for event in normalize(events_of([body]), api="chat") if event is not FLUSH]
    assert "".join(event.content for event in events) == "abcd"
    assert events[-1].data == DONE


def test_the_short_and_the_long_way_give_the_same() -> None:
    texts = ["", "x", "Hello", "é", "data: ", "\u2028", '"', "\\", "\n", "😀", "a b"] * 3
    plain = [chunk(text) for text in texts]
    gaps = [b'"choices":' + b" " * number for number in range(1, len(plain) + 1)]
    spaced = [Event(event.data.replace(b'"choices":', gap)) for event, gap in zip(plain, gaps, strict=True)]
    short = list(normalize(iter([*plain, Event(DONE)]), api="chat"))
    long = list(normalize(iter([*spaced, Event(DONE)]), api="chat"))
    assert [json.loads(e.data) for e in short[:-1]] == [json.loads(e.data) for e in long[:-1]]
    assert [(e.content, e.hidden, e.finish) for e in short] == [(e.content, e.hidden, e.finish) for e in long]
