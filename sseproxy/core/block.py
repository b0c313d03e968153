"""The block of one server-sent event: what its bytes are.

Specification: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sseproxy.core.sse import Event

__all__ = ["encode", "read_named", "utf8"]


def encode(event: Event) -> bytes:
    """Return the block of `event`: ``event:``, ``id:`` and ``retry:`` if set, one ``data: `` line per line, LF only."""
    data = event.data
    if 10 in data or 13 in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    if not event.type and event.id is None and event.retry is None:
        return b"data: " + data + b"\n\n"
    head = f"event: {_one_line(event.type)}\n" if event.type else ""
    if event.id is not None:
        head += f"id: {_one_line(event.id)}\n"
    if event.retry is not None:
        head += f"retry: {event.retry}\n"
    return head.encode("utf-8", "replace") + b"data: " + data + b"\n\n"


def read_named(block: bytes) -> tuple[bytes, str] | None:
    """Return what a block of the two lines ``event: `` and ``data: `` says, as most with a type; None of others."""
    name, _, data = block.partition(b"\n")
    if name[:7] != b"event: " or data[:6] != b"data: " or 10 in data:
        return None
    return (data[6:] if data.isascii() else utf8(data[6:])), name[7:].decode("utf-8", "replace")


def utf8(data: bytes) -> bytes:
    """Return what the standard reads in any bytes."""
    return data.decode("utf-8", "replace").encode()


def _one_line(value: str) -> str:
    return "".join(value.splitlines()).replace("\0", "")
