"""Sessions of the dashboard: shared by all who open the ledger, over when they are ended or too old."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from sseproxy.ledger.database import Database
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.sessions import Sessions

from .conftest import NOON

HOUR = timedelta(hours=1)


def test_another_process_knows_a_session_until_it_is_ended(books: SQLLedger, url: str) -> None:
    database = Database(url)
    here, there = Sessions(books.database), Sessions(database)
    token, other = here.start("hash", NOON, NOON + HOUR), here.start("hash", NOON, NOON + HOUR)

    assert token != other and len(token) == 43
    assert there.key_of(token, NOON) == "hash"
    there.end(token)
    assert here.key_of(token, NOON) is None
    assert here.key_of(other, NOON) == "hash"
    here.end(token)  # once more is no harm
    database.close()


def test_a_session_ends_by_itself(books: SQLLedger) -> None:
    sessions = Sessions(books.database)
    token = sessions.start("hash", NOON, NOON + HOUR)

    assert sessions.key_of(token, NOON + HOUR - timedelta(microseconds=1)) == "hash"
    assert sessions.key_of(token, NOON + HOUR) is None
    sessions.start("hash", NOON + HOUR, NOON + 2 * HOUR)
    with books.database.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM sessions")).scalar() == 1


def test_what_is_stored_is_no_token_and_nobody_guesses_one(books: SQLLedger) -> None:
    sessions = Sessions(books.database)
    token = sessions.start("hash", NOON, NOON + HOUR)
    with books.database.read() as connection:
        stored = connection.execute(text("SELECT * FROM sessions")).one()

    assert token not in str(stored)
    assert [sessions.key_of(guess, NOON) for guess in ("", stored[0], "' OR 1=1 --", "\ud800")] == [None] * 4
