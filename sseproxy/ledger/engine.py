"""How to connect: which databases and drivers there are, and what each connection is told first. Knows no table."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

#: How long a writer waits for the writers of other processes before the ledger counts as unavailable.
BUSY_SECONDS: Final = 5.0
_PSYCOPG: Final = "postgresql+psycopg"
#: By what a URL may name; Heroku and its like say postgres.
_DRIVERS: Final = {"sqlite": "sqlite", "postgres": _PSYCOPG, "postgresql": _PSYCOPG, _PSYCOPG: _PSYCOPG}


def sane_url(url: str) -> URL:
    """The URL with the driver that we support.

    :raises ValueError: it is no URL of SQLite or PostgreSQL. What it says shows no part of one that cannot be read,
        where anything may be the password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL; expected sqlite:///FILE or postgresql://HOST/NAME") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ValueError(
            f"the ledger cannot live in {parsed.drivername!r}; expected sqlite:///FILE or postgresql://HOST/NAME"
        )
    return parsed.set(drivername=driver)


def is_in_memory(url: URL) -> bool:
    """Whether the books are gone with the process."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def shown(url: URL) -> str:
    """A URL of :func:`sane_url` as people are told of it: a file with its folder, nothing with a password."""
    if url.get_backend_name() == "sqlite" and not is_in_memory(url):
        url = url.set(database=os.path.abspath(url.database or ""))
    # Behind the ? a password may stand in many ways; repr() hides the one before the host.
    return repr(url.set(query={}))


def new_engine(url: URL) -> Engine:
    """An engine for a URL of :func:`sane_url`; connects to nothing yet.

    :raises RuntimeError: the driver is not installed; says what to install.
    """
    if url.get_backend_name() == "postgresql":
        return _create_postgresql(url)
    if is_in_memory(url):
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _create_postgresql(url: URL) -> Engine:
    try:
        from sseproxy.ledger.postgresql import create_postgresql
    except ImportError as error:
        raise RuntimeError(
            "A ledger in PostgreSQL needs the driver psycopg: pip install 'sseproxy[postgres]'"
        ) from error
    return create_postgresql(url)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's sqlite3 must not open transactions of its own accord: see the SQLAlchemy documentation of pysqlite.
    connection.isolation_level = None
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except connection.OperationalError:
            # Two processes that create the file at once: the change of mode does not wait as other statements do.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    # What is committed is in the operating system's hands and survives any death of this process; only a power cut can
    # take the last moments, and it never damages the file. FULL would cost an fsync a commit, twice a request.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Pages after which whoever commits brings them into the file, and waits for the disk. Database.sync does that where
    # nobody waits; by itself SQLite would do it every hundred requests. More would cost more than the disk: the log
    # leaves the processor's cache, and each page is entered behind all its earlier versions, the same few pages always.
    connection.execute("PRAGMA wal_autocheckpoint = 2000")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sseproxy_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
