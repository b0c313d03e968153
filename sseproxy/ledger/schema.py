"""The ledger's tables. Change them only together with a new file in ``migrations/versions``; a test compares the two.

Money is a whole number of nano-USD. Times are microseconds since 1970 UTC: both databases sort, compare and return them
alike, and no driver's time zone can move them. No query may go in here.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, literal_column, text

#: The newest revision in ``migrations/versions``; a database that has it is opened without loading Alembic.
REVISION = "0005"

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_NO_TOKENS = text("0")
#: The day of the balance over all days: none that ever comes.
ALL_DAYS = 10**9

metadata = MetaData()


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=_NO_TOKENS)


#: One row a request. While it is pending, its tokens and its cost are those of the last checkpoint.
charges = Table(
    "charges",
    metadata,
    Column("id", String, primary_key=True),
    Column("user", String, nullable=False),
    Column("key", String),
    Column("route", String, nullable=False),
    Column("model", String, nullable=False),
    Column("upstream", String, nullable=False),
    Column("upstream_model", String, nullable=False),
    Column("state", String, nullable=False),
    Column("outcome", String),
    Column("usage_source", String, nullable=False, server_default="none"),
    _amount("input_tokens"),
    _amount("cached_input_tokens"),
    _amount("cache_write_tokens"),
    _amount("output_tokens"),
    _amount("reasoning_tokens"),
    _amount("prefix_tokens"),
    Column("reserved", BigInteger, nullable=False),
    _amount("cost"),
    Column("unpriced", Boolean, nullable=False),
    Column("status", Integer),
    Column("started_at", BigInteger, nullable=False),
    Column("first_token_ms", BigInteger),
    Column("duration_ms", BigInteger),
    Column("owner", String, nullable=False),
    #: JSON of every try; NULL where there was one that answered.
    Column("tries", String),
)
Index("charges_started_at", charges.c.started_at)
Index("charges_user_started_at", charges.c.user, charges.c.started_at)
#: Written out, never a parameter: a database uses the index of pending charges only if it sees the word.
is_pending = charges.c.state == literal_column("'pending'")
Index("charges_pending", charges.c.owner, sqlite_where=is_pending, postgresql_where=is_pending)

#: What each user has spent, and what running requests hold back, by the UTC day on which they started: a row for each
#: day, whose sums are weeks and months, and one for all days, which would be too many to add up.
balances = Table(
    "balances",
    metadata,
    Column("user", String, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    _amount("spent"),
    _amount("reserved"),
    sqlite_with_rowid=False,
)

#: Sums over the charges that are no longer pending, by the UTC day on which they started; kept in the transaction that
#: ends the charge, so that reports need not read the charges. A request without a key has ``key = ''``. The user comes
#: first: SQLite then adds up per user in the order of the rows, and sorts nothing.
daily_usage = Table(
    "daily_usage",
    metadata,
    Column("user", String, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("model", String, primary_key=True),
    Column("route", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("upstream", String, primary_key=True),
    _amount("requests"),
    _amount("unpriced"),
    _amount("input_tokens"),
    _amount("cached_input_tokens"),
    _amount("output_tokens"),
    _amount("reasoning_tokens"),
    _amount("cost"),
    sqlite_with_rowid=False,
)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("user", String, nullable=False),
    Column("label", String, nullable=False),
    Column("secret_hash", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

#: The processes that hold pending charges. ``beat`` grows while a process lives; ``place`` and ``process`` let another
#: process of the same machine see at once that it died.
owners = Table(
    "owners",
    metadata,
    Column("id", String, primary_key=True),
    Column("place", String, nullable=False),
    Column("process", String, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

#: Who is logged in to the dashboard. Nothing in here opens a door: hashes of the session's token and of the API key.
sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String, primary_key=True),
    Column("key_hash", String, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

#: What was asked and answered, where the configuration asks for it to be kept.
contents = Table(
    "contents",
    metadata,
    Column("charge", String, primary_key=True),
    Column("request", String, nullable=False),
    Column("answer", String, nullable=False),
    Column("hidden", String, nullable=False),
)


def micros(at: datetime) -> int:
    """A moment as the tables hold it.

    :raises ValueError: it has no time zone, so it is no moment.
    """
    if at.tzinfo is None:
        raise ValueError(f"a time without a time zone: {at!r}")
    return (at - EPOCH) // _MICROSECOND


def moment(since_epoch: int) -> datetime:
    """A moment as Python has it, in UTC."""
    return EPOCH + since_epoch * _MICROSECOND
