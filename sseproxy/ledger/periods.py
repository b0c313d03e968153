"""Days, weeks and months of the books, all in UTC. Pure; a day is the number of days since 1970-01-01."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Final

from sseproxy.ledger.protocol import Period
from sseproxy.ledger.schema import micros

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
def names_of(day: int) -> dict[Period, str]:
    """The periods a day belongs to, by kind: the longest first, which is the order in which their rows are locked."""
    there = date_of(day)
    year, week, _ = there.isocalendar()
    return {"total": "total", "month": f"{there:%Y-%m}", "week": f"{year:04d}-W{week:02d}", "day": there.isoformat()}


def period_name(per: Period, at: datetime) -> str:
    """The name of the period that contains a moment: ``2026-11-21``, ``2026-W47``, ``2026-11`` or ``total``."""
    return names_of(day_of(micros(at)))[per]


def renewal(per: Period, at: datetime) -> datetime | None:
    """When the period after the one that contains ``at`` begins; ``None`` if there is none."""
    there = date_of(day_of(micros(at)))
    if per == "total":
        return None
    if per == "day":
        then = there + timedelta(days=1)
    elif per == "week":
        then = there + timedelta(days=7 - there.weekday())
    else:
        then = (there.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime.combine(then, time(), timezone.utc)
