"""Chunks for tests of one transform, and what came out of it; the raw events of a recorded answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, error_event
from sseproxy.core.normalize import events_of, failure_of
from sseproxy.core.normalize.compression import unzip
from sseproxy.core.sse import DONE, FLUSH, Event
from tests.wire.cases import Case

END = Event(DONE, read=True)


def chunk(delta: Any = None, finish: str | None = None, index: int = 0, **fields: Any) -> Chunk:
    """A chunk with one choice; other fields go beside `choices`."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return Chunk(body={"choices": [choice], **fields})


def legacy(text: str, finish: str | None = None) -> Chunk:
    """A chunk of the legacy completions API."""
    return Chunk(body={"choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]})


def through(transform: Callable[[Iterator[Event]], Iterator[Event]], *events: Event) -> list[Event]:
    """All that comes out of `transform`, FLUSH left out."""
    return [event for event in transform(iter(events)) if event is not FLUSH]


def bodies(events: Iterable[Event]) -> list[dict[str, Any]]:
    return [event.body for event in events if isinstance(event, Chunk)]


def deltas(events: Iterable[Event], index: int = 0) -> list[dict[str, Any]]:
    """The deltas of one choice."""
    return [choice["delta"] for body in bodies(events) for choice in body["choices"] if choice["index"] == index]


def assert_passes_flush_at_once(transform: Callable[[Iterator[Event]], Iterator[Event]]) -> None:
    """FLUSH comes out before anything more is read."""
    asked = 0

    def source() -> Iterator[Event]:
        nonlocal asked
        for event in (FLUSH, FLUSH, END):
            asked += 1
            yield event

    events = transform(source())
    assert next(events) is FLUSH and asked == 1
    assert next(events) is FLUSH and asked == 2


def raw_events(case: Case, pieces: Iterable[bytes]) -> Iterator[Event]:
    """What is read of a recorded answer that comes in these pieces: a refusal is read as a whole, and is one error."""
    status: int = case.facts["http_status"]
    if status < 400:
        return events_of(pieces)
    return iter([error_event(failure_of(status, b"".join(unzip(pieces)), case.facts["content_type"]))])
