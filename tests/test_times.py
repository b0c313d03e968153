"""Points in time as people write them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from sseproxy.times import parse_moment

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("fraction", "microsecond"),
    [("", 0), (".5", 500_000), (".25", 250_000), (".1234", 123_400), (".123456", 123_456), (".123456789", 123_456)],
)
@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
def test_a_second_has_fractions_of_any_length(fraction: str, microsecond: int, zone: str) -> None:
    moment = parse_moment(f"2026-11-01T12:30:00{fraction}{zone}", NOW)

    assert moment == datetime(2026, 11, 1, 12, 30, 0, microsecond, timezone.utc)


@pytest.mark.parametrize("text", ["2026-11-01T12:30:00.", "2026-11-01T12:30:00.x", ".5"])
def test_a_fraction_that_is_none_is_no_time(text: str) -> None:
    assert parse_moment(text, NOW) is None
