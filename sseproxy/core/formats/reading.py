"""What a canonical chunk says to a reader: the visible text of the first choice, and what stands around it.

Specification: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from sseproxy.core.chunk import UNREADABLE, read_json

MESSAGE: Final = "{message}"
"""Stands in a mark of failure for its reason."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    cost: msgspec.Raw = msgspec.Raw(b"null")


class Chunk(msgspec.Struct):
    """The part of a chunk that formats show."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = []
    usage: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def text(self) -> str:
        """What it adds to the first choice's visible text."""
        for choice in self.choices:
            if choice.index == 0 and choice.delta is not None:
                return choice.delta.content or ""
        return ""

    @property
    def finish_reason(self) -> str:
        """Why the first choice ends here; empty: it does not."""
        return next((choice.finish_reason or "" for choice in self.choices if choice.index == 0), "")

    @property
    def cost(self) -> str:
        """USD of the whole answer, as it is written there and never by way of a float; empty: not told."""
        try:
            usage = _decode_usage(self.usage)
        except msgspec.DecodeError:
            return ""
        cost = bytes(usage.cost) if usage is not None else b"null"
        return "" if cost == b"null" else cost.decode()


_decode: Final = msgspec.json.Decoder(Chunk).decode
_decode_usage: Final = msgspec.json.Decoder(_Usage | None).decode
_NOTHING: Final = Chunk()


def read_chunk(data: bytes) -> Chunk:
    """Read a chunk. Half a surrogate pair is read as U+FFFD; what is no chunk at all says nothing."""
    try:
        return _decode(data)
    except UNREADABLE:
        pass
    try:
        return _decode(whole(json.dumps(read_json(data), ensure_ascii=False)).encode())
    except (ValueError, RecursionError):
        return _NOTHING


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which UTF-8 cannot carry."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def one_line(message: str) -> str:
    """A message without line ends and doubled blanks."""
    return " ".join(whole(message).split())
