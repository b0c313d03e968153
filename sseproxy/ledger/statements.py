"""The statements of the hot path: written in SQLAlchemy Core, compiled once for the driver, run without SQLAlchemy.

Compiling and executing through a SQLAlchemy connection costs a request 400 us of CPU, this 80. All values are text or
whole numbers, which every driver takes as they are. Queries that people wait for belong in reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
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
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
    tuple_,
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
#: What stays as it was where nothing new is known.
_KEPT: Final = frozenset(("upstream", "upstream_model"))
_NEW: Final = (
    "id", "user", "key", "route", "model", "upstream", "upstream_model", "state", "reserved", "unpriced", "started_at",
    "owner",
)  # fmt: skip
#: A charge by its columns: as the table has it, or a trigger.
_Columns = Mapping[str, ColumnElement[Any]]


class Statement:
    """One statement in the driver's own words.

    :param names: of its parameters, in the order in which their values are given.
    :ivar parameters: makes of such values what the driver takes.
    """

    def __init__(self, clause: ClauseElement, dialect: Dialect, *names: str) -> None:
        compiled = clause.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self.parameters = _for_driver(names, compiled.positiontup)

    def run(self, cursor: Any, values: Sequence[Any]) -> Any:
        """Execute on a DBAPI cursor, which is returned."""
        cursor.execute(self.text, self.parameters(values))
        return cursor

    def run_many(self, cursor: Any, rows: Sequence[Sequence[Any]]) -> Any:
        """Execute once for each row."""
        cursor.executemany(self.text, list(map(self.parameters, rows)))
        return cursor


def _for_driver(names: Sequence[str], positions: Sequence[str] | None) -> Callable[[Sequence[Any]], Any]:
    """Makes of values what the driver takes: a tuple in the order of the statement, or a mapping."""
    if positions is None:
        return lambda values: dict(zip(names, values, strict=True))
    return tuple if (*positions,) == names else itemgetter(*map(names.index, positions))


class Statements:
    """All of them, for one dialect.

    :ivar carry: carry a charge that has just ended into the balances and the sums of its day.
    :ivar take_back: undo that for a charge that has just become pending again, by ``reopen_charge``.
    :ivar triggers: have a connection to SQLite do that within the statement that ends the charge, and hold its money
        within the one that adds it: one step instead of five, at each of which a thread may have to wait for others.
        Then nothing is left to ``carry`` or to ``take_back``.
    :ivar add_within: adds a charge if with it no more than so much is spent and held in some days; None: no triggers.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.add_charge = Statement(insert(charges).values(_given(*_NEW)), dialect, *_NEW)
        self.extend_charge = Statement(
            update(charges)
            .where(charges.c.id == bindparam("charge"), is_pending)
            .values(reserved=charges.c.reserved + bindparam("more")),
            dialect,
            "charge",
            "more",
        )
        self.end_charge = _update_pending(dialect, "state", "outcome", "unpriced", *RESULT)
        self.expire_charge = _update_pending(dialect, "state", "outcome")
        self.reopen_charge = Statement(
            update(charges)
            .where(charges.c.id == bindparam("charge"), charges.c.state == literal_column("'expired'"))
            .values(state=literal_column("'pending'"), outcome=literal_column("NULL")),
            dialect,
            "charge",
        )
        self.note_charge = _update_pending(dialect, *RESULT)
        self.read_start = Statement(
            select(charges.c.user, charges.c.started_at).where(charges.c.id == bindparam("charge")), dialect, "charge"
        )
        self.hold_money = Statement(_hold_money(dialect), dialect, "user", "day", "reserved")
        self.read_balance = Statement(
            _sum_balance(balances.c.spent, balances.c.reserved), dialect, "user", "first", "last"
        )
        self.find_key = Statement(
            select(keys).where(keys.c.secret_hash == bindparam("secret_hash")), dialect, "secret_hash"
        )
        columns = owners.columns.keys()
        self.beat = Statement(_add_up(dialect, owners, ("beat",), _given(*columns)), dialect, *columns)
        self.carry: tuple[Statement, ...] = ()
        self.take_back: tuple[Statement, ...] = ()
        self.triggers = ""
        self.add_within: Statement | None = None
        if dialect.name == "sqlite":
            self.triggers = _triggers(dialect)
            self.add_within = Statement(_add_within(), dialect, *_NEW, "first", "last", "most")
        else:
            row, is_it = dict(charges.columns), charges.c.id == bindparam("charge")
            self.carry = tuple(Statement(each, dialect, "charge") for each in _carry(dialect, row, is_it))
            self.take_back = tuple(Statement(each, dialect, "charge") for each in _take_back(dialect, row, is_it))


_compiled: dict[str, Statements] = {}


def statements_for(dialect: Dialect) -> Statements:
    """Those of a dialect, which are compiled once a process: that takes as long as all else that opens a ledger."""
    if dialect.name not in _compiled:
        _compiled[dialect.name] = Statements(dialect)
    return _compiled[dialect.name]


def _given(*names: str) -> list[dict[str, Any]]:
    """A row of parameters that are named as their columns."""
    row: dict[str, Any] = {name: bindparam(name) for name in names}
    if "unpriced" in row:
        row["unpriced"] = _is_set("unpriced")
    return [row]


# For a value that is neither a number nor a text, be it None, sqlite3 looks for an adapter each time, which takes as
# long as binding ten others.
def _is_set(name: str) -> ColumnElement[bool]:
    """A parameter that is 1 or 0."""
    return bindparam(name, type_=Integer) != literal_column("0")


