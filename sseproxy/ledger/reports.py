"""What the books say: sums per user, model, day, route, key or upstream, and the charges themselves, as plain rows.

Sums come from ``daily_usage``; the charges are read only for the broken days at the ends of the asked time and for what
is still pending. How rows are shown (table, JSON, CSV) is the business of whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from typing import Any, Final, get_args

from sqlalchemy import ColumnElement, Connection, Label, Select, case, func, literal, select

from sseproxy.core.pricing import nano_to_usd
from sseproxy.core.tries import Try, as_rows
from sseproxy.ledger.periods import DAY, date_of, day_of, start_of
from sseproxy.ledger.protocol import CHARGE_ROW, COUNTS, GroupBy
from sseproxy.ledger.schema import charges, daily_usage, is_pending, micros, moment
from sseproxy.ledger.statements import SUMS

_PAIRS: Final[Sequence[Sequence[GroupBy]]] = (("user", "key"), ("day", "model"))
_GROUPS: Final = frozenset(get_args(GroupBy))
#: Before and after every charge: the years 1 and 9999.
_BEGINNING: Final = micros(datetime.min.replace(tzinfo=timezone.utc))
_END: Final = micros(datetime.max.replace(tzinfo=timezone.utc))
_COUNTS: Final = ("requests", *COUNTS)


def usage(
    connection: Connection,
    by: GroupBy = "user",
    *,
    user: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """Sums over the charges that started in ``since <= t < until``, whatever became of them; the dearest group first.

    Rows: ``user``, the group's key, ``requests``, ``input_tokens``, ``cached_input_tokens``, ``output_tokens``,
    ``reasoning_tokens``, ``cost_usd`` (decimal text), ``pending`` and ``unpriced`` (requests that still run; that have
    no price). Pending charges count with their last checkpoint. ``user`` is ``None`` in a group of several. Days: UTC.

    :raises ValueError: there is no such grouping, or a time has no time zone.
    """
    if by not in _GROUPS:
        raise ValueError(f"no such grouping: {by!r}; expected one of {', '.join(sorted(_GROUPS))}")
    start = _BEGINNING if since is None else micros(since)
    end = _END if until is None else micros(until)
    groups: dict[Any, dict[str, Any]] = {}
    for query in _queries(by, user, start, max(start, end)):
        for row in connection.execute(query).mappings():
            _merge(groups, dict(row))
    return _usage_rows(by, groups)


def usage_of_days(connection: Connection, since: datetime, until: datetime) -> dict[GroupBy, list[dict[str, Any]]]:
    """What :func:`usage` says by user, key, day and model, in two passes over the sums instead of four.

    :param since: the beginning of a day; ``until``: another.
    :raises ValueError: a time is none, or has no time zone.
    """
    first, last = day_of(micros(since)), day_of(micros(until))
    if (start_of(first), start_of(last)) != (micros(since), micros(until)):
        raise ValueError("expected whole days")
    groups: dict[GroupBy, dict[Any, dict[str, Any]]] = {by: {} for pair in _PAIRS for by in pair}
    for pair in _PAIRS:
        names = [daily_usage.c[by].label(f"group_{by}") for by in pair]
        for row in connection.execute(_ended_days(names, None, first, last)).mappings():
            _merge_each(groups, pair, row)
    names = [_group_of(by).label(f"group_{by}") for by in groups]
    for row in connection.execute(_pending_charges(names, None, start_of(first), start_of(last))).mappings():
        _merge_each(groups, list(groups), row)
    return {by: _usage_rows(by, found) for by, found in groups.items()}


def _merge_each(
    groups: Mapping[GroupBy, dict[Any, dict[str, Any]]], of: Sequence[GroupBy], row: Mapping[Any, Any]
) -> None:
    amounts = {name: value for name, value in row.items() if not name.startswith("group_")}
    for by in of:
        _merge(groups[by], {**amounts, "group": row[f"group_{by}"]})


def _usage_rows(by: GroupBy, groups: Mapping[Any, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = [_usage_row(by, group) for group in groups.values()]
    if by == "day":
        return [row for _, row in sorted(rows, key=lambda pair: str(pair[1]["day"]))]
    return [row for _, row in sorted(rows, key=lambda pair: (-pair[0], str(pair[1][by])))]


def _queries(by: GroupBy, user: str | None, start: int, end: int) -> Iterator[Select[Any]]:
    """The whole days, the broken days at both ends, and the pending charges: together every charge once."""
    first, last = day_of(start + DAY - 1), day_of(end)
    if first < last:
        yield _ended_days([daily_usage.c[by].label("group")], user, first, last)
        edges = [(start, start_of(first)), (start_of(last), end)]
    else:
        edges = [(start, end)]
    yield from (_sum_charges(by, user, *edge) for edge in edges if edge[0] < edge[1])
    yield _pending_charges([_group_of(by).label("group")], user, start, end)


def _ended_days(names: Sequence[Label[Any]], user: str | None, first: int, last: int) -> Select[Any]:
    table = daily_usage.c
    sums = [func.sum(table[name]).label(name) for name in SUMS]
    query = _grouped(names, table.user, [*sums, literal(0).label("pending")])
    query = query.where(table.day >= first, table.day < last)
    return query if user is None else query.where(table.user == user)


def _sum_charges(by: GroupBy, user: str | None, start: int, end: int) -> Select[Any]:
    table = charges.c
    sums = [func.sum(column).label(column.name) for column in _counted(literal(0))]
    query = _grouped([_group_of(by).label("group")], table.user, sums)
    query = query.where(table.started_at >= start, table.started_at < end, ~is_pending)
    return query if user is None else query.where(table.user == user)


def _pending_charges(names: Sequence[ColumnElement[Any]], user: str | None, start: int, end: int) -> Select[Any]:
    """One row for each. No sum and no bare column: SQLite would walk through all charges in the order of another index
    instead of looking at the few pending ones."""
    table = charges.c
    users = [table.user.label("first_user"), table.user.label("last_user")]
    query = select(*names, *users, *_counted(literal(1))).where(is_pending)
    query = query.where(table.started_at + 0 >= start, table.started_at + 0 < end)
    return query if user is None else query.where(table.user + "" == user)


def _group_of(by: GroupBy) -> ColumnElement[Any]:
    return charges.c.started_at // DAY if by == "day" else charges.c[by]


def _counted(pending: ColumnElement[int]) -> list[ColumnElement[Any]]:
    """What one charge adds to each sum."""
    added: dict[str, ColumnElement[Any]] = {name: charges.c[name] for name in SUMS if name in charges.c}
    added.update(requests=literal(1), unpriced=case((charges.c.unpriced, 1), else_=0), pending=pending)
    return [column.label(name) for name, column in added.items()]


def _grouped(names: Sequence[Label[Any]], user: ColumnElement[str], sums: Sequence[ColumnElement[Any]]) -> Select[Any]:
    users = [func.min(user).label("first_user"), func.max(user).label("last_user")]
    return select(*names, *users, *sums).group_by(*(name.element for name in names))


def _merge(groups: dict[Any, dict[str, Any]], row: dict[str, Any]) -> None:
    """Add one query's row to what the other queries said of the same group."""
    name = row.pop("group") or None
    group = groups.setdefault(name, {"group": name, "users": set()})
    group["users"] |= {row.pop("first_user"), row.pop("last_user")}
    for column, amount in row.items():
        # PostgreSQL adds up BIGINT as NUMERIC.
        group[column] = group.get(column, 0) + int(amount)


