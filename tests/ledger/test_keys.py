"""API keys in the ledger's database."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from sqlalchemy import select

from sseproxy.core.digest import digest_of
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.schema import keys

NOW = datetime(2026, 11, 21, 12, 30, 15, 123_456, tzinfo=timezone.utc)


def test_a_new_key_is_found_by_its_hash(books: SQLLedger) -> None:
    key, secret = books.create_key("alice", NOW, label="laptop", expires_at=NOW + timedelta(days=90))

    assert re.fullmatch(r"sk-sp-[A-Za-z0-9_-]{43}", secret)
    assert key.id.startswith("key_")
    assert books.find_key(digest_of(secret)) == key
    assert (key.user, key.label, key.created_at) == ("alice", "laptop", NOW)


def test_secrets_are_not_stored(books: SQLLedger) -> None:
    _, secret = books.create_key("alice", NOW)

    with books.database.read() as connection:
        stored = str(connection.execute(select(keys)).all())
    assert secret not in stored
    assert secret[6:] not in stored


def test_an_unknown_hash_is_nobodys(books: SQLLedger) -> None:
    books.create_key("alice", NOW)

    assert books.find_key(digest_of("sk-sp-wrong")) is None
    assert books.find_key("") is None


def test_a_key_expires_at_its_moment(books: SQLLedger) -> None:
    key, _ = books.create_key("alice", NOW, expires_at=NOW + timedelta(hours=1))

    assert key.is_valid(NOW + timedelta(minutes=59))
    assert not key.is_valid(NOW + timedelta(hours=1))


def test_a_revoked_key_is_known_as_such_in_every_process(books: SQLLedger, url: str) -> None:
    other = open_ledger(url)
    key, secret = books.create_key("alice", NOW)
    assert other.find_key(digest_of(secret)) == key

    assert books.revoke_key(key.id, NOW) is True

    found = other.find_key(digest_of(secret))
    assert found is not None
    assert found.revoked_at == NOW
    assert not found.is_valid(NOW)
    other.close()


def test_a_key_is_revoked_once(books: SQLLedger) -> None:
    key, _ = books.create_key("alice", NOW)
    books.revoke_key(key.id, NOW)

    assert books.revoke_key(key.id, NOW + timedelta(days=1)) is False
    assert books.revoke_key("key_unknown", NOW) is False
    assert books.list_keys()[0].revoked_at == NOW


def test_keys_are_listed_the_oldest_first(books: SQLLedger) -> None:
    late, _ = books.create_key("alice", NOW + timedelta(days=1))
    early, _ = books.create_key("alice", NOW)
    other, _ = books.create_key("bob", NOW + timedelta(days=2))

    assert books.list_keys() == [early, late, other]
    assert books.list_keys("bob") == [other]
