"""What the dashboard shows of a range: rows of the ledger, side by side, as tables and as a few figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from sseproxy.core.chat import BadRequest
from sseproxy.core.pricing import nano_to_usd, usd_to_nano
from sseproxy.web.dashboard.ranges import MOST_DAYS, Range
from sseproxy.web.dashboard.tables import (
    NOTHING,
    Column,
    Table,
    show_count,
    show_large,
    show_moment,
    show_ms,
    show_seconds,
    show_share,
    show_usd,
)

if TYPE_CHECKING:
    from sseproxy.ledger.overview import Overview, Qualities, Quality
    from sseproxy.ledger.protocol import GroupBy

_COUNTS: Final = ("requests", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
_SUMS: Final = (*_COUNTS, "cost_usd", "pending")
_SERVED: Final = ("sampled_requests", "errors", "error_rate", "p50_ms", "p95_ms", "p99_ms")
_MONEY: Final = (
    Column("cost_usd", "Cost", show_usd, adds_up=True, bar=True),
    Column("requests", "Requests", show_count, adds_up=True),
    Column("input_tokens", "Input", show_count, adds_up=True),
    Column("cached_input_tokens", "of it cached", show_count, adds_up=True),
    Column("output_tokens", "Output", show_count, adds_up=True),
    Column("reasoning_tokens", "of it reasoning", show_count, adds_up=True),
)
_QUALITY: Final = (
    Column("error_rate", "Errors", show_share),
    Column("p50_ms", "First token p50", show_ms),
    Column("p95_ms", "p95", show_ms),
    Column("p99_ms", "p99", show_ms),
)
_RUNNING: Final = (
    Column("user", "User"),
    Column("model", "Model"),
    Column("key", "Key"),
    Column("started_at", "Since (UTC)", show_moment),
    Column("seconds", "For", show_seconds),
    Column("output_tokens", "Tokens so far", show_count),
    Column("cost_usd", "Cost so far", show_usd),
)
RUNNING: Final = "running"
NAMES: Final = ("day", "hour", "user", "model", "key", RUNNING)
"""All tables; each has a CSV file."""


def running_table(overview: Overview, now: datetime) -> Table:
    """What runs now, in all processes that share the ledger."""
    count, found = overview.running()
    rows = [{**row, "seconds": int((now - row["started_at"]).total_seconds())} for row in found]
    fields = (
        "id", "user", "key", "model", "route", "upstream", "started_at", "input_tokens", "output_tokens", "cost_usd",
    )  # fmt: skip
    more = f" The newest {len(rows)} of {count:,}." if count > len(rows) else ""
    note = f"In all processes that share the ledger; counted at the last checkpoint, a few seconds ago at most.{more}"
    return Table(RUNNING, f"Running now: {count:,}", rows, _RUNNING, fields, "Nothing runs at this moment.", note)


class Figures:
    """The ledger's answers for one range."""

    def __init__(self, overview: Overview, time: Range) -> None:
        self._overview = overview
        self._time = time

    @cached_property
    def qualities(self) -> Qualities:
        """How well requests were served."""
        slot: Literal["day", "hour"] = "hour" if self._time.is_one_day else "day"
        return self._overview.quality(self._time.since, self._time.until, slot)

    @cached_property
    def _sums(self) -> Mapping[GroupBy, Sequence[Mapping[str, Any]]]:
        return self._overview.usage_of_days(self._time.since, self._time.until)

    def tables(self) -> list[Table]:
        """The tables of the page."""
        slot = "hour" if self._time.is_one_day else "day"
        return [self.table(name) for name in (slot, "user", "model", "key")]

    def table(self, name: str) -> Table:
        """One of :data:`NAMES`, but for what is running."""
        make = {"day": self._days, "hour": self._hours, "user": self._users, "model": self._models, "key": self._keys}
        return make[name]()

    def _days(self) -> Table:
        rows = []
        for row in reversed(self._sums["day"]):
            at = datetime.fromisoformat(row["day"]).replace(tzinfo=timezone.utc)
            quality = self.qualities.all if self._time.is_one_day else self.qualities.slots.get(at)
            rows.append({**row, "at": at, **_served(quality)})
        columns = (Column("day", "Day (UTC)", slot=True), *_MONEY, *_QUALITY)
        return Table("day", "By day", rows, columns, ("day", *_SUMS, "unpriced", *_SERVED), most=MOST_DAYS)

    def _hours(self) -> Table:
        if not self._time.is_one_day:
            raise BadRequest("Hours are there for a single day.", "range")
        slots = self.qualities.slots
        rows = [
            {**row, "at": row["hour"], "name": f"{row['hour']:%H:%M}", **_served(slots.get(row["hour"]))}
            for row in reversed(self._overview.hours(self._time.since, self._time.until))
        ]
        columns = (Column("name", "Hour (UTC)", slot=True), *_MONEY, *_QUALITY)
        return Table("hour", "By hour", rows, columns, ("hour", *_SUMS, *_SERVED), most=MOST_DAYS)

    def _users(self) -> Table:
        return Table(
            "user", "By user", self._sums["user"], (Column("user", "User"), *_MONEY), ("user", *_SUMS, "unpriced")
        )

    def _models(self) -> Table:
        served = self.qualities.models
        rows = [{**row, **_served(served.get(row["model"] or ""))} for row in self._sums["model"]]
        columns = (Column("model", "Model"), *_MONEY, *_QUALITY)
        unpriced = sum(row["unpriced"] for row in rows)
        note = f"Requests booked at 0, for want of a price: {unpriced:,}." if unpriced else ""
        return Table("model", "By model", rows, columns, ("model", *_SUMS, "unpriced", *_SERVED), note=note)

    def _keys(self) -> Table:
        columns = (Column("key", "Key"), Column("user", "User", none="several"), *_MONEY)
        return Table("key", "By key", self._sums["key"], columns, ("key", "user", *_SUMS, "unpriced"))