def _usage_row(by: GroupBy, group: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    users = group["users"]
    row: dict[str, Any] = {"user": next(iter(users)) if len(users) == 1 else None}
    if by != "user":
        row[by] = date_of(group["group"] or 0).isoformat() if by == "day" else group["group"]
    row.update((name, group[name]) for name in _COUNTS)
    row.update(cost_usd=nano_to_usd(group["cost"]), pending=group["pending"], unpriced=group["unpriced"])
    return group["cost"], row


def charge_rows(
    connection: Connection,
    *,
    user: str | None,
    since: datetime | None,
    until: datetime | None,
    state: str | None,
    limit: int | None,
) -> Iterator[dict[str, Any]]:
    """The charges that started in ``since <= t < until``, the oldest first; with a limit, the newest so many.

    Rows: the columns of ``sseproxy charges``, ``unpriced`` and ``tries`` (a mapping for each time the request went to
    an upstream); ``cost_usd`` is decimal text, ``started_at`` ISO 8601 in UTC.

    :raises ValueError: a time has no time zone.
    """
    order = (charges.c.started_at, charges.c.id)
    query = select(charges).order_by(*(order if limit is None else [column.desc() for column in order])).limit(limit)
    if user is not None:
        query = query.where(charges.c.user == user)
    if since is not None:
        query = query.where(charges.c.started_at >= micros(since))
    if until is not None:
        query = query.where(charges.c.started_at < micros(until))
    if state is not None:
        query = query.where(charges.c.state == state)
    with closing(connection.execution_options(yield_per=1000).execute(query)) as result:
        rows = result.mappings()
        yield from map(_charge_row, rows if limit is None else reversed(rows.all()))


def _charge_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: row["cost" if name == "cost_usd" else name] for name in CHARGE_ROW}
    shown["cost_usd"] = nano_to_usd(row["cost"])
    shown["tries"] = as_rows(row["tries"], Try(row["upstream"], row["upstream_model"], row["status"]))
    shown["started_at"] = moment(row["started_at"]).isoformat(timespec="milliseconds")
    return shown
