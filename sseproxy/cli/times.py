"""Options that are points in time or durations."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone

import click


def moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Option callback: date, ISO 8601 timestamp (UTC unless it names a zone), duration ago, ``today``, ``month``."""
    from sseproxy.times import EXPECTED, parse_moment

    found = None if value is None else parse_moment(value, datetime.now(timezone.utc))
    if value is not None and found is None:
        raise click.BadParameter(EXPECTED)
    return found


def check_order(since: datetime | None, until: datetime | None) -> None:
    """Refuse a range that nothing can lie in."""
    if since is not None and until is not None and since >= until:
        raise click.BadParameter(
            f"expected a time before --until, which is {until:%Y-%m-%d %H:%M:%S} UTC", param_hint="--since"
        )


def duration(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Option callback: how long something holds, such as ``90d``."""
    from sseproxy.config.values import parse_duration

    if value is None:
        return None
    with suppress(ValueError, OverflowError):
        if found := timedelta(seconds=parse_duration(value)):  # in whole microseconds, so it may be none
            return found
    raise click.BadParameter("expected a duration such as 12h, 90d or 52w")
