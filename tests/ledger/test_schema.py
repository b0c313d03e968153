"""The migrations make the tables that the code believes in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text

import sseproxy.ledger.migrations as migrations
import sseproxy.ledger.upgrade as upgrade_module
from sseproxy.ledger.database import Database
from sseproxy.ledger.ledger import SQLLedger, open_ledger, opening
from sseproxy.ledger.protocol import LedgerUnavailable, Period
from sseproxy.ledger.schema import REVISION, metadata
from tests.harness.old_books import upgrade_to

ROOT = Path(__file__).parent.parent.parent
OLD_CHARGE = """
    INSERT INTO charges (id, "user", route, model, upstream, upstream_model, state, reserved, unpriced, status,
                         started_at, owner)
    VALUES ('old', 'alice', '/v1/chat/completions', 'm', 'main', 'm', 'settled', 0, false, 200, 0, 'nobody')
"""


RUNNING_CHARGE = """
    INSERT INTO charges (id, "user", route, model, upstream, upstream_model, state, reserved, cost, unpriced,
                         started_at, owner)
    VALUES ('running', 'alice', '/v1', 'm', 'main', 'm', 'pending', 40, 30, false, 1795219200000000, 'nobody')
"""
#: As the fourth version kept them: spent and reserved for all time, each month, week and day.
OLD_BALANCES = {
    "alice": {
        "total": (1000, 40), "2026-10": (100, 0), "2026-11": (900, 40), "2026-W44": (300, 0), "2026-W47": (700, 40),
        "2026-10-31": (100, 0), "2026-11-01": (200, 0), "2026-11-21": (700, 40),
    },
    "bob": {"total": (5, 0), "2024-02": (5, 0), "2024-W09": (5, 0), "2024-02-29": (5, 0)},
}  # fmt: skip


def test_migrations_make_the_tables_of_the_schema(url: str) -> None:
    database = Database(url)
    with database.change() as connection:
        upgrade_to(connection, "head")
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    database.close()

    assert differences == []


def test_new_books_are_what_all_migrations_make_of_an_empty_database(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    other = f"sqlite:///{tmp_path}/migrated.db"
    migrated = Database(other if url.startswith("sqlite") else request.getfixturevalue("new_database")())
    with migrated.change() as connection:
        upgrade_to(connection, "head")
        expected = _all_of(connection)
    migrated.close()

    books = open_ledger(url)
    with books.database.read() as connection:
        made = _all_of(connection)
    books.close()

    assert made == expected
    assert made["alembic_version"]["rows"] == [(REVISION,)]
    assert made["charges"]["indexes"]["charges_pending"]["dialect_options"]


def _all_of(connection: Connection) -> dict[str, Any]:
    """Every table as the database describes it; its columns in their order."""
    seen = inspect(connection)

    def table(name: str) -> dict[str, Any]:
        return {
            "columns": [{**each, "type": str(each["type"])} for each in seen.get_columns(name)],
            # Its name is that of the table for which a migration made it, and nothing uses it.
            "primary key": seen.get_pk_constraint(name)["constrained_columns"],
            "unique": seen.get_unique_constraints(name),
            "indexes": {each["name"]: each | _where(each) for each in seen.get_indexes(name)},
            "options": seen.get_table_options(name),
            "rows": connection.execute(text(f"SELECT * FROM {name}")).all(),
        }

    return {name: table(name) for name in seen.get_table_names()}


def _where(index: Any) -> dict[str, Any]:
    return {"dialect_options": {key: str(value) for key, value in index.get("dialect_options", {}).items()}}


def test_new_books_are_made_without_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from sseproxy.ledger.ledger import open_ledger\n"
        f"open_ledger('sqlite:///{tmp_path}/books.db').close(); print('alembic' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    assert result.stdout.strip() == "False", result.stderr


def test_tables_that_another_process_made_meanwhile_are_not_made_again(books: SQLLedger) -> None:
    assert upgrade_module.create(books.database.change) == REVISION


def test_books_that_an_older_process_made_meanwhile_are_brought_to_this_version(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(change: Callable[[], AbstractContextManager[Connection]]) -> str:
        with change() as connection:
            upgrade_to(connection, "0004")
        return upgrade_module.create(change)

    monkeypatch.setattr("sseproxy.ledger.database.create", create)

    ledger = open_ledger(url)
    with ledger.database.read() as connection:
        assert upgrade_module.revision_of(connection) == REVISION
    ledger.close()


def test_a_table_of_somebody_else_is_not_taken_for_that_of_the_books(url: str) -> None:
    database = Database(url)
    with database.change() as connection:
        connection.execute(text("CREATE TABLE keys (id INTEGER)"))
    database.close()

    with pytest.raises(LedgerUnavailable, match="already exists"):
        open_ledger(url)


def test_the_newest_migration_is_the_one_the_schema_names() -> None:
    script = Config()
    script.set_main_option("script_location", str(Path(migrations.__file__).parent))

    assert ScriptDirectory.from_config(script).get_current_head() == REVISION


def test_books_of_the_first_version_are_brought_to_this_one_with_what_is_in_them(url: str) -> None:
    database = Database(url)
    with database.change() as connection:
        upgrade_to(connection, "0001")
        connection.execute(text(OLD_CHARGE))
    database.close()

    ledger = open_ledger(url)
    (row,) = ledger.charges()
    ledger.close()

    assert (row["id"], row["status"], [each["status"] for each in row["tries"]]) == ("old", 200, [200])


def test_balances_of_the_fourth_version_are_carried_over(url: str) -> None:
    database = Database(url)
    with database.change() as connection:
        upgrade_to(connection, "0004")
        add = text('INSERT INTO balances ("user", period, spent, reserved) VALUES (:user, :period, :spent, :reserved)')
        for user, periods in OLD_BALANCES.items():
            for period, (spent, reserved) in periods.items():
                connection.execute(add, {"user": user, "period": period, "spent": spent, "reserved": reserved})
        connection.execute(text(RUNNING_CHARGE))
    database.close()

    ledger = open_ledger(url, lease=0)

    def money(user: str, per: Period, *day: int) -> tuple[int, int]:
        balance = ledger.balance(user, per, datetime(*day, 12, tzinfo=timezone.utc))  # type: ignore[misc, arg-type]
        return balance.spent, balance.reserved

    # The process that held alice's running charge is gone: it is booked at its last checkpoint.
    assert money("alice", "total", 2026, 11, 21) == (1030, 0)
    assert money("alice", "month", 2026, 11, 21) == (930, 0)
    assert money("alice", "month", 2026, 10, 31) == (100, 0)
    assert money("alice", "week", 2026, 10, 27) == (300, 0)
    assert money("alice", "day", 2026, 11, 1) == (200, 0)
    assert money("alice", "day", 2026, 11, 21) == (730, 0)
    assert money("bob", "week", 1970, 1, 1) == (0, 0)
    assert money("bob", "total", 1970, 1, 1) == money("bob", "day", 2024, 2, 29) == (5, 0)
    ledger.close()


def test_opening_again_migrates_nothing(books: SQLLedger, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproxy.ledger.database.upgrade", None)

    open_ledger(url).close()


def test_who_waited_while_another_migrated_lets_go_of_the_books_at_once(
    books: SQLLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alembic.command.upgrade", None)

    upgrade_module.upgrade(books.database.change)


def test_books_are_not_locked_while_what_migrates_them_is_loaded(
    books: SQLLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "alembic.command")
    monkeypatch.delattr("alembic.command", raising=False)
    was_loaded: list[bool] = []

    @contextmanager
    def change() -> Iterator[Connection]:
        was_loaded.append("alembic.command" in sys.modules)
        with books.database.change() as connection:
            yield connection

    upgrade_module.upgrade(change)

    assert was_loaded == [True]


def test_several_can_open_new_books_at_once(url: str) -> None:
    barrier = threading.Barrier(6)
    opened: list[SQLLedger] = []

    def start() -> None:
        barrier.wait()
        opened.append(open_ledger(url))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(opened) == 6
    for ledger in opened:
        ledger.close()


def test_books_of_a_newer_version_are_left_alone(books: SQLLedger, url: str) -> None:
    with books.database.change() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(LedgerUnavailable, match="another version"):
        open_ledger(url)


def test_books_that_cannot_be_opened_leave_no_connection_behind(books: SQLLedger, url: str) -> None:
    with books.database.change() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database = Database(url)
    closed: list[object] = []
    opened: list[object] = []
    event.listen(database.engine, "connect", lambda connection, _record: opened.append(connection))
    event.listen(database.engine, "close", lambda connection, _record: closed.append(connection))

    with pytest.raises(LedgerUnavailable), opening(database):
        database.migrate()

    assert opened
    assert closed == opened


def test_different_new_books_can_be_opened_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(8)]
    barrier = threading.Barrier(len(urls))

    def start(url: str) -> list[object]:
        barrier.wait()
        ledger = open_ledger(url)
        with ledger.database.read() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), metadata)
        ledger.close()
        return differences

    with ThreadPoolExecutor(len(urls)) as pool:
        assert list(pool.map(start, urls)) == [[]] * len(urls)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_while_books_are_migrated_can_open_books(tmp_path: Path) -> None:
    with upgrade_module._migrating:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(30)
                open_ledger(f"sqlite:///{tmp_path}/books.db").close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
