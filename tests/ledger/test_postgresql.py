"""A PostgreSQL that is slow, silent, full or set up in its own way."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, make_url, text

from sseproxy.ledger.database import Database
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.opening import open_journaled
from sseproxy.ledger.protocol import LedgerUnavailable
from tests.harness import stopped, wait_until
from tests.harness.parts import optional_tool

from .conftest import NOON, Completed, NewCharge

psycopg = pytest.importorskip("psycopg", reason="missing part: psycopg")

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """The URL of a database with nothing in it."""
    return new_database()


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Meanwhile the server's end of every connection that there is takes what is sent, and answers nothing."""
    with psycopg.connect(url) as connection:
        pids = [pid for (pid,) in connection.execute(f"SELECT pid {OTHERS}")]
    with stopped(*pids):
        yield


@pytest.fixture
def impatient(url: str, new_charge: NewCharge, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLLedger]:
    """A ledger that gives its server little time, with the pending charge ``c1``."""
    from sseproxy.ledger.postgresql import PunctualConnection

    monkeypatch.setattr(PunctualConnection, "patience", 0.3)
    books = open_ledger(url)
    books.reserve(new_charge("c1"))
    yield books
    books.close()


def test_connections_whose_server_fell_silent_are_replaced(
    url: str, impatient: SQLLedger, completed: Completed
) -> None:
    with impatient.database.look_up(), impatient.database.look_up(), impatient.database.look_up():
        pass

    with frozen(url):
        assert impatient.settle("c1", completed())
        with impatient.database.look_up(), impatient.database.look_up(), impatient.database.look_up():
            pass


def test_a_query_that_is_not_answered_in_time_is_a_503(url: str, impatient: SQLLedger, completed: Completed) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE charges")

        with pytest.raises(LedgerUnavailable) as failure:
            impatient.settle("c1", completed(cost=700))
        assert failure.value.in_doubt

    assert impatient.settle("c1", completed(cost=700))
    assert impatient.balance("alice", "total", NOON).spent == 700


def test_what_was_given_up_keeps_no_connection_of_the_server(
    url: str, impatient: SQLLedger, completed: Completed
) -> None:
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as admin:
        other.execute("LOCK TABLE charges")

        with pytest.raises(LedgerUnavailable):
            impatient.settle("c1", completed())

        wait_until(lambda: admin.execute(f"SELECT COUNT(*) {OTHERS} AND wait_event_type = 'Lock'").fetchone() == (0,))


def test_a_report_may_take_longer_than_a_client_waits(impatient: SQLLedger, caplog: pytest.LogCaptureFixture) -> None:
    with impatient.database.read() as connection:
        assert connection.execute(text("SELECT 1 FROM pg_sleep(1)")).scalar() == 1
    with pytest.raises(LedgerUnavailable), impatient.database.look_up() as cursor:
        cursor.execute("SELECT pg_sleep(600)")
    assert caplog.records == [], "no traceback of the pool's"


def test_an_idle_process_keeps_few_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sseproxy.ledger.postgresql import SharingPool

    books = open_ledger(url)
    use_at_once(books, 16)
    monkeypatch.setattr(SharingPool, "calm", 0.0)
    for _ in range(16):
        use_at_once(books, 1)

    with psycopg.connect(url, autocommit=True) as connection:
        wait_until(lambda: connection.execute(f"SELECT COUNT(*) {OTHERS}").fetchone() == (4,))
    books.close()


