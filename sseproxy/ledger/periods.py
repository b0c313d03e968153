"""Days, weeks and months of the books, all in UTC. Pure; a day is the number of days since 1970-01-01."""

from __future__ import annotations

import calendar
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Final

from sseproxy.ledger.protocol import Period
from sseproxy.ledger.schema import ALL_DAYS, micros

DAY: Final = 86_400 * 10**6
"""Microseconds."""
_FIRST: Final = date(1970, 1, 1)


def day_of(since_epoch: int) -> int:
    """The day of a moment in microseconds since 1970."""
    return since_epoch // DAY


def start_of(day: int) -> int:
    """The first microsecond of a day."""
    return day * DAY


def date_of(day: int) -> date:
    """A day as Python has it."""
    return _FIRST + timedelta(days=day)


@lru_cache(maxsize=256)
def days_of(per: Period, day: int) -> tuple[int, int]:
    """The first and the last day of the period that a day belongs to, as the balances have them."""
    if per == "total":
        return ALL_DAYS, ALL_DAYS
    there = date_of(day)
    if per == "week":
        return day - there.weekday(), day - there.weekday() + 6
    if per == "month":
        first = day - there.day + 1
        return first, first + calendar.monthrange(there.year, there.month)[1] - 1
    return day, day


def period_name(per: Period, at: datetime) -> str:
    """The name of the period that contains a moment: ``2026-11-21``, ``2026-W47``, ``2026-11`` or ``total``."""
    if per == "total":
        return "total"
    there = date_of(day_of(micros(at)))
    if per == "week":
        year, week, _ = there.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return f"{there:%Y-%m}" if per == "month" else there.isoformat()


def renewal(per: Period, at: datetime) -> datetime | None:
    """When the period after the one that contains ``at`` begins; ``None`` if there is none."""
    if per == "total":
        return None
    _, last = days_of(per, day_of(micros(at)))
    return datetime.combine(date_of(last + 1), time(), timezone.utc)