def summary(rows: Sequence[Mapping[str, Any]], qualities: Qualities) -> list[tuple[str, str, str]]:
    """The few figures above everything: title, figure, what there is to know of it.

    :param rows: those of any table that adds up to everything.
    """
    total = {name: sum(row[name] for row in rows) for name in _COUNTS}
    cost = nano_to_usd(sum(usd_to_nano(row["cost_usd"]) for row in rows))
    served = _served(qualities.all)
    errors = NOTHING if served["error_rate"] is None else show_share(served["error_rate"])
    times = [
        NOTHING if served[name] is None else show_ms(served[name]).replace(" ", "\N{NO-BREAK SPACE}")
        for name in ("p50_ms", "p95_ms", "p99_ms")
    ]
    outcomes = qualities.all.outcomes
    failed = f"{outcomes['upstream_failed']:,} failed, {outcomes['refused']:,} refused, {outcomes['expired']:,} expired"
    if qualities.every > 1:
        failed = f"in a sample of {qualities.all.requests:,}"
    return [
        ("Cost", show_usd(cost), ""),
        ("Requests", show_large(total["requests"]), ""),
        (
            "Input tokens",
            show_large(total["input_tokens"]),
            f"{show_large(total['cached_input_tokens'])} of them cached",
        ),
        (
            "Output tokens",
            show_large(total["output_tokens"]),
            f"{show_large(total['reasoning_tokens'])} of them reasoning",
        ),
        ("Errors", errors, failed if qualities.all.requests else ""),
        (
            "First token, p50",
            times[0],
            f"p95 {times[1]}, p99 {times[2]}" if served["p50_ms"] is not None else "",
        ),
    ]


def sample_note(qualities: Qualities) -> str:
    """How errors and times are known, where it is not by looking at every request."""
    if qualities.every == 1:
        return ""
    looked_at = f"one request in {qualities.every:,}, {qualities.all.requests:,} in all"
    return f"Errors and times to the first token are those of a sample: {looked_at}."


def slot_step(time: Range) -> int:
    """Seconds between two points of the plots."""
    return 3600 if time.is_one_day else 86_400


def _served(quality: Quality | None) -> dict[str, Any]:
    """How well, as columns; empty ones where nothing is known."""
    if quality is None or not quality.requests:
        return dict.fromkeys(_SERVED)
    return {
        "sampled_requests": quality.requests,
        "errors": quality.errors,
        "error_rate": f"{quality.errors / quality.requests:.6f}",
        **{f"p{percent}_ms": quality.percentiles.get(percent) for percent in (50, 95, 99)},
    }
