"""Framing repair: raw events in, chunks out; what is no JSON object is put right, dropped or an error.

Only heartbeats say nothing: empty data, ``null``, ``[]``, bare words that are no JSON (FreeGPT35#29) and do not call
themselves an error; these are in :class:`Doubt`. Broken JSON is never skipped, for it may have been text: it ends the
stream with an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk, error_event, read_json
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize.bodies import IDLE, Doubt, Lost
from sseproxy.core.normalize.failures import failure_in, invalid_stream
from sseproxy.core.normalize.foreign import unwrap
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event

__all__ = ["repair_framing"]

_WRAPPED: Final = re.compile(rb"(?:data:\s*)+")
# How hand-written servers say it: `Error: …`, `[ERROR] …`, `error|…`, `Error in stream: …`, `An error occurred`,
# `RuntimeError: …`, `Internal Server Error`.
_IN_WORDS: Final = re.compile(
    rb'["\[(*\s]*(?!no\s)(?:[\w.-]+\s){0,3}[\w.]*(?:error|exception)'
    rb"(?:\W*\Z|\s+occurred\b|\s+-\s|(?:\s[^:|.\n]{0,40})?[]:|=])",
    re.I,
)
_WORD: Final = re.compile(rb"[a-z]{2}|[\x80-\xff]", re.I)
_glued: Final = json.JSONDecoder(strict=False).raw_decode


def repair_framing(events: Iterator[Event], shapes: Shapes, *, pings: bool = False) -> Iterator[Event]:
    """Turn raw events into :class:`Chunk`, the end mark (``data == DONE``), error events and heartbeats.

    :param shapes: is told that a chunk is on its long way.
    :param pings: let ``ping`` events pass: Anthropic's protocol has them.
    """
    for event in events:
        if event is FLUSH or event is HEARTBEAT or event is IDLE or type(event) is Lost:
            yield event
            continue
        if event.error is not None:
            yield error_event(event.error)
            continue
        shapes.pause()
        read = [*_read(event, pings)] if pings or event.type != "ping" else []
        yield from read or (HEARTBEAT,)


def _read(event: Event, pings: bool) -> Iterator[Event]:
    data = _unwrap(event.data.strip())
    if data[:1] != b"{" and _IN_WORDS.match(data) is not None:
        yield error_event(_in_words(data))
    elif data[:1] == b"{" or (data[:1] == b"[" and data.upper() != DONE):
        try:
            values = [read_json(data)]
        except ValueError:
            yield from _recover(event, data, pings)
            return
        yield from _chunks(values, event, pings)
    elif data.upper() in (DONE, b'"[DONE]"'):
        yield Event(DONE, read=True)
    elif data[:2] == b'"{':
        yield from _read_text(event, data, pings)
    elif event.type == "error":
        yield error_event(_in_words(data))
    elif data[:1] != b":" and data.lower() != b"null" and _WORD.search(data) is not None:
        yield Doubt(read=True, failure=_in_words(data), in_words=True)


def _in_words(data: bytes) -> UpstreamFailure:
    return UpstreamFailure(data.decode().strip('"') or "The upstream reported an error without a message.")


def _unwrap(data: bytes) -> bytes:
    """Take off the field names of relays that wrap a line of SSE in SSE."""
    match = _WRAPPED.match(data)
    return data[match.end() :] if match is not None else data


def _read_text(event: Event, data: bytes, pings: bool) -> Iterator[Event]:
    """Read a chunk that was written as a JSON string."""
    try:
        text = read_json(data)
        yield from _chunks([read_json(text)] if isinstance(text, str) else [], event, pings)
    except ValueError:
        yield error_event(invalid_stream(f"an event that is no JSON: {data[:80].decode('utf-8', 'replace')}"))


def _chunks(values: list[Any], event: Event, pings: bool) -> list[Chunk]:
    chunks: list[Chunk] = []
    for value in values:
        if isinstance(value, dict):
            if value and (pings or value.get("type") != "ping"):
                chunks.append(Chunk(event.data, event.type, event.id, body=unwrap(value)))
        elif isinstance(value, list):
            # Gemini's compatible API wraps its errors in an array, some relays their chunks.
            chunks += _chunks([item for item in value if isinstance(item, dict)], event, pings)
    return chunks


def _recover(event: Event, data: bytes, pings: bool) -> Iterator[Event]:
    """Read an event that is no JSON as a whole: chunks on lines of their own, or glued together, or an error amid.

    An error is believed where the rest is broken (sub2api#1471); text is not.
    """
    values: list[Any] = []
    broken = False
    for line in data.split(b"\n"):
        text = _unwrap(line.strip())
        if text.upper() == DONE:
            values.append(DONE)
        elif text:
            try:
                values += _split(text.decode())
            except ValueError:
                broken = True
    errors = [value for value in values if isinstance(value, dict) and failure_in(value, event.type) is not None]
    if broken and not errors:
        yield error_event(invalid_stream(f"an event that is no JSON: {data[:80].decode('utf-8', 'replace')}"))
        return
    for value in errors[:1] if broken else values:
        if value is DONE:
            yield Event(DONE, read=True)
        else:
            yield from _chunks([value], event, pings)


def _split(text: str) -> list[Any]:
    """Return the JSON values glued together in `text`.

    :raises ValueError: something in it is none.
    """
    values = []
    at = 0
    while at < len(text):
        try:
            value, at = _glued(text, at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        values.append(value)
        while at < len(text) and text[at] in " \t,":
            at += 1
        if text.startswith("data:", at):
            at += 5
            while at < len(text) and text[at] in " \t":
                at += 1
        if text.startswith("[DONE]", at):
            values.append(DONE)
            at += 6
    return values
