"""Real canonical streams to render, and a reader of event streams that shares no code with the encoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sseproxy.core.formats import Format
from sseproxy.core.normalize import Dialect, events_of, normalize
from sseproxy.core.sse import FLUSH, Event

BROKEN = {"error": {"message": "out of\nmemory", "type": "server_error", "code": "oom"}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cost": 0.00012}


def upstream_body(texts: Iterable[str], *, usage: Any = None, error: Any = None, ascii_only: bool = True) -> bytes:
    """What an upstream sends that produces these pieces of text."""
    bodies: list[Any] = [_chunk({"role": "assistant", "content": ""}), *(_chunk({"content": text}) for text in texts)]
    if error is None:
        bodies.append(_chunk({}, "stop"))
        if usage is not None:
            bodies.append({**_chunk({}), "choices": [], "usage": usage})
    else:
        bodies.append(error)
    body = b"".join(b"data: " + json.dumps(each, ensure_ascii=ascii_only).encode() + b"\n\n" for each in bodies)
    return body + (b"data: [DONE]\n\n" if error is None else b"")


def canonical(texts: Iterable[str], reads: Iterable[bytes] | None = None, **what: Any) -> Iterator[Event]:
    """The events that normalisation makes of it."""
    body = reads if reads is not None else [upstream_body(texts, **what)]
    return normalize(events_of(body), api="chat", dialect=Dialect(cumulative="never"), now=lambda: 1)


def rendered(format: Format, events: Iterable[Event], *, named: bool = False) -> list[Event]:
    """What the format makes of it, without the flushes."""
    return [event for event in format.render(iter(events), named=named) if event is not FLUSH]


def written(format: Format, events: Iterable[Event], *, named: bool = False) -> bytes:
    """The body that a client gets."""
    return b"".join(format.encode(event) for event in rendered(format, events, named=named))


def read(body: bytes) -> list[tuple[str, str]]:
    """Type and data of each event, by the letter of the standard (WHATWG HTML 9.2.6)."""
    events: list[tuple[str, str]] = []
    kind, data = "", ""
    lines = body.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            if data:
                events.append((kind or "message", data[:-1]))
            kind, data = "", ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
    return events


def shown(format: Format, events: Iterable[Event]) -> list[str]:
    """The data of each event that a client without names is told."""
    return [data for _, data in read(written(format, events))]


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice]}
