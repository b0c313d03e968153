"""A shape in which more moves than the text: usage so far (vLLM, Gemini), llama.cpp's timings, a token's number.

Each of these has one place and one type, and changes nothing in what becomes of the rest. Without it each chunk of such
a server would have a shape of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from sseproxy.core.chunk import UNREADABLE, guard
from sseproxy.core.shape import ReadUsage, Shape, read_text
from sseproxy.core.sse import Event
from sseproxy.core.usage import Usage

__all__ = ["Varying"]
# What moves is marked with what cannot stand in JSON on one line: the text, and fields of one type each.
_TEXT: Final = b"\x01"
_TOKEN: Final = b"\x04"
_FIELDS: Final[dict[bytes, tuple[str, type]]] = {
    b"\x02": ("usage", dict),
    b"\x03": ("timings", dict),
    _TOKEN: ("token_id", int),
}
_ANOTHER: Final = {dict: b'{"\\u0002":2}', int: b"2"}
_parts_of: Final = re.compile(b"([\x01-\x04])").split
_decode: Final = msgspec.json.Decoder().decode


class _Delta(msgspec.Struct):
    token_id: Raw | UnsetType = UNSET


class _Choice(msgspec.Struct):
    delta: _Delta | UnsetType = UNSET


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice]
    usage: Raw | UnsetType = UNSET
    timings: Raw | UnsetType = UNSET


_read_chunk: Final = msgspec.json.Decoder(_Chunk).decode


class Varying(Shape):
    """One of the first choice.

    :param parts: of a chunk: what stands around each mark, and these; `written` of what it becomes.
    """

    __slots__ = ("_fields", "_first", "_holes", "_last", "_written")

    def __init__(self, parts: list[bytes], written: list[bytes], *, hidden: bool, reads: ReadUsage | None) -> None:
        self._first, *rest, self._last = parts
        super().__init__((self._first, self._last), (self._first, self._last), hidden=hidden)
        self._holes = [*zip(rest[::2], [*rest[1::2], b""], strict=True)]
        self._fields = [(mark, *_FIELDS[mark]) for mark in {*rest[::2]} - {_TEXT}]
        self._written = written
        self.reads, self.changes = reads, True

    @classmethod
    def of(
        cls,
        data: bytes,
        passed: Event,
        around: tuple[bytes, ...],
        out: tuple[bytes, ...],
        reads: ReadUsage | None,
    ) -> Varying | None:
        """Return the shape of a chunk; None if nothing moves in it but its text, or not as it would have to.

        :param data: the chunk.
        :param passed: what became of it.
        :param around: as of :class:`~sseproxy.core.shape.Shape`, as is `out`.
        """
        moving = {mark: value for mark, value in _fields_in(_TEXT.join(around)).items() if reads or mark == _TOKEN}
        if not moving:
            return None
        kept = _fields_in(_TEXT.join(out)).keys() & moving.keys()
        parts = _cut(around, moving)
        written = _cut(out, {mark: moving[mark] for mark in kept})
        if parts is None or written is None:
            return None
        shape = cls(parts, written, hidden=bool(passed.hidden), reads=reads)
        return shape if shape.event(data) == passed else None

    def event(self, data: bytes) -> Event | None:
        read = self._read(data)
        if read is None or not read[0]:
            return None
        text, found, usage = read
        data = guard(b"".join([found.get(part, part) for part in self._written]))
        content, hidden = ("", text) if self.hidden else (text, "")
        return Event(data, "", None, None, True, content, hidden, usage)

    def usage(self, data: bytes) -> Usage | None:
        read = self._read(data)
        return None if read is None else read[2]

    def middle(self, data: bytes) -> bytes | None:
        found = self._found(data)
        return None if found is None else found[_TEXT]

    def _read(self, data: bytes) -> tuple[str, dict[bytes, bytes], Usage | None] | None:
        """The text, all that moves as it is written, and the usage; None if something is not as it would have to be."""
        found = self._found(data)
        if found is None:
            return None
        values: dict[str, Any] = {}
        try:
            text = read_text(found[_TEXT])
            for mark, name, kind in self._fields:
                values[name] = value = _decode(found[mark])
                if type(value) is not kind:
                    return None
        except UNREADABLE:
            return None
        if self.reads is None:
            return text, found, None
        usage = self.reads(values)
        return None if usage is None else (text, found, usage)

    def _found(self, data: bytes) -> dict[bytes, bytes] | None:
        """What stands where something moves, if the rest is the same."""
        if not (data.startswith(self._first) and data.endswith(self._last)) or 10 in data or 13 in data:
            return None
        found: dict[bytes, bytes] = {}
        at = len(self._first)
        for mark, behind in self._holes:
            end = data.find(behind, at) if behind else len(data) - len(self._last)
            if end < at:
                return None
            value = data[at:end]
            if found.setdefault(mark, value) != value:
                return None
            at = end + len(behind)
        return found


def _fields_in(data: bytes) -> dict[bytes, bytes]:
    """The fields that move in a chunk, by their marks, as they are written.

    :param data: with marks where its text stands.
    """
    try:
        chunk = _read_chunk(data.replace(_TEXT, b'"\\u0001"'))
    except UNREADABLE:
        return {}
    delta = chunk.choices[0].delta
    given = (chunk.usage, chunk.timings, UNSET if delta is UNSET else delta.token_id)
    written = {mark: bytes(raw) for mark, raw in zip(_FIELDS, given, strict=True) if raw is not UNSET}
    return {mark: value for mark, value in written.items() if type(_decode(value)) is _FIELDS[mark][1]}


def _cut(around: tuple[bytes, ...], fields: Mapping[bytes, bytes]) -> list[bytes] | None:
    """Split a chunk at its text and these fields, with a mark for each; None if one stands there in another way."""
    data = other = _TEXT.join(around)
    if len(_parts_of(data)) != 2 * len(around) - 1:
        return None
    for mark, value in fields.items():
        name, kind = _FIELDS[mark]
        written = b'"%b":%b' % (name.encode(), value)
        if data.count(written) != 1:
            return None
        data = data.replace(written, written[: -len(value)] + mark)
        other = other.replace(written, written[: -len(value)] + _ANOTHER[kind])
    found = _fields_in(other)
    return _parts_of(data) if all(found.get(mark) == _ANOTHER[_FIELDS[mark][1]] for mark in fields) else None
