"""The connection to the books' database: SQLite or PostgreSQL, migrated on demand, safe across forks. Knows no charge.

On SQLite a process has one writing connection (:class:`~sseproxy.ledger.writer.Writer`): writers of one process queue
up cheaply, those of several processes meet in ``BEGIN IMMEDIATE`` (https://sqlite.org/lang_transaction.html). Readers
never wait (WAL).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sseproxy.ledger.books_file import BooksFile
from sseproxy.ledger.engine import is_in_memory, new_engine, sane_url
from sseproxy.ledger.protocol import LedgerUnavailable
from sseproxy.ledger.schema import REVISION
from sseproxy.ledger.statements import Statement, statements_for
from sseproxy.ledger.upgrade import create, revision_of, upgrade
from sseproxy.ledger.write_ahead_log import WriteAheadLog
from sseproxy.ledger.writer import Writer

T = TypeVar("T")
#: A fork waits at most this long for running queries.
_FORK_SECONDS = 5.0


class _Writes:
    """Around all that writes: how it went, in the words of a ledger.

    :ivar fail: the last one failed, and none has succeeded since. What reads may go on all the while.
    """

    fail = False

    def __init__(self, errors: type[Exception], integrity_error: type[Exception]) -> None:
        self._errors = (errors, SQLAlchemyError)
        self._integrity_error = integrity_error

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.fail = False
        elif isinstance(error, LedgerUnavailable):
            self.fail = True
        elif isinstance(error, self._errors) and not isinstance(error, self._integrity_error):
            self.fail = True
            raise LedgerUnavailable(reason=_reason(error), in_doubt=False) from error


class Database:
    """Engines, connections and transactions.

    :param url: ``sqlite:///usage.db``, ``sqlite:////var/lib/usage.db``, ``sqlite://`` (in memory, for this
        process only) or ``postgresql://user:password@host/name``.
    :raises ValueError: the URL is none of these.
    :raises RuntimeError: the driver is not installed; says what to install.
    :ivar writes: whether the last one failed.
    """

    def __init__(self, url: str) -> None:
        self.url = sane_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.in_memory = is_in_memory(self.url)
        self._file = BooksFile(self.url.database or "") if self.is_sqlite and not self.in_memory else None
        self._start()
        _open_databases.add(self)

    def _start(self) -> None:
        """Everything that a forked child needs anew: connections and locks do not survive a fork."""
        self._writer = Writer(self._open_writer)
        self._lock = self._writer.lock
        self._users = 0
        self._users_left = threading.Condition()
        self.engine = new_engine(self.url)
        if self._file is not None:
            self._file.guard(self.engine)
        self.statements = statements_for(self.engine.dialect)
        driver: Any = self.engine.dialect.loaded_dbapi
        self._errors: type[Exception] = driver.Error
        self.integrity_error: type[Exception] = driver.IntegrityError
        self.writes = _Writes(self._errors, self.integrity_error)
        self._log = WriteAheadLog(self._writer, self.look_up)

    def _open_writer(self) -> Any:
        connection = self.engine.raw_connection()
        try:
            connection.cursor().executescript(self.statements.triggers)
        except BaseException:
            connection.close()
            raise
        return connection

    def run(self, work: Callable[[Any], T]) -> T:
        """What some work with a DBAPI cursor gives, once it is committed; nothing of it is kept if it raises.

        :param work: on SQLite done together with what other threads have to write, maybe in one of them, maybe twice.
        :raises LedgerUnavailable: for every error of the database, except the driver's ``integrity_error``.
        """
        with self.writes:
            if self.is_sqlite:
                return self._writer.run(work)
            with self._pooled_transaction() as cursor:
                return work(cursor)

    def execute(self, statement: Statement, values: Sequence[Any]) -> int:
        """As :meth:`run`, for one statement: how many rows it changed."""
        if not self.is_sqlite:
            return self.run(lambda cursor: int(statement.run(cursor, values).rowcount))
        with self.writes:
            return self._writer.execute(statement.text, statement.parameters(values))

    @contextmanager
    def write(self) -> Iterator[Any]:
        """As :meth:`run`, for what is done so rarely that it has a transaction of its own: a DBAPI cursor."""
        with self.writes, self._writer.alone() if self.is_sqlite else self._pooled_transaction() as cursor:
            yield cursor

    @contextmanager
    def _pooled_transaction(self) -> Iterator[Any]:
        with self._using():
            try:
                connection = self.engine.raw_connection()
            except (self._errors, SQLAlchemyError) as error:
                raise LedgerUnavailable(reason=_reason(error), in_doubt=False) from error
            try:
                cursor = connection.cursor()
                try:
                    yield cursor
                    connection.commit()
                finally:
                    cursor.close()
            except BaseException as error:
                try:
                    connection.rollback()
                except self._errors:
                    connection.invalidate()
                    if isinstance(error, self._errors):
                        raise LedgerUnavailable(reason=_reason(error)) from error
                raise
            finally:
                connection.close()

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """As :meth:`write`, for what is done so rarely that SQLAlchemy may do it."""
        with (
            self.writes,
            self._lock,
            self.engine.connect().execution_options(sseproxy_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A SQLAlchemy connection for queries, which all see the books of one moment.

        :raises LedgerUnavailable: for every error of the database.
        """
        try:
            with self._using(), self.engine.connect() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                yield connection
        except SQLAlchemyError as error:
            raise LedgerUnavailable(reason=_reason(error)) from error

    @contextmanager
    def look_up(self) -> Iterator[Any]:
        """A DBAPI cursor for one cheap query.

        :raises LedgerUnavailable: for every error of the database.
        """
        try:
            with self._using(), closing(self.engine.raw_connection()) as connection:
                yield connection.cursor()
        except (self._errors, SQLAlchemyError) as error:
            raise LedgerUnavailable(reason=_reason(error)) from error

    def sync(self) -> None:
        """Bring onto the disk what was committed, and a power cut could take; as far as no long query is under way.

        Nobody waits for it but the caller.

        :raises LedgerUnavailable: for every error of the database, and if its file is not at its place any more.
        """
        if self._file is None:
            return
        try:
            if self._file.is_gone():
                self.close()
                self._file.check()
            self._log.sync()
        except LedgerUnavailable:
            self.writes.fail = True
            raise

    @contextmanager
    def _using(self) -> Iterator[None]:
        """While a connection of the pool is in use: a fork waits for its end."""
        with self._users_left:
            self._users += 1
        try:
            # In memory there is one connection only, the writer's.
            with self._lock if self.in_memory else nullcontext():
                yield
        finally:
            with self._users_left:
                self._users -= 1
                self._users_left.notify_all()

    def migrate(self) -> None:
        """Bring the tables to this version; create them if there are none. Several processes may call it at once.

        :raises LedgerUnavailable: the database cannot be reached or was made by a newer version.
        """
        try:
            self._migrate()
        except (SQLAlchemyError, OSError) as error:
            raise LedgerUnavailable(reason=_reason(error)) from error

    def _migrate(self) -> None:
        if self._file is not None:
            if self._file.is_gone():
                self.close()  # and nothing opens it again
            Path(self.url.database or "").expanduser().parent.mkdir(parents=True, exist_ok=True)
        with self.engine.connect() as connection:
            version = revision_of(connection)
        if (version or create(self.change)) != REVISION:
            upgrade(self.change)

    def refused(self) -> str:
        """Why its file cannot be written, if that can be told without a try."""
        return self._file.refused() if self._file is not None else ""

    def close(self) -> None:
        """Close all connections; the next call opens them again, unless the file was removed or replaced."""
        with self._lock:
            self._writer.close()
            self.engine.dispose()

    def before_fork(self) -> None:
        """Close everything. SQLite forbids to carry a connection over a fork (https://sqlite.org/howtocorrupt.html,
        2.6), and a child that closes an inherited PostgreSQL connection ends its parent's session.
        """
        self._lock.acquire()
        deadline = time.monotonic() + _FORK_SECONDS
        with self._users_left:
            self._users_left.wait_for(lambda: self._users == 0, timeout=max(0.0, deadline - time.monotonic()))
        if not self.in_memory:
            self.close()

    def after_fork_in_parent(self) -> None:
        """Let the other threads go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start anew. Whoever held a lock in the parent is not here to release it.

        Books in memory are copied with the process; their connection holds no file and no lock, and is kept.
        """
        engine = self.engine
        self._start()
        if self.in_memory:
            self.engine = engine


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _each(step: Callable[[Database], None]) -> None:
    for database in list(_open_databases):
        step(database)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_each, Database.before_fork),
        after_in_parent=partial(_each, Database.after_fork_in_parent),
        after_in_child=partial(_each, Database.after_fork_in_child),
    )


def _reason(error: BaseException) -> str:
    """What the database says, in one line; without SQLAlchemy's words, which repeat the statement's values."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    return " ".join(said.split()) or type(error).__name__
