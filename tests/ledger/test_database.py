"""Opening, sharing and leaving a database."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.opening import open_journaled
from sseproxy.ledger.protocol import Budget, LedgerUnavailable
from tests.harness import free_port

from .conftest import NOON, Completed, NewCharge


def test_the_folder_of_new_books_is_made(tmp_path: Path) -> None:
    open_ledger(f"sqlite:///{tmp_path}/a/b/books.db").close()

    assert (tmp_path / "a/b/books.db").exists()


def test_a_folder_that_cannot_be_written_is_a_503(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LedgerUnavailable, match="cannot be opened"):
        open_ledger(f"sqlite:///{tmp_path}/file/books.db")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_books_that_root_makes_belong_to_the_owner_of_their_folder(tmp_path: Path, new_charge: NewCharge) -> None:
    stranger = 65534
    os.chown(tmp_path, stranger, stranger)
    books = open_ledger(f"sqlite:///{tmp_path}/usage.db")
    books.reserve(new_charge("c1"))

    owners = {each.name: each.stat().st_uid for each in tmp_path.iterdir()}
    assert owners == dict.fromkeys(("usage.db", "usage.db-wal", "usage.db-shm"), stranger)
    books.close()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize(("made", "mode"), [(None, 0o600), (0o640, 0o640)])
def test_new_books_are_for_their_owner_alone_and_others_as_they_were(
    tmp_path: Path, new_charge: NewCharge, made: int | None, mode: int
) -> None:
    if made is not None:
        (tmp_path / "usage.db").touch()
        (tmp_path / "usage.db").chmod(made)
    books = open_ledger(f"sqlite:///{tmp_path}/usage.db")
    books.reserve(new_charge("c1"))

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("usage.db", "usage.db-wal", "usage.db-shm"), mode)
    books.close()


def test_a_file_that_is_no_database_is_a_503(tmp_path: Path) -> None:
    (tmp_path / "books.db").write_bytes(b"This is a text, and a long one at that. " * 100)

    with pytest.raises(LedgerUnavailable, match="cannot be opened"):
        open_ledger(f"sqlite:///{tmp_path}/books.db")


def test_a_file_that_cannot_be_opened_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "books.db").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(LedgerUnavailable) as caught:
        open_ledger("sqlite:///books.db")

    assert f"The ledger sqlite:///{tmp_path}/books.db cannot be opened: " in caught.value.message


@pytest.mark.parametrize("hidden", ["u:hunter2@HOST", "HOST?user=u&password=hunter2", "HOST?sslpassword=hunter2"])
def test_a_database_that_cannot_be_opened_is_named_without_its_passwords(hidden: str) -> None:
    pytest.importorskip("psycopg")
    authority, _, query = hidden.replace("HOST", f"127.0.0.1:{free_port()}").partition("?")

    with pytest.raises(LedgerUnavailable) as caught:
        open_ledger(f"postgresql://{authority}/books?{query}")

    assert "127.0.0.1" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_what_is_no_address_at_all_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="not a database URL") as caught:
        open_ledger("postgresql:hunter2@host/books")

    assert "hunter2" not in str(caught.value)


def test_sqlite_writes_ahead_and_readers_do_not_wait(sqlite_books: SQLLedger) -> None:
    with sqlite_books.database.write():
        with sqlite_books.database.look_up() as cursor:
            assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert sqlite_books.usage() == []


def test_what_was_compiled_for_one_database_serves_the_next_one(sqlite_books: SQLLedger) -> None:
    with closing(open_ledger("sqlite://")) as other:
        assert other.database.statements is sqlite_books.database.statements


def test_an_exception_undoes_the_transaction(books: SQLLedger) -> None:
    statements = books.database.statements

    with pytest.raises(KeyboardInterrupt), books.database.write() as cursor:
        statements.hold_money.run(cursor, ("alice", 1, 5))
        raise KeyboardInterrupt

    with books.database.look_up() as cursor:
        assert statements.read_balance.run(cursor, ("alice", 1, 1)).fetchone() == (0, 0)


def test_what_a_checkpoint_has_seen_is_in_the_file_itself(
    sqlite_books: SQLLedger, new_charge: NewCharge, tmp_path: Path
) -> None:
    sqlite_books.reserve(new_charge("c1"))

    sqlite_books.checkpoint({})

    assert _charges_on_disk(tmp_path) == ["c1"]


def test_who_writes_first_after_a_checkpoint_does_not_wait_for_the_disk(
    sqlite_books: SQLLedger, new_charge: NewCharge, tmp_path: Path
) -> None:
    """SQLite begins its log anew with the first write behind a checkpoint: a header, which it waits for."""
    sqlite_books.reserve(new_charge("c1"))
    sqlite_books.checkpoint({})
    begun = _header_of_log(tmp_path)

    sqlite_books.reserve(new_charge("c2"))

    assert _header_of_log(tmp_path) == begun


def test_a_checkpoint_while_another_process_writes_holds_up_no_write_and_fails_none(
    sqlite_books: SQLLedger, new_charge: NewCharge, tmp_path: Path
) -> None:
    sqlite_books.reserve(new_charge("c1"))
    with closing(sqlite3.connect(tmp_path / "books.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sqlite_books.checkpoint({})
    assert _charges_on_disk(tmp_path) == ["c1"]
    assert not sqlite_books.database.writes.fail

    sqlite_books.checkpoint({})
    begun = _header_of_log(tmp_path)
    sqlite_books.reserve(new_charge("c2"))

    assert _header_of_log(tmp_path) == begun


def test_a_checkpoint_of_what_has_not_changed_touches_no_file(
    sqlite_books: SQLLedger, new_charge: NewCharge, tmp_path: Path
) -> None:
    sqlite_books.reserve(new_charge("c1"))
    sqlite_books.checkpoint({})
    written = _all_files(tmp_path)

    sqlite_books.checkpoint({})

    assert _all_files(tmp_path) == written


def test_what_a_reader_kept_out_of_the_file_is_in_it_after_the_next_checkpoint(
    sqlite_books: SQLLedger, new_charge: NewCharge, tmp_path: Path
) -> None:
    sqlite_books.reserve(new_charge("c1"))
    with sqlite_books.database.read() as reader:
        reader.exec_driver_sql("SELECT * FROM charges").all()
        sqlite_books.reserve(new_charge("c2"))
        sqlite_books.checkpoint({})

    sqlite_books.checkpoint({})

    assert _charges_on_disk(tmp_path) == ["c1", "c2"]


def test_what_came_while_another_process_had_its_checkpoint_is_in_the_file_after_the_next(
    sqlite_books: SQLLedger, new_charge: NewCharge, tmp_path: Path
) -> None:
    sqlite_books.reserve(new_charge("c1"))
    # The byte by which one checkpoint keeps the others out: https://sqlite.org/walformat.html, "WAL Locks".
    shared = str(tmp_path / "books.db-shm")
    program = f"import fcntl; f = open({shared!r}, 'r+b'); fcntl.lockf(f, 2, 1, 121); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin and other.stdout and other.stdout.readline()
        sqlite_books.checkpoint({})
        other.communicate(b"\n")

    sqlite_books.checkpoint({})

    assert _charges_on_disk(tmp_path) == ["c1"]


def _charges_on_disk(folder: Path) -> list[str]:
    """In the file itself, without the log beside it, which a power cut may take."""
    (folder / "copy.db").write_bytes((folder / "books.db").read_bytes())
    with closing(sqlite3.connect(folder / "copy.db")) as connection:
        return [charge for (charge,) in connection.execute("SELECT id FROM charges ORDER BY id")]


def _header_of_log(folder: Path) -> bytes:
    return (folder / "books.db-wal").read_bytes()[:32]


def _all_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    books = open_ledger(f"sqlite:///{tmp_path}/books.db")
    books.ping()
    books.close()

    assert [path.name for path in tmp_path.iterdir()] == ["books.db"]
    connection = sqlite3.connect(tmp_path / "books.db")
    assert connection.execute("SELECT COUNT(*) FROM charges").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(("reserved", "budget"), [(0, None), (400, None), (400, Budget(10**40, "month"))])
def test_a_charge_is_reserved_and_settled_without_a_transaction_around_it(
    sqlite_books: SQLLedger, new_charge: NewCharge, completed: Completed, reserved: int, budget: Budget | None
) -> None:
    sqlite_books.ping()
    sqlite_books.reserve(new_charge("c1", reserved=0))
    statements: list[str] = []
    sqlite_books.database._writer._cursor.connection.set_trace_callback(statements.append)

    sqlite_books.reserve(new_charge("c2", reserved=reserved), budget)
    assert sqlite_books.settle("c2", completed(cost=700))

    # The statements of a trigger are told as well.
    assert {"INSERT", "UPDATE"} <= {text.split()[0] for text in statements}
    assert not {"BEGIN", "COMMIT"} & {text.split()[0] for text in statements}


def test_a_connection_that_was_opened_again_adds_up_what_ends(
    sqlite_books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    sqlite_books.reserve(new_charge("c1"))
    sqlite_books.database.close()
    sqlite_books.settle("c1", completed(cost=700))
    sqlite_books.database._writer.close()
    sqlite_books.reserve(new_charge("c2"))
    sqlite_books.settle("c2", completed(cost=30))

    assert sqlite_books.balance("alice", "month", NOON).spent == 730
    assert sum(row["requests"] for row in sqlite_books.usage()) == 2


def test_books_that_may_not_be_written_are_refused_at_the_start_and_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, journal = f"sqlite:///{tmp_path}/books.db", tmp_path / "usage.journal"
    open_ledger(url).close()
    (tmp_path / "books.db").chmod(0o444)
    # Root, as who tests may run, may do anything.
    monkeypatch.setattr(os, "access", lambda path, mode: bool(os.stat(path).st_mode & 0o200))

    with pytest.raises(LedgerUnavailable) as caught:
        open_journaled(url, journal)
    assert caught.value.message.endswith(f"the user that runs this may not write to the file {tmp_path}/books.db")
    books = open_journaled(url, journal, reports=True)
    assert books.ledger.usage() == []
    books.close()


def test_books_by_a_link_are_written_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "link.db").symlink_to(tmp_path / "books.db")
    (tmp_path / "closed").chmod(0o555)
    monkeypatch.setattr(os, "access", lambda path, mode: bool(os.stat(path).st_mode & 0o200))

    open_journaled(f"sqlite:///{tmp_path}/closed/link.db", tmp_path / "usage.journal").close()

    assert (tmp_path / "books.db").is_file()


def remove(folder: Path) -> None:
    for path in folder.glob("books.db*"):
        path.unlink()


@pytest.mark.parametrize("serve", [False, True])
def test_books_whose_file_was_removed_are_away_until_a_restart_brings_in_the_journal(
    tmp_path: Path, new_charge: NewCharge, completed: Completed, caplog: pytest.LogCaptureFixture, serve: bool
) -> None:
    pytest.importorskip("fcntl")
    url = f"sqlite:///{tmp_path}/books.db"
    books = open_journaled(url, tmp_path / "usage.journal", serve=serve)
    books.reserve(new_charge("c1"))
    books.checkpoint({})
    remove(tmp_path)

    books.checkpoint({})
    assert f"the file {tmp_path}/books.db was removed or replaced under this process; restart it" in caplog.text
    later = time.monotonic() + 60
    books._clock = lambda: later
    books.checkpoint({})
    assert "answers again" not in caplog.text
    with pytest.raises(LedgerUnavailable):
        books.ledger.ping()
    if serve:
        books.reserve(new_charge("c2"))
        books.ping()
    else:
        with pytest.raises(LedgerUnavailable):
            books.reserve(new_charge("c2"))
        with pytest.raises(LedgerUnavailable):
            books.ping()
    assert books.settle("c2", completed(cost=700))
    assert not (tmp_path / "books.db").exists()
    books.close()

    restarted = open_journaled(url, tmp_path / "usage.journal")
    assert [row["id"] for row in restarted.ledger.charges()] == (["c2"] if serve else [])
    restarted.close()


def test_a_process_with_the_old_file_opens_no_more_connections_even_before_it_looks_for_it(
    tmp_path: Path, new_charge: NewCharge
) -> None:
    books = open_ledger(f"sqlite:///{tmp_path}/books.db")
    with books.database.look_up():
        (tmp_path / "books.db").rename(tmp_path / "moved.db")
        with pytest.raises(LedgerUnavailable), books.database.look_up():
            pass
    assert not (tmp_path / "books.db").exists()

    # Back again, but who knows what was in its place meanwhile.
    (tmp_path / "moved.db").rename(tmp_path / "books.db")
    with pytest.raises(LedgerUnavailable):
        books.checkpoint({})
    with pytest.raises(LedgerUnavailable):
        books.reserve(new_charge("c1"))
    books.close()


def test_who_lets_go_of_a_removed_file_takes_nothing_from_the_one_in_its_place(
    tmp_path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    url = f"sqlite:///{tmp_path}/books.db"
    books = open_ledger(url)
    books.reserve(new_charge("c1"))
    remove(tmp_path)
    other = open_ledger(url)
    other.reserve(new_charge("c2"))

    with pytest.raises(LedgerUnavailable):
        books.checkpoint({})
    with pytest.raises(LedgerUnavailable):
        books.settle("c2", completed())

    other.reserve(new_charge("c3"))
    assert [other.settle(name, completed()) for name in ("c1", "c2", "c3")] == [False, True, True]
    assert {row["id"]: row["state"] for row in other.charges()} == {"c2": "settled", "c3": "settled"}
    assert other.balance("alice", "total", NOON).reserved == 0
    books.close()
    other.close()
