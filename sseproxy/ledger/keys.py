"""API keys: made, found by their hash, listed, revoked. A secret is shown once and never stored."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert, select, update

from sseproxy.core.digest import digest_of
from sseproxy.ledger.database import Database
from sseproxy.ledger.protocol import Key
from sseproxy.ledger.schema import keys, micros, moment

PREFIX: Final = "sk-sp-"


def create_key(
    database: Database, user: str, at: datetime, *, label: str = "", expires_at: datetime | None = None
) -> tuple[Key, str]:
    """Make a key for a user.

    :param at: now.
    :returns: the key and its secret, which cannot be had again.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key("key_" + secrets.token_hex(6), user, label, at, expires_at)
    row = {
        "id": key.id,
        "user": user,
        "label": label,
        "secret_hash": digest_of(secret),
        "created_at": micros(at),
        "expires_at": None if expires_at is None else micros(expires_at),
    }
    with database.change() as connection:
        connection.execute(insert(keys).values(row))
    return key, secret


def find_key(database: Database, secret_hash: str) -> Key | None:
    """The key whose secret has this hash, also if it is revoked or expired."""
    with database.look_up() as cursor:
        row = database.statements.find_key.run(cursor, (secret_hash,)).fetchone()
    return None if row is None else _key(row)


def list_keys(database: Database, user: str | None = None) -> list[Key]:
    """All keys, or those of one user, the oldest first."""
    query = select(keys).order_by(keys.c.created_at, keys.c.id)
    if user is not None:
        query = query.where(keys.c.user == user)
    with database.read() as connection:
        return [_key(row) for row in connection.execute(query)]


def revoke_key(database: Database, key_id: str, at: datetime) -> bool:
    """Make a key invalid from this moment.

    :returns: ``False`` if there is no such key, or it was revoked before.
    """
    change = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=micros(at))
    with database.change() as connection:
        return connection.execute(change).rowcount == 1


def _key(row: Any) -> Key:
    key_id, user, label, _secret_hash, created_at, expires_at, revoked_at = row
    return Key(
        key_id,
        user,
        label,
        moment(created_at),
        None if expires_at is None else moment(expires_at),
        None if revoked_at is None else moment(revoked_at),
    )