def _or_null(name: str) -> ColumnElement[str]:
    """A parameter that is a text, of which an empty one is none."""
    return func.nullif(bindparam(name, type_=String), literal_column("''"))


def _update_pending(dialect: Dialect, *columns: str) -> Statement:
    """The guard of the books: a charge changes only while it is pending.

    :param columns: get the values that are given, of which the last one is the charge's ID.
    """
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    for name in _KEPT.intersection(columns):
        values[name] = func.coalesce(bindparam(f"new_{name}", type_=String), charges.c[name])
    if "tries" in values:
        values["tries"] = _or_null("new_tries")
    if "unpriced" in values:
        # A request without a price is not unpriced if its vendor says what it cost.
        values["unpriced"] = and_(charges.c.unpriced, _is_set("new_unpriced"))
    clause = update(charges).where(charges.c.id == bindparam("charge"), is_pending).values(values)
    return Statement(clause, dialect, *(f"new_{name}" for name in columns), "charge")


def _add_within() -> ClauseElement:
    (row,) = _given(*_NEW)
    used = _sum_balance(balances.c.spent + balances.c.reserved).scalar_subquery()
    within = used + bindparam("reserved") <= bindparam("most")
    return insert(charges).from_select(_NEW, select(*row.values()).where(within))


def _triggers(dialect: Dialect) -> str:
    """Temporary, so of one connection alone: what writes to the books in another way has to carry by itself."""
    new = {column.name: literal_column(f'NEW."{column.name}"', column.type) for column in charges.columns}
    hold = _change_balances(dialect, new, true(), literal_column("0"), new["reserved"])
    carry, take_back = _carry(dialect, new, true()), _take_back(dialect, new, true())
    return (
        _trigger(dialect, "charge_added AFTER INSERT", "NEW.reserved > 0", hold)
        + _trigger(dialect, "charge_ended AFTER UPDATE OF state", "OLD.state = 'pending'", *carry)
        + _trigger(dialect, "charge_reopened AFTER UPDATE OF state", "OLD.state = 'expired'", *take_back)
    )


def _trigger(dialect: Dialect, event: str, condition: str, *steps: ClauseElement) -> str:
    todo = "; ".join(str(each.compile(dialect=dialect)) for each in steps)
    return f"CREATE TEMP TRIGGER IF NOT EXISTS {event} ON main.charges WHEN {condition} BEGIN {todo}; END;"


def _hold_money(dialect: Dialect) -> ClauseElement:
    """Add to what a user's running requests hold back.

    Here and in :func:`_change_balances` the row of all days comes first: one order of locks, no deadlock.
    """
    days: list[ColumnElement[int]] = [literal_column(str(ALL_DAYS)), bindparam("day")]
    held: dict[str, Any] = {"user": bindparam("user"), "spent": literal_column("0"), "reserved": bindparam("reserved")}
    rows = [{**held, "day": day} for day in days]
    return _add_up(dialect, balances, ("spent", "reserved"), rows)


def _carry(dialect: Dialect, charge: _Columns, is_it: ColumnElement[bool]) -> tuple[ClauseElement, ...]:
    """Turn what a charge that has just ended held back into what it cost, and add it to the sums of its day."""
    return (
        _change_balances(dialect, charge, is_it, charge["cost"], -charge["reserved"]),
        _add_usage(dialect, charge, is_it),
    )


def _take_back(dialect: Dialect, charge: _Columns, is_it: ColumnElement[bool]) -> tuple[ClauseElement, ...]:
    """As if the charge had never ended; of sums of nothing, no row is left."""
    of_its_day = tuple_(daily_usage.c.user, daily_usage.c.day).in_(select(charge["user"], _day_of(charge)).where(is_it))
    return (
        _change_balances(dialect, charge, is_it, -charge["cost"], charge["reserved"]),
        _add_usage(dialect, charge, is_it, negative=True),
        delete(daily_usage).where(of_its_day, daily_usage.c.requests == literal_column("0")),
    )


def _change_balances(
    dialect: Dialect, charge: _Columns, is_it: ColumnElement[bool], spent: ColumnElement[int], held: ColumnElement[int]
) -> ClauseElement:
    """Add amounts to the balances of a charge's user, of all days and of the day on which it started."""
    days: tuple[ColumnElement[int], ...] = (literal_column(str(ALL_DAYS)), _day_of(charge))
    rows = (select(charge["user"], day, spent, held).where(is_it) for day in days)
    return _add_up(dialect, balances, ("spent", "reserved"), query=union_all(*rows))


def _day_of(charge: _Columns) -> ColumnElement[int]:
    """The day on which a charge started."""
    return charge["started_at"] // literal_column(str(DAY), BigInteger)


def _sum_balance(*amounts: ColumnElement[int]) -> Select[Any]:
    """Sums over some days, which may be the one for all days."""
    sums: Any = (func.coalesce(func.sum(amount), literal_column("0")) for amount in amounts)
    in_days = balances.c.day.between(bindparam("first"), bindparam("last"))
    return select(*sums).where(balances.c.user == bindparam("user"), in_days)


def _add_usage(
    dialect: Dialect, charge: _Columns, is_it: ColumnElement[bool], *, negative: bool = False
) -> ClauseElement:
    """Add a charge to the sums of its day, or take it from them."""
    columns: dict[str, ColumnElement[Any]] = {
        **charge,
        "day": _day_of(charge),
        "key": func.coalesce(charge["key"], literal_column("''")),
        "requests": literal_column("1"),
        "unpriced": cast(charge["unpriced"], Integer),
    }
    if negative:
        columns.update((name, -columns[name]) for name in SUMS)
    row = select(*(columns[column.name] for column in daily_usage.columns)).where(is_it)
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
