"""What the dashboard shows besides sums: what runs now, how well it was served, and the hours of a day.

Whatever the size of the books, a bounded number of charges is read: the figures of larger ranges are of a sample, which
says so. Percentiles are nearest-rank (the least time that so many per cent stayed within), in SQL that SQLite and
PostgreSQL both have: https://www.sqlite.org/windowfunctions.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from sqlalchemy import CTE, ColumnElement, String, case, cast, func, literal, select, union_all

from sseproxy.core.pricing import nano_to_usd
from sseproxy.ledger import reports
from sseproxy.ledger.database import Database
from sseproxy.ledger.periods import DAY
from sseproxy.ledger.protocol import COUNTS, GroupBy, Outcome
from sseproxy.ledger.schema import charges, is_pending, micros, moment

HOUR: Final = DAY // 24
PERCENTS: Final = (50, 95, 99)
OUTCOMES: Final = get_args(Outcome)
FAILED: Final = ("upstream_failed", "refused", "expired")
"""What counts as an error: neither completed nor given up by the client."""
SAMPLE: Final = 40_000
MOST_RUNNING: Final = 100
#: Multiplicative hashing (Knuth, 6.4) of a moment, in 64 bits: requests at regular intervals, and moments that are
#: whole seconds, fall evenly into a sample.
_FOLD, _FACTOR, _PRIME = 1_000_003, 1_327_217_885, 2**31 - 1


class Quality(NamedTuple):
    """How well requests were served.

    :ivar requests: those that have ended and were looked at.
    :ivar percentiles: milliseconds to the first token, by per cent; empty if none came.
    """

    requests: int
    outcomes: Mapping[str, int]
    percentiles: Mapping[int, int]

    @property
    def errors(self) -> int:
        """How many ended as nobody wanted."""
        return sum(self.outcomes[name] for name in FAILED)


class Qualities(NamedTuple):
    """The same for a range of time.

    :ivar every: one request in so many was looked at; 1: all of them.
    :ivar models: by model. ``slots``: by moment, the beginning of a day or an hour.
    """

    every: int
    all: Quality
    models: Mapping[str, Quality]
    slots: Mapping[datetime, Quality]


NONE: Final = Quality(0, dict.fromkeys(OUTCOMES, 0), {})


class Overview:
    """Reads one ledger's database.

    Every method raises :class:`~sseproxy.ledger.protocol.LedgerUnavailable` if it is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def usage_of_days(self, since: datetime, until: datetime) -> Mapping[GroupBy, Sequence[Mapping[str, Any]]]:
        """Sums by user, key, day and model over whole days; see :func:`sseproxy.ledger.reports.usage_of_days`."""
        with self._database.read() as connection:
            return reports.usage_of_days(connection, since, until)

    def hours(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Sums per hour, in the order of time. Reads every charge of the range, which should be a day or so.

        Rows: ``hour`` (aware), ``requests``, the token counts and ``cost_usd`` as of :meth:`usage`, ``pending``.
        """
        hour = (charges.c.started_at // HOUR).label("hour")
        pending = func.sum(case((is_pending, 1), else_=0)).label("pending")
        sums = [func.sum(charges.c[name]).label(name) for name in (*COUNTS, "cost")]
        query = select(hour, func.count().label("requests"), pending, *sums).group_by(hour).order_by(hour)
        with self._database.read() as connection:
            rows = connection.execute(query.where(*_between(since, until))).mappings().all()
        return [_hour_row(row) for row in rows]

    def running(self, most: int = MOST_RUNNING) -> tuple[int, list[dict[str, Any]]]:
        """How many requests run now, in all processes, and the newest of them.

        Rows: ``id``, ``user``, ``key``, ``model``, ``route``, ``upstream``, ``started_at`` (aware), and
        ``input_tokens``, ``output_tokens`` and ``cost_usd`` as of the last checkpoint.
        """
        names = (
            "id", "user", "key", "model", "route", "upstream", "started_at", "input_tokens", "output_tokens", "cost",
        )  # fmt: skip
        # `+ 0`: SQLite would rather walk through all charges in the order of their index than sort the pending few.
        newest = select(*(charges.c[name] for name in names)).where(is_pending)
        newest = newest.order_by((charges.c.started_at + 0).desc(), charges.c.id).limit(most)
        with self._database.read() as connection:
            count = connection.execute(select(func.count()).select_from(charges).where(is_pending)).scalar_one()
            rows = connection.execute(newest).mappings().all()
        return count, [_running_row(row) for row in rows]

    def quality(
        self, since: datetime, until: datetime, slot: Literal["day", "hour"] = "day", *, sample: int = SAMPLE
    ) -> Qualities:
        """Outcomes and times to the first token of the requests that started in ``since <= t < until`` and have ended.

        :param slot: what the range is cut into.
        :param sample: about as many requests are looked at, spread evenly over the range.
        """
        size = HOUR if slot == "hour" else DAY
        in_range = _between(since, until)
        with self._database.read() as connection:
            total = connection.execute(select(func.count()).select_from(charges).where(*in_range)).scalar_one()
            every = -(-total // sample) or 1
            rows = connection.execute(_quality_of(_sampled(in_range, every, 2 * sample, size))).mappings().all()
        found = {(row["kind"], row["name"]): _quality(row) for row in rows}
        models = {name: each for (kind, name), each in found.items() if kind == "model"}
        slots = {moment(int(name) * size): each for (kind, name), each in found.items() if kind == "slot"}
        return Qualities(every, found.get(("all", ""), NONE), models, slots)


def _between(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return charges.c.started_at >= micros(since), charges.c.started_at < micros(until)


def _sampled(in_range: Sequence[ColumnElement[bool]], every: int, most: int, size: int) -> CTE:
    """Model, slot, outcome and time of each request that is looked at."""
    columns = charges.c
    query = select(
        columns.model,
        cast(columns.started_at // size, String).label("slot"),
        columns.outcome,
        columns.first_token_ms.label("ms"),
    ).where(*in_range, ~is_pending)
    if every > 1:
        query = query.where(columns.started_at % _FOLD * _FACTOR % _PRIME < _PRIME // every)
    # However unlucky the sample, no more than this; in no order, which would make PostgreSQL walk through an index. And
    # SQLite looks up the rows of a limited query once, not again for each of its uses.
    return query.limit(most).cte("sampled")


def _quality_of(sampled: CTE) -> Any:
    """One row for all, for each model and for each slot."""
    kinds = {"all": literal(""), "model": sampled.c.model, "slot": sampled.c.slot}
    each = union_all(
        *(
            select(literal(kind).label("kind"), name.label("name"), sampled.c.outcome, sampled.c.ms)
            for kind, name in kinds.items()
        )
    ).cte("each_kind")
    outcomes = {name: func.sum(case((each.c.outcome == name, 1), else_=0)).label(name) for name in OUTCOMES}
    times = (
        select(
            each.c.kind,
            each.c.name,
            each.c.ms,
            func.count().label("number"),
            func.count(each.c.ms).label("timed"),
            *outcomes.values(),
        )
        .group_by(each.c.kind, each.c.name, each.c.ms)
        .cte("times")
    )
    group = (times.c.kind, times.c.name)
    # Requests without a first token are one row of the group, which adds nothing wherever it is sorted.
    ranked = select(
        *times.c,
        func.sum(times.c.timed).over(partition_by=group, order_by=times.c.ms).label("rank"),
        func.sum(times.c.timed).over(partition_by=group).label("all_timed"),
    ).cte("ranked")
    within = {
        percent: func.min(case((ranked.c.rank * 100 >= ranked.c.all_timed * percent, ranked.c.ms)))
        for percent in PERCENTS
    }
    return select(
        ranked.c.kind,
        ranked.c.name,
        func.sum(ranked.c.number).label("requests"),
        *(func.sum(ranked.c[name]).label(name) for name in OUTCOMES),
        *(least.label(f"p{percent}") for percent, least in within.items()),
    ).group_by(ranked.c.kind, ranked.c.name)


def _quality(row: Mapping[Any, Any]) -> Quality:
    # PostgreSQL adds up BIGINT as NUMERIC.
    percentiles = {percent: int(row[f"p{percent}"]) for percent in PERCENTS if row[f"p{percent}"] is not None}
    return Quality(int(row["requests"]), {name: int(row[name]) for name in OUTCOMES}, percentiles)


def _hour_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    counts = {name: int(row[name]) for name in ("requests", "pending", *COUNTS)}
    return {"hour": moment(row["hour"] * HOUR), **counts, "cost_usd": nano_to_usd(int(row["cost"]))}


def _running_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name != "cost"}
    return {**shown, "started_at": moment(row["started_at"]), "cost_usd": nano_to_usd(row["cost"])}
