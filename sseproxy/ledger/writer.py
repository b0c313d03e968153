"""The one connection through which a process writes to SQLite. Knows transactions, no table.

A commit costs as much as the rest of a charge. So the thread that gets the connection also does the work of all threads
that wait for it, in one transaction. A thread with nobody before it does its own work at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from sqlite3 import DatabaseError, OperationalError
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Writer:
    """Transactions on one connection, one at a time.

    :param connect: opens the connection, in autocommit mode.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.lock = threading.RLock()
        """Held while a transaction runs."""
        self._connect = connect
        self._connection: Any = None
        self._cursor: Any = None
        self._closed_changes = 0
        self._turns: deque[_Turn[Any]] = deque()

    @property
    def changes(self) -> int:
        """Rows changed so far, including those that were rolled back."""
        with self.lock:
            open_changes = 0 if self._connection is None else int(self._connection.total_changes)
            return self._closed_changes + open_changes

    def run(self, work: Callable[[Any], T]) -> T:
        """The result of some work with a DBAPI cursor, once it is committed; work that raises is rolled back alone.

        :param work: may run in another thread, and a second time if a shared transaction was rolled back.
        """
        # The fast path: nobody is waiting.
        if not self._turns and self.lock.acquire(False):
            try:
                with self.alone() as cursor:
                    return work(cursor)
            finally:
                self.lock.release()
        return self._run_in_turn(work)

    def execute(self, statement: str, parameters: Sequence[Any]) -> int:
        """As :meth:`run`, for one statement, which is its own transaction; the number of rows it changed."""
        if not self._turns and self.lock.acquire(False):
            try:
                rows: int = self._ready().execute(statement, parameters).rowcount
                return rows
            except OperationalError as error:
                self._fail(self._all_that_wait(), error)
                raise
            finally:
                self.lock.release()
        return self._run_in_turn(lambda cursor: int(cursor.execute(statement, parameters).rowcount))

    def execute_at_once(self, statement: str) -> bool:
        """Run a statement; False if it fails, would wait for another process, or there is no open connection."""
        with self.lock:
            if self._connection is None:
                return False
            cursor = self._ready()
            (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
            cursor.execute("PRAGMA busy_timeout = 0")
            try:
                cursor.execute(statement)
            except DatabaseError:
                return False
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {patience}")
            return True

    def _run_in_turn(self, work: Callable[[Any], T]) -> T:
        turn = _Turn(work)
        self._turns.append(turn)
        try:
            with self.lock:
                if not turn.was_taken:
                    self._run_all_that_wait()
                if not turn.is_over:
                    self._run(self._begin(), (turn,))
        except BaseException:
            # Interrupted while waiting: work whose caller is gone must not be done, unless a thread has taken it
            # already.
            with suppress(ValueError):
                self._turns.remove(turn)
            raise
        if turn.failure is not None:
            raise turn.failure
        return turn.result  # type: ignore[return-value]

    def _run_all_that_wait(self) -> None:
        turns = self._all_that_wait()
        if len(turns) == 1:
            return
        try:
            cursor = self._begin()
        except Exception as error:
            self._fail(turns, error)
            return
        # One failure rolls all of them back; then each thread does its own work alone.
        with suppress(Exception):
            self._run(cursor, turns)

    def _all_that_wait(self) -> list[_Turn[Any]]:
        turns = [self._turns.popleft() for _ in range(len(self._turns))]
        for turn in turns:
            turn.was_taken = True
        return turns

    def _fail(self, turns: Sequence[_Turn[Any]], error: Exception) -> None:
        """Fail all that wait: another process held its lock for the whole timeout, and each would wait as long
        again."""
        for turn in turns:
            turn.failure, turn.is_over = error, True

    def _run(self, cursor: Any, turns: Sequence[_Turn[Any]]) -> None:
        try:
            for turn in turns:
                turn.result = turn.work(cursor)
            cursor.execute("COMMIT")
        except BaseException:
            self._undo(cursor)
            raise
        for turn in turns:
            turn.is_over = True

    @contextmanager
    def alone(self) -> Iterator[Any]:
        """A DBAPI cursor in a transaction of its own, committed at the end, rolled back on any exception."""
        with self.lock:
            cursor = self._begin()
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                self._undo(cursor)
                raise

    def _begin(self) -> Any:
        # IMMEDIATE: a transaction that reads first and then writes could fail at the write instead of waiting.
        try:
            return self._ready().execute("BEGIN IMMEDIATE")
        except Exception as error:
            self._fail(self._all_that_wait(), error)
            raise

    def _ready(self) -> Any:
        if self._connection is None:
            connection = self._connect()
            self._connection, self._cursor = connection, connection.cursor()
        if self._cursor.connection.in_transaction:
            self._undo(self._cursor)  # left open by an exception out of a signal handler
        return self._cursor

    def _undo(self, cursor: Any) -> None:
        # SQLite rolls back by itself on some errors (disk full); a second ROLLBACK is an error.
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; the next transaction opens it again."""
        with self.lock:
            if self._connection is not None:
                self._closed_changes = self.changes
                self._connection.close()
                self._connection = self._cursor = None


class _Turn(Generic[T]):
    """Work that waits for the connection.

    :ivar was_taken: a thread ran it together with others; if that was rolled back, it is run alone.
    :ivar is_over: it is committed, or failed for all.
    """

    __slots__ = ("failure", "is_over", "result", "was_taken", "work")

    def __init__(self, work: Callable[[Any], T]) -> None:
        self.work = work
        self.result: T | None = None
        self.failure: Exception | None = None
        self.was_taken = False
        self.is_over = False
