"""The statements of the hot path: written in SQLAlchemy Core, compiled once for the driver, run without SQLAlchemy.

Compiling and executing through a SQLAlchemy connection costs a request 400 us of CPU, this 80. All values are text,
whole numbers or booleans, which every driver takes as they are. Queries that people wait for belong in reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ClauseElement,
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    String,
    Table,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from sseproxy.ledger.periods import DAY
from sseproxy.ledger.schema import ALL_DAYS, balances, charges, daily_usage, is_pending, keys, owners

#: What a settlement and a checkpoint write into the row of a charge.
RESULT: Final = (
    "usage_source", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "prefix_tokens", "cost", "status", "first_token_ms", "duration_ms", "upstream", "upstream_model", "tries",
)  # fmt: skip
#: What is added up per day.
SUMS: Final = (
    "requests", "unpriced", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost",
)  # fmt: skip
#: The day on which a charge started.
_DAY: Final = charges.c.started_at // literal_column(str(DAY), BigInteger)
#: What stays as it was where nothing new is known.
_KEPT: Final = frozenset(("upstream", "upstream_model"))
_NEW: Final = (
    "id", "user", "key", "route", "model", "upstream", "upstream_model", "state", "reserved", "unpriced", "started_at",
    "owner",
)  # fmt: skip


class Statement:
    """One statement in the driver's own words."""

    def __init__(self, clause: ClauseElement, dialect: Dialect, columns: Sequence[str] | None = None) -> None:
        compiled = clause.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._parameters = _in_order(compiled.positiontup)

    def run(self, cursor: Any, values: Mapping[str, Any]) -> Any:
        """Execute on a DBAPI cursor, which is returned."""
        cursor.execute(self.text, self._parameters(values))
        return cursor

    def run_many(self, cursor: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Execute once for each row."""
        cursor.executemany(self.text, list(map(self._parameters, rows)))
        return cursor


def _in_order(names: Sequence[str] | None) -> Callable[[Mapping[str, Any]], Any]:
    """Makes of named values what the driver takes: a tuple in the order of the statement, or the names as they are."""
    if names is None:
        return lambda values: values
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


class Statements:
    """All of them, for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.add_charge = Statement(insert(charges), dialect, _NEW)
        self.extend_charge = Statement(
            update(charges)
            .where(charges.c.id == bindparam("charge"), is_pending)
            .values(reserved=charges.c.reserved + bindparam("more")),
            dialect,
        )
        self.end_charge = Statement(_update_pending("state", "outcome", "unpriced", *RESULT), dialect)
        self.expire_charge = Statement(_update_pending("state", "outcome"), dialect)
        self.note_charge = Statement(_update_pending(*RESULT), dialect)
        self.read_start = Statement(
            select(charges.c.user, charges.c.started_at).where(charges.c.id == bindparam("charge")), dialect
        )
        self.hold_money = Statement(_hold_money(dialect), dialect)
        self.spend_money = Statement(_spend_money(dialect), dialect)
        self.read_balance = Statement(_read_balance(), dialect)
        self.find_key = Statement(select(keys).where(keys.c.secret_hash == bindparam("secret_hash")), dialect)
        self.add_usage = Statement(_add_usage(dialect), dialect)
        self.beat = Statement(_add_up(dialect, owners, ("beat",)), dialect, [*owners.columns.keys()])


def _update_pending(*columns: str) -> ClauseElement:
    """The guard of the books: a charge changes only while it is pending."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    for name in _KEPT.intersection(columns):
        values[name] = func.coalesce(bindparam(f"new_{name}", type_=String), charges.c[name])
    if "unpriced" in values:
        # A request without a price is not unpriced if its vendor says what it cost.
        values["unpriced"] = and_(charges.c.unpriced, bindparam("new_unpriced", type_=Boolean))
    return update(charges).where(charges.c.id == bindparam("charge"), is_pending).values(values)


def _hold_money(dialect: Dialect) -> ClauseElement:
    """Add to what a user's running requests hold back.

    Here and in :func:`_spend_money` the row of all days comes first: one order of locks, no deadlock.
    """
    days: list[ColumnElement[int]] = [literal_column(str(ALL_DAYS)), bindparam("day")]
    none: ColumnElement[int] = literal_column("0")
    rows = [{"user": bindparam("user"), "day": day, "spent": none, "reserved": bindparam("reserved")} for day in days]
    return _add_up(dialect, balances, ("spent", "reserved"), rows)


def _spend_money(dialect: Dialect) -> ClauseElement:
    """Turn what a charge that has just ended held back into what it cost."""
    rows = (
        select(charges.c.user, day, charges.c.cost, -charges.c.reserved).where(charges.c.id == bindparam("charge"))
        for day in (literal_column(str(ALL_DAYS)), _DAY)
    )
    return _add_up(dialect, balances, ("spent", "reserved"), query=union_all(*rows))


def _read_balance() -> ClauseElement:
    """Sums over some days, which may be the one for all days."""
    sums = (func.coalesce(func.sum(column), literal_column("0")) for column in (balances.c.spent, balances.c.reserved))
    in_days = balances.c.day.between(bindparam("first"), bindparam("last"))
    return select(*sums).where(balances.c.user == bindparam("user"), in_days)


def _add_usage(dialect: Dialect) -> ClauseElement:
    """Add a charge that has just ended to the sums of its day."""
    columns: dict[str, ColumnElement[Any]] = {
        **charges.columns,
        "day": _DAY,
        "key": func.coalesce(charges.c.key, literal_column("''")),
        "requests": literal_column("1"),
        "unpriced": cast(charges.c.unpriced, Integer),
    }
    row = select(*(columns[column.name] for column in daily_usage.columns)).where(charges.c.id == bindparam("charge"))
    return _add_up(dialect, daily_usage, SUMS, query=row)


def _add_up(
    dialect: Dialect,
    table: Table,
    sums: Sequence[str],
    rows: Sequence[Mapping[str, Any]] = (),
    query: Select[Any] | CompoundSelect[Any] | None = None,
) -> ClauseElement:
    """Insert rows; where one is there already, add the new amounts to it."""
    upsert = postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
    if rows:
        upsert = upsert.values(list(rows))
    if query is not None:
        upsert = upsert.from_select(table.columns.keys(), query)
    added: dict[str, ColumnElement[Any]] = {name: table.c[name] + upsert.excluded[name] for name in sums}
    return upsert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=added)
