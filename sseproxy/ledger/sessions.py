"""Who is logged in to the dashboard: sessions that all processes share, and that an API key stands behind.

Kept here, not in a signed cookie: a session that was ended is over everywhere, and there is no secret to distribute.
What is stored opens nothing: of the session's token as of the key it holds the SHA-256 alone.
"""

from __future__ import annotations

import secrets
from datetime import datetime

from sqlalchemy import delete, insert, select

from sseproxy.core.digest import digest_of
from sseproxy.ledger.database import Database
from sseproxy.ledger.schema import micros, sessions


class Sessions:
    """The sessions in one ledger's database.

    Every method raises :class:`~sseproxy.ledger.protocol.LedgerUnavailable` if it is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, key_hash: str, at: datetime, until: datetime) -> str:
        """Begin a session, and forget those that are over.

        :param key_hash: SHA-256 (hex) of the key it began with.
        :param at: now.
        :returns: the session's token: 256 random bits, which cannot be had again.
        """
        token = secrets.token_urlsafe(32)
        row = {"token_hash": digest_of(token), "key_hash": key_hash, "expires_at": micros(until)}
        with self._database.change() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= micros(at)))
            connection.execute(insert(sessions).values(row))
        return token

    def key_of(self, token: str, at: datetime) -> str | None:
        """The hash of the key that a running session began with; None if there is no such session any more."""
        query = select(sessions.c.key_hash).where(
            sessions.c.token_hash == digest_of(token), sessions.c.expires_at > micros(at)
        )
        with self._database.read() as connection:
            found: str | None = connection.execute(query).scalar()
        return found

    def end(self, token: str) -> None:
        """End a session, in every process; one that is over already is no error."""
        with self._database.change() as connection:
            connection.execute(delete(sessions).where(sessions.c.token_hash == digest_of(token)))
