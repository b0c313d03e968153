"""One connection for all that a process writes to SQLite: who waits for it is served together, and fails alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.protocol import Budget, BudgetExceeded, DuplicateCharge
from sseproxy.ledger.writer import Writer
from tests.harness import PATIENCE, wait_until

from .conftest import NOON, Completed, NewCharge

PUT = "INSERT INTO numbers VALUES (0)"


class Opened:
    """A connection as a pool hands it out, and the statements that were run on it."""

    def __init__(self, path: Path) -> None:
        self.dbapi_connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.05)
        self.cursor = self.dbapi_connection.cursor
        self.close = self.dbapi_connection.close
        self.statements: list[str] = []
        self.dbapi_connection.set_trace_callback(self.statements.append)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path / "numbers.db")
    opened.dbapi_connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    yield opened
    opened.close()


@pytest.fixture
def writer(opened: Opened) -> Writer:
    return Writer(lambda: opened)


def put(number: int) -> Callable[[Any], int]:
    """Work that gives the number back; one that is there already is an error."""

    def work(cursor: Any) -> int:
        cursor.execute(f"INSERT INTO numbers VALUES ({number})")
        return number

    return work


def numbers(opened: Opened) -> list[int]:
    return [number for (number,) in opened.dbapi_connection.execute("SELECT number FROM numbers ORDER BY number")]


def all_waiting(writer: Writer, calls: list[Callable[[], Any]]) -> list[Future[Any]]:
    """Made in threads of their own while the connection is taken, which is let go of when all of them wait."""
    with ThreadPoolExecutor(len(calls)) as pool:
        with writer.lock:
            futures = [pool.submit(call) for call in calls]
            wait_until(lambda: len(writer._turns) == len(calls))
        return futures


def test_who_waits_for_nobody_has_a_transaction_of_its_own(writer: Writer, opened: Opened) -> None:
    assert [writer.run(put(1)), writer.run(put(2))] == [1, 2]

    assert opened.statements.count("COMMIT") == 2


def test_one_statement_alone_is_a_transaction_by_itself(writer: Writer, opened: Opened) -> None:
    assert writer.execute("INSERT INTO numbers VALUES (?)", (1,)) == 1

    assert not opened.dbapi_connection.in_transaction
    assert "BEGIN IMMEDIATE" not in opened.statements
    assert numbers(opened) == [1]


def test_one_statement_waits_for_another_process_too(sqlite_books: SQLLedger, new_charge: NewCharge) -> None:
    other = sqlite3.connect(str(sqlite_books.database.url.database), isolation_level=None, check_same_thread=False)
    sqlite_books.reserve(new_charge("first", reserved=0))
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE charges SET route = '/held'")
    with ThreadPoolExecutor(1) as pool:
        reserved = pool.submit(sqlite_books.reserve, new_charge("second", reserved=0))
        assert not wait([reserved], timeout=0.2).done
        other.execute("COMMIT")
        reserved.result(PATIENCE)
    other.close()

    assert {row["id"] for row in sqlite_books.charges()} == {"first", "second"}


def test_all_that_wait_are_written_in_one_transaction_and_each_hears_of_its_own(writer: Writer, opened: Opened) -> None:
    futures = all_waiting(writer, [lambda number=number: writer.run(put(number)) for number in range(20)])

    assert [future.result() for future in futures] == list(range(20))
    assert opened.statements.count("COMMIT") == 1
    assert numbers(opened) == list(range(20))


def test_statements_that_wait_are_written_together_and_each_hears_how_many_rows_it_changed(
    writer: Writer, opened: Opened
) -> None:
    writer.run(put(1))
    move = "UPDATE numbers SET number = number + 100 WHERE number = ?"

    futures = all_waiting(writer, [lambda number=number: writer.execute(move, (number,)) for number in (1, 2)])

    assert [future.result() for future in futures] == [1, 0]
    assert opened.statements.count("COMMIT") == 2
    assert numbers(opened) == [101]


def test_one_that_fails_takes_nobody_along(writer: Writer, opened: Opened) -> None:
    writer.run(put(3))

    futures = all_waiting(writer, [lambda number=number: writer.run(put(number)) for number in range(6)])

    assert [type(future.exception()) for future in futures] == [
        sqlite3.IntegrityError if number == 3 else type(None) for number in range(6)
    ]
    assert numbers(opened) == list(range(6))


def test_what_is_done_at_once_fails_nobody_where_the_disk_is_full(writer: Writer, opened: Opened) -> None:
    writer.execute(PUT, ())
    (patience,) = opened.dbapi_connection.execute("PRAGMA busy_timeout").fetchone()
    opened.dbapi_connection.execute("PRAGMA max_page_count = 1")

    assert not writer.execute_at_once("CREATE TABLE others AS SELECT zeroblob(100000) AS number")
    assert opened.dbapi_connection.execute("PRAGMA busy_timeout").fetchone() == (patience,)
    assert writer.execute("INSERT INTO numbers VALUES (1)", ()) == 1


def test_where_another_process_does_not_let_go_all_that_wait_fail_at_once(
    writer: Writer, opened: Opened, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "numbers.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    futures = all_waiting(writer, [lambda number=number: writer.run(put(number)) for number in range(6)])

    assert {type(future.exception()) for future in futures} == {sqlite3.OperationalError}
    assert opened.statements.count("BEGIN IMMEDIATE") == 1
    other.close()
    assert writer.run(put(7)) == 7


@pytest.mark.parametrize("first", [lambda writer: writer.run(put(0)), lambda writer: writer.execute(PUT, ())])
def test_who_comes_while_another_process_does_not_let_go_waits_no_longer_than_who_came_before(
    first: Callable[[Writer], object], writer: Writer, opened: Opened, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "numbers.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    opened.dbapi_connection.execute("PRAGMA busy_timeout = 2000")
    opened.statements.clear()
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(first, writer)]
        wait_until(lambda: opened.statements)
        futures += [pool.submit(writer.run, put(number)) for number in (1, 2, 3)]

    assert {type(future.exception()) for future in futures} == {sqlite3.OperationalError}
    assert opened.statements in (["BEGIN IMMEDIATE"], [PUT])
    other.close()


class Interrupting:
    """A lock that nobody gets, since the thread is interrupted while it waits."""

    def acquire(self, blocking: bool) -> bool:
        return False

    def __enter__(self) -> None:
        raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        raise AssertionError


def test_what_was_interrupted_while_it_waited_is_not_done(writer: Writer, opened: Opened) -> None:
    lock = writer.lock
    writer.lock = Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        writer.run(put(1))
    writer.lock = lock

    writer.run(put(2))

    assert numbers(opened) == [2]


def test_of_requests_that_are_booked_together_those_beyond_the_budget_are_refused(
    sqlite_books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    budget = Budget(limit=3000, per="month")
    sqlite_books.reserve(new_charge("running"))
    calls: list[Callable[[], object]] = [
        lambda number=number: sqlite_books.reserve(new_charge(f"c{number}"), budget)  # type: ignore[misc]
        for number in range(5)
    ]
    calls += [lambda: sqlite_books.settle("running", completed(cost=1000)) for _ in range(3)]
    calls += [lambda: sqlite_books.reserve(new_charge("twice", user="bob")) for _ in range(2)]

    futures = all_waiting(sqlite_books.database._writer, calls)

    errors = [type(future.exception()) for future in futures]
    assert errors.count(BudgetExceeded) == 3
    assert errors.count(DuplicateCharge) == 1
    assert [future.result() for future in futures[5:8]].count(True) == 1
    balance = sqlite_books.balance("alice", "month", NOON)
    assert (balance.spent, balance.reserved) == (1000, 2000)
    assert sqlite_books.balance("bob", "month", NOON).reserved == 1000
