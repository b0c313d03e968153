"""The kinds of value the file knows beside text: durations, sizes, numbers, patterns, with their JSON Schema.

Each accepts what ``${VAR}`` leaves behind, which is always text. A message here never repeats the value: it may be a
secret that stands in the wrong place.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from sseproxy.core.allowance import Rate

KIND: Final = "x-kind"
"""Where a JSON Schema says, in the words of docs/configuration.md, what kind of value it is."""

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES: Final = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", start=1)
}
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(ms|s|m|h|d|w)")
_LONGEST: Final = 36_500 * 86_400.0
_SIZE = re.compile(r"(\d+)\s*([KMGT]?i?B|)")
_FREQUENCY = re.compile(r"(\d{1,13})/(second|minute|hour|day)")
_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_REFERENCE_SCHEMA: Final = {"type": "string", "pattern": r"\$\{"}


class Expected(ValueError):
    """A value of the wrong kind.

    :param message: what was expected.
    :param suggestion: how it would be written right.
    """

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


def parse_duration(text: object) -> float:
    """``500ms``, ``5s``, ``15m``, ``12h``, ``90d``, ``2w`` in seconds.

    :raises Expected: for anything else, a bare number included.
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        in_seconds = f"{text}s"
        raise Expected(
            "expected a duration with its unit, such as 500ms, 5s, 15m, 90d",
            in_seconds if isinstance(text, (int, float)) and text > 0 and _DURATION.fullmatch(in_seconds) else None,
        )
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not seconds:
        raise Expected("expected a duration longer than nothing, such as 500ms, 5s, 15m, 90d")
    return seconds


def parse_duration_or_none(text: object) -> float:
    """A duration, or ``0s``.

    :raises Expected: for anything else.
    """
    return 0.0 if text in ("0s", 0) and not isinstance(text, bool) else parse_duration(text)


def _within_reach(seconds: float) -> float:
    """Sockets and locks wait for 292 years at most, and fail where they are to wait longer."""
    if seconds > _LONGEST:
        raise Expected("expected a duration of at most 36500d")
    return seconds


def parse_size(text: object) -> int:
    """``10MiB`` (1024-based), ``1MB`` (1000-based) or a number of bytes.

    :raises Expected: for anything else, and for nothing.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    size = int(match[1]) * _BYTES.get(match[2], 0) if match else 0
    if size < 1:
        raise Expected("expected a size such as 64KiB, 10MiB or 1MB")
    return size


def write_duration(seconds: float) -> str:
    """``seconds`` as the file has it, in the largest unit that leaves a whole number."""
    units = [unit for unit, length in _SECONDS.items() if (seconds / length).is_integer()]
    return f"{seconds / _SECONDS[units[-1]]:g}{units[-1]}" if units else f"{seconds:g}s"


def write_size(size: int) -> str:
    """``size`` bytes as the file has it, in the largest 1024-based unit that leaves a whole number."""
    units = [unit for unit, length in _BYTES.items() if unit.endswith("iB") and size % length == 0]
    return f"{size // _BYTES[units[-1]]}{units[-1]}" if units else f"{size}"


def _whole(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Expected("expected a whole number")


def within(least: int, most: int, what: str) -> AfterValidator:
    """Refuses a number, of what is named, that is not between these two."""

    def check(value: int) -> int:
        if not least <= value <= most:
            raise Expected(f"expected {least} to {most} {what}")
        return value

    return AfterValidator(check)


def _flag(value: object) -> object:
    known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    word = value.strip().lower() if isinstance(value, str) else None
    if isinstance(value, bool):
        return value
    if word in known:
        return known[word]
    raise Expected("expected true or false")


def _text(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        raise Expected("expected text; put the value in quotes")
    raise Expected(f"expected text, not {kind(value)}")


def _usd(value: object, *, expected: str) -> Decimal:
    """A YAML number is taken as it was written: ``str`` of a float is the shortest that reads back the same."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise Expected(expected)
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= 1_000_000:
        raise Expected(expected)
    return amount


def parse_frequency(value: object) -> Rate:
    """``60/minute``, ``5/second``, ``100000/hour``, ``1000/day``: so many in any time of that length.

    :raises Expected: for anything else, and for none at all.
    """
    if isinstance(value, Rate):
        return value
    match = _FREQUENCY.fullmatch(value.strip()) if isinstance(value, str) else None
    count = int(match[1]) if match else 0
    if match is None or not 1 <= count <= 10**12:
        bare = isinstance(value, int) and not isinstance(value, bool) and value > 0
        raise Expected(
            "expected so many per second, minute, hour or day, such as 60/minute", f"{value}/minute" if bare else None
        )
    return Rate(count, _PERIODS[match[2]])


def kind(value: object) -> str:
    """What ``value`` is, in words for people who write YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names = {str: "text", list: "a list", tuple: "a list", dict: "a mapping", datetime: "a date", date: "a date"}
    return names.get(type(value), "this")


def _duration_schema(*examples: str) -> WithJsonSchema:
    pattern = r"^(\d+(\.\d+)?(ms|s|m|h|d|w)|.*\$\{.*)$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples), KIND: "duration"})


def _usd_schema(example: str) -> WithJsonSchema:
    number = {"type": "number", "minimum": 0}
    return WithJsonSchema({"anyOf": [{"type": "string"}, number], "examples": [example], KIND: "USD"})


Duration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_within_reach), _duration_schema("5s", "15m")
]
DurationOrNone = Annotated[
    float, BeforeValidator(parse_duration_or_none), AfterValidator(_within_reach), _duration_schema("0s", "30s")
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}],
            "examples": ["10MiB", "64KiB"],
            KIND: "size",
        }
    ),
]
Whole = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, _REFERENCE_SCHEMA], KIND: "number"}),
]
Flag = Annotated[
    bool,
    BeforeValidator(_flag),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, _REFERENCE_SCHEMA], KIND: "true or false"}),
]
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
Frequency = Annotated[
    Rate,
    BeforeValidator(parse_frequency),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(\d+/(second|minute|hour|day)|.*\$\{.*)$",
            "examples": ["60/minute"],
            KIND: "frequency",
        }
    ),
]
Money = Annotated[
    Decimal,
    BeforeValidator(partial(_usd, expected='expected USD as a decimal in quotes, such as "5.00"')),
    _usd_schema("5.00"),
]
Amount = Annotated[
    Decimal,
    BeforeValidator(partial(_usd, expected='expected USD per million tokens as a decimal in quotes, such as "0.15"')),
    _usd_schema("0.15"),
]
