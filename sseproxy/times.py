"""Points in time as people write them, on the command line and in queries; always in UTC, as the books are kept."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from sseproxy.config.values import parse_duration

EXPECTED = "expected 2026-11-01, 2026-11-01T12:30:00+01:00, 7d (ago), today or month"


def parse_moment(text: str, now: datetime) -> datetime | None:
    """The point in time that ``text`` means at ``now``; None if it means none.

    A date, an ISO 8601 timestamp (UTC unless it names a zone), a duration ago, ``today`` or ``month``.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "month"):
        return midnight if text == "today" else midnight.replace(day=1)
    return _ago(text, now) or _stamp(text)


def _ago(text: str, now: datetime) -> datetime | None:
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        return None


def _stamp(text: str) -> datetime | None:
    try:
        # Python 3.10 knows neither the Z of RFC 3339 nor fractions of a second but those of three or six digits.
        text = re.sub(r"(?<=\.)[0-9]+", lambda fraction: f"{fraction[0]:0<6.6}", text)
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
