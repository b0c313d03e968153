"""A JSON value with placeholders, compiled once: the shape of an envelope's events. Knows no event and no chunk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from sseproxy.core.chunk import guard

NESTED: Final = "$json"
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_encode: Final = msgspec.json.Encoder().encode


class _Slot(NamedTuple):
    """Where a value goes, and how many strings of JSON it stands in."""

    name: str
    depth: int


class Template:
    """JSON whose strings may hold placeholders, ``{text}``. The one key ``$json`` makes a string that holds JSON.

    :param value: as read from JSON or YAML.
    :param known: the names that placeholders may have.
    :raises ValueError: an unknown placeholder, or what is no JSON; with words for the person who wrote it.
    :ivar names: the placeholders in it.
    """

    def __init__(self, value: Any, known: Iterable[str]) -> None:
        parts = _merged(_parts(value, tuple(known)))
        self.names = frozenset(part.name for part in parts if isinstance(part, _Slot))
        self._parts = parts

    def render(self, values: Mapping[str, str]) -> bytes:
        """The JSON on one line, with a value for each of :attr:`names`; in linear time."""
        filled = [part if isinstance(part, bytes) else _escape(values[part.name], part.depth) for part in self._parts]
        return guard(b"".join(filled))


def _escape(text: str, depth: int) -> bytes:
    escaped = _encode(text)[1:-1]
    for _ in range(depth - 1):
        escaped = _encode(escaped.decode())[1:-1]
    return escaped


def _parts(value: Any, known: tuple[str, ...]) -> Iterator[str | _Slot]:
    """The JSON text of ``value``, with slots for placeholders."""
    if isinstance(value, str):
        yield '"'
        yield from _string(value, known)
        yield '"'
    elif isinstance(value, Mapping):
        yield from _nested(value, known) if NESTED in value else _mapping(value, known)
    elif isinstance(value, (list, tuple)):
        for at, each in enumerate(value):
            yield "," if at else "["
            yield from _parts(each, known)
        yield "]" if value else "[]"
    else:
        yield _scalar(value)


def _mapping(value: Mapping[Any, Any], known: tuple[str, ...]) -> Iterator[str | _Slot]:
    yield "{"
    for at, (key, each) in enumerate(value.items()):
        if not isinstance(key, str):
            raise ValueError(f"the key {key} must be text; put it in quotes")
        if _PLACEHOLDER.search(key):
            raise ValueError(f"the key {key} has a placeholder; only values can")
        yield ("," if at else "") + _scalar(key) + ":"
        yield from _parts(each, known)
    yield "}"


def _nested(value: Mapping[Any, Any], known: tuple[str, ...]) -> Iterator[str | _Slot]:
    """A string that holds JSON: everything inside is escaped once more."""
    if len(value) > 1:
        raise ValueError(f"{NESTED} stands alone in its mapping: the whole mapping becomes one string")
    yield '"'
    for part in _parts(value[NESTED], known):
        yield _scalar(part)[1:-1] if isinstance(part, str) else _Slot(part.name, part.depth + 1)
    yield '"'


def _string(value: str, known: tuple[str, ...]) -> Iterator[str | _Slot]:
    literals = _PLACEHOLDER.split(value)
    if len(literals) > 1 and _holds_json(value):
        raise ValueError(
            f"JSON written as text breaks at the first quotation mark that a placeholder brings; "
            f"write it as a mapping under {NESTED}"
        )
    for at, each in enumerate(literals):
        if at % 2 == 0:
            yield _scalar(each)[1:-1]
        elif each in known:
            yield _Slot(each, 1)
        else:
            names = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"unknown placeholder {{{each}}}; known here: {names}")


def _holds_json(value: str) -> bool:
    """Whether it would be a JSON object, were its placeholders numbers."""
    try:
        return isinstance(json.loads(_PLACEHOLDER.sub("0", value)), dict)
    except ValueError:
        return False


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, (str, bool, int, float)):
        try:
            json_text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            json_text.encode()
            return json_text
        except ValueError:
            raise ValueError(f"{value!a} cannot be written as JSON") from None
    raise ValueError(f"a {type(value).__name__} is no JSON; put it in quotes")


def _merged(parts: Iterable[str | _Slot]) -> tuple[bytes | _Slot, ...]:
    """Neighbouring literals as one, in bytes."""
    merged: list[bytes | _Slot] = []
    literal: list[str] = []
    for part in parts:
        if isinstance(part, str):
            literal.append(part)
            continue
        merged += ["".join(literal).encode(), part]
        literal = []
    return (*merged, "".join(literal).encode())
