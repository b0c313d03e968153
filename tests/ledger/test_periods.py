"""Periods of the books are those of UTC."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from sseproxy.ledger.periods import date_of, day_of, days_of, period_name, renewal
from sseproxy.ledger.protocol import Period
from sseproxy.ledger.schema import micros, moment


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("per", "at", "name", "renews"),
    [
        ("day", utc(2026, 11, 21, 23, 59, 59, 999_999), "2026-11-21", utc(2026, 11, 22)),
        ("day", utc(2028, 2, 28), "2028-02-28", utc(2028, 2, 29)),
        ("week", utc(2026, 11, 22, 23, 59), "2026-W47", utc(2026, 11, 23)),
        ("week", utc(2026, 11, 23), "2026-W48", utc(2026, 11, 30)),
        ("week", utc(2027, 1, 1), "2026-W53", utc(2027, 1, 4)),
        ("month", utc(2026, 12, 31, 23, 59, 59), "2026-12", utc(2027, 1, 1)),
        ("month", utc(2027, 1, 31), "2027-01", utc(2027, 2, 1)),
        ("total", utc(2026, 11, 21), "total", None),
    ],
)
def test_a_period_has_a_name_and_an_end(per: Period, at: datetime, name: str, renews: datetime | None) -> None:
    assert period_name(per, at) == name
    assert renewal(per, at) == renews


def test_local_time_does_not_move_the_month() -> None:
    tokyo = timezone(timedelta(hours=9))
    honolulu = timezone(timedelta(hours=-10))

    assert period_name("month", datetime(2026, 12, 1, 8, 59, tzinfo=tokyo)) == "2026-11"
    assert period_name("month", datetime(2026, 11, 30, 14, 0, tzinfo=honolulu)) == "2026-12"


@pytest.mark.parametrize(
    ("per", "at", "first", "last"),
    [
        ("day", utc(2026, 11, 21, 23, 59), date(2026, 11, 21), date(2026, 11, 21)),
        ("week", utc(2026, 11, 22, 23, 59), date(2026, 11, 16), date(2026, 11, 22)),
        ("week", utc(2027, 1, 1), date(2026, 12, 28), date(2027, 1, 3)),
        ("month", utc(2026, 12, 31, 23, 59), date(2026, 12, 1), date(2026, 12, 31)),
        ("month", utc(2028, 2, 1), date(2028, 2, 1), date(2028, 2, 29)),
    ],
)
def test_a_period_is_the_sum_of_its_days(per: Period, at: datetime, first: date, last: date) -> None:
    days = days_of(per, day_of(micros(at)))

    assert tuple(map(date_of, days)) == (first, last)


def test_all_time_is_no_day_of_any_other_period() -> None:
    last_day = day_of(micros(utc(9999, 12, 31)))

    assert days_of("total", 0) == days_of("total", last_day)
    assert days_of("total", last_day)[0] > last_day


@pytest.mark.parametrize("at", [utc(1969, 12, 31, 23, 59, 59, 999_999), utc(1970, 1, 1), utc(2026, 11, 21, 1, 2, 3, 4)])
def test_a_moment_survives_the_table(at: datetime) -> None:
    assert moment(micros(at)) == at


def test_a_time_without_a_zone_is_no_moment() -> None:
    with pytest.raises(ValueError, match="time zone"):
        micros(datetime(2026, 11, 21))
