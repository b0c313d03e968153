"""The time a page is about: whole days, in UTC. Pure: what day it is, the caller says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Final
from urllib.parse import urlencode

from sseproxy.core.chat import BadRequest

NAMES: Final = {"today": "Today", "7d": "7 days", "30d": "30 days", "month": "This month"}
DEFAULT: Final = "7d"
MOST_DAYS: Final = 366
_CUSTOM: Final = "custom"
_DAY: Final = timedelta(days=1)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True)
class Range:
    """Some days in a row.

    :ivar name: one of :data:`NAMES`, or ``custom``.
    :ivar last: the last day that belongs to it.
    """

    name: str
    first: date
    last: date

    @property
    def since(self) -> datetime:
        """The first moment."""
        return datetime.combine(self.first, time(), timezone.utc)

    @property
    def until(self) -> datetime:
        """The first moment that no longer belongs to it."""
        return datetime.combine(self.last + _DAY, time(), timezone.utc)

    @property
    def is_one_day(self) -> bool:
        """Whether it is better shown by the hour."""
        return self.first == self.last

    @property
    def query(self) -> str:
        """The query that asks for it."""
        days = {"since": self.first.isoformat(), "until": self.last.isoformat()} if self.name == _CUSTOM else {}
        return urlencode({"range": self.name, **days})

    @property
    def words(self) -> str:
        """The days, for people."""
        return f"{self.first}" if self.is_one_day else f"{self.first} to {self.last}"


def named_range(name: str, today: date) -> Range:
    """The range of that name, which ends today.

    :raises KeyError: there is none.
    """
    firsts = {"today": today, "7d": today - 6 * _DAY, "30d": today - 29 * _DAY, "month": today.replace(day=1)}
    return Range(name, firsts[name], today)


def read_range(query: Mapping[str, str], today: date) -> Range:
    """The range that ``range``, ``since`` and ``until`` ask for; the default where they say nothing.

    :raises BadRequest: they ask for none there is.
    """
    name = query.get("range") or (_CUSTOM if query.get("since") or query.get("until") else DEFAULT)
    if name in NAMES:
        return named_range(name, today)
    if name != _CUSTOM:
        raise BadRequest(f"There is no such range; choose one of {', '.join(NAMES)} or custom.", "range")
    first, last = _date(query, "since"), _date(query, "until")
    if first > last:
        raise BadRequest("The first day comes after the last one.", "since")
    if (last - first).days >= MOST_DAYS:
        raise BadRequest(f"That is too long for a page: choose at most {MOST_DAYS} days.", "since")
    return Range(_CUSTOM, first, last)


def _date(query: Mapping[str, str], name: str) -> date:
    text = query.get(name, "")
    try:
        found = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        found = None
    # The day after the last must be a date, too.
    if found is None or not 1970 <= found.year < 9999:
        which = "first" if name == "since" else "last"
        raise BadRequest(f"The {which} day is no date; expected something like 2026-11-01.", name)
    return found
