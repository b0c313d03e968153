"""Durations, sizes, numbers, money."""

from __future__ import annotations

import socket
from decimal import Decimal

import pytest
from pydantic import TypeAdapter, ValidationError

from sseproxy.config.values import (
    Amount,
    Duration,
    DurationOrNone,
    Expected,
    Flag,
    Text,
    Whole,
    parse_duration,
    parse_size,
    write_duration,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("1.5s", 1.5), ("15m", 900), ("12h", 43200), ("90d", 7776000), ("2w", 1209600)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "0s", "5 s", "5sec", "1e3s", "5s5s", True, None, [], "٥s" * 9])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(Expected, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["5 minutes", "5sec", "1h30m", "-5s", "15", "9" * 400 + "s"])
def test_what_is_no_duration_is_not_called_too_short(text: str) -> None:
    with pytest.raises(Expected, match="expected a duration with its unit"):
        parse_duration(text)


@pytest.mark.parametrize("kind", [Duration, DurationOrNone])
def test_a_duration_that_no_socket_can_wait_for_is_refused(kind: object) -> None:
    with socket.socket() as waiting:
        waiting.settimeout(accepted(kind, "36500d"))  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="at most 36500d"):
        accepted(kind, "36501d")


def test_a_bare_number_is_no_duration_but_a_hint() -> None:
    with pytest.raises(Expected) as caught:
        parse_duration(60)
    assert caught.value.suggestion == "60s"


@pytest.mark.parametrize(("number", "suggestion"), [(1_500_000, "1500000s"), (1.5, "1.5s"), (float("inf"), None)])
def test_what_is_suggested_for_a_number_is_a_duration(number: float, suggestion: str | None) -> None:
    with pytest.raises(Expected) as caught:
        parse_duration(number)

    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("text", "size"),
    [("10MiB", 10485760), ("64KiB", 65536), ("1MB", 1000000), ("1 GiB", 2**30), ("512", 512), ("3B", 3), (4096, 4096)],
)
def test_sizes_are_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10Mb", "10mib", "MiB", "-1", "0", 0, -1, True, 1.5, None, "1iB"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(Expected, match="expected a size"):
        parse_size(text)


def accepted(kind: object, value: object) -> object:
    return TypeAdapter[object](kind).validate_python(value)


def test_numbers_flags_and_text_are_not_taken_for_each_other() -> None:
    assert accepted(Whole, "12") == accepted(Whole, 12) == 12
    assert accepted(Flag, "True") is accepted(Flag, True) is True
    assert accepted(Text, "x") == "x"
    for kind, value in [(Whole, True), (Whole, 1.0), (Whole, "1.0"), (Flag, 1), (Flag, "y"), (Text, 1), (Text, None)]:
        with pytest.raises(ValidationError):
            accepted(kind, value)


def test_money_is_decimal_and_exact() -> None:
    assert accepted(Amount, "0.15") == accepted(Amount, 0.15) == Decimal("0.15")
    assert accepted(Amount, 0) == 0
    for value in ["-1", "nan", "inf", "1e99", "x", True, None, [], "0,15"]:
        with pytest.raises(ValidationError):
            accepted(Amount, value)


@pytest.mark.parametrize("text", ["500ms", "90s", "15m", "36h", "90d", "2w"])
def test_a_duration_is_written_as_it_would_be_given(text: str) -> None:
    assert write_duration(parse_duration(text)) == text


@pytest.mark.parametrize("text", ["1000", "64KiB", "10MiB", "3GiB"])
def test_a_size_is_written_as_it_would_be_given(text: str) -> None:
    assert write_size(parse_size(text)) == text