def test_the_pool_says_as_little_as_sqlalchemys_own(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    open_ledger(url).close()

    assert "Pool" not in caplog.text


def test_a_busy_process_keeps_the_connections_it_needs(url: str) -> None:
    books = open_ledger(url)

    assert use_at_once(books, 14) == use_at_once(books, 14) == use_at_once(books, 14)
    books.close()


def use_at_once(books: SQLLedger, connections: int) -> set[int]:
    """The server's processes behind them."""
    with ExitStack() as many:
        cursors = [many.enter_context(books.database.look_up()) for _ in range(connections)]
        return {cursor.execute("SELECT pg_backend_pid()").fetchone()[0] for cursor in cursors}


def test_the_log_says_why_books_cannot_be_opened_and_no_password(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = make_url(url).database
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    poor = make_url(url).set(username=name, password="hunter2").render_as_string(hide_password=False)

    def why_not() -> str:
        open_journaled(poor, tmp_path / "usage.journal", serve=True).close()
        with pytest.raises(LedgerUnavailable) as failure:
            open_journaled(poor, tmp_path / "usage.journal")
        assert failure.value.message in caplog.text
        return failure.value.message

    assert "permission denied for schema public" in why_not()
    open_ledger(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"GRANT SELECT ON alembic_version TO {name}")
    assert "permission denied for table owners" in why_not()
    assert "hunter2" not in caplog.text


def test_where_the_server_has_no_connection_left_its_own_are_waited_for(url: str, new_charge: NewCharge) -> None:
    name = make_url(url).database
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 2")
        connection.execute(f"ALTER DATABASE {name} OWNER TO {name}")
        connection.execute(f"GRANT ALL ON SCHEMA public TO {name}")
    books = open_ledger(str(make_url(url).set(username=name)))

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(lambda _: books.reserve(new_charge()), range(120))) == [None] * 120
    books.close()


def test_what_a_server_refuses_is_not_in_doubt(url: str, new_charge: NewCharge) -> None:
    books = open_ledger(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {make_url(url).database} SET default_transaction_read_only = on")
    books.database.close()

    with pytest.raises(LedgerUnavailable) as failure:
        books.reserve(new_charge())
    assert "read-only transaction" in failure.value.reason and not failure.value.in_doubt
    books.close()


def test_what_a_server_that_cannot_be_reached_was_to_book_is_not_in_doubt(new_charge: NewCharge) -> None:
    with pytest.raises(LedgerUnavailable) as failure:
        SQLLedger(Database("postgresql://u@127.0.0.1:1/x")).reserve(new_charge())

    assert not failure.value.in_doubt


def test_nobody_waits_for_a_connection_of_those_who_have_none_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(2) as threads:
        port = server.getsockname()[1]
        database = Database(f"postgresql://u@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable&connect_timeout=60")
        monkeypatch.setattr(database.engine.pool, "_timeout", 30.0)

        connecting = threads.submit(look_up, database)
        with server.accept()[0]:
            refused = threads.submit(look_up, database)
            server.accept()[0].close()

            assert isinstance(refused.exception(timeout=15), LedgerUnavailable)
            assert not connecting.done()
        assert isinstance(connecting.exception(), LedgerUnavailable)


def test_while_one_looks_whether_a_silent_server_is_back_all_others_are_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(2) as threads:
        port = server.getsockname()[1]
        database = Database(f"postgresql://u@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable&connect_timeout=2")
        with pytest.raises(LedgerUnavailable, match="not available") as failure:
            look_up(database)
        assert failure.value.retry_after == 5
        server.accept()[0].close()

        event.listen(database.engine, "do_connect", lambda *given: given[-1].update(connect_timeout=60), insert=True)
        looking = threads.submit(look_up, database)
        with server.accept()[0]:
            for _ in range(20):
                told = threads.submit(look_up, database).exception(timeout=15)
                assert isinstance(told, LedgerUnavailable) and "the server is silent" in told.reason
            assert not looking.done()
        assert isinstance(looking.exception(), LedgerUnavailable)

        # It refuses now, which is an answer.
        refused = [threads.submit(look_up, database) for _ in range(2)]
        for _ in refused:
            server.accept()[0].close()
        assert not any("the server is silent" in str(each.exception().reason) for each in refused)


def look_up(database: Database) -> None:
    with database.look_up():
        pass


@pytest.fixture
def pgbouncer(url: str, tmp_path: Path) -> Iterator[str]:
    """The URL of the same database behind PgBouncer, where two connections serve everybody a transaction at a time."""
    program = optional_tool("pgbouncer")
    server = make_url(url)
    folder = Path(server.query["host"])  # type: ignore[arg-type]
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\n{server.database} = host={folder} user={server.username}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 2\n"
    )
    command = [program, str(tmp_path / "pgbouncer.ini")]
    if os.getuid() == 0:  # which it refuses to run as
        command[1:1] = ["-u", folder.owner()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_until(lambda: process.poll() is not None or _listens(port))
    assert process.poll() is None, process.stderr and process.stderr.read()
    yield f"postgresql://{server.username}@127.0.0.1:{port}/{server.database}"
    process.terminate()
    process.communicate()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_pgbouncer_may_stand_between(pgbouncer: str, new_charge: NewCharge, completed: Completed) -> None:
    books = open_ledger(pgbouncer)

    book_at_once(books, new_charge, completed)
    books.close()


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_database_may_isolate_transactions_more_by_default(
    url: str, new_charge: NewCharge, completed: Completed, isolation: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {make_url(url).database} SET default_transaction_isolation = '{isolation}'")
    books = open_ledger(url)

    book_at_once(books, new_charge, completed)
    books.close()


def book_at_once(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    def book(_number: int) -> bool:
        charge = new_charge()
        books.reserve(charge)
        return books.settle(charge.id, completed())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(book, range(200))) == [True] * 200


@pytest.mark.parametrize(("option", "prepared"), [("", 0), ("&prepare_threshold=0", 0), ("&prepare_threshold=2", 1)])
def test_statements_are_prepared_where_the_address_says_so(url: str, option: str, prepared: int) -> None:
    books = open_ledger(url + option)

    with books.database.look_up() as cursor:
        for _ in range(10):
            cursor.execute("SELECT 1 WHERE 1 = %(one)s", {"one": 1})
        cursor.execute("SELECT COUNT(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 1 WHERE%'")
        assert cursor.fetchone() == (prepared,)
    books.close()
