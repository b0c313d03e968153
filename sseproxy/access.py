"""What the configuration says of who may come in: the readers of credentials, and the door of the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sseproxy.config import Config
from sseproxy.core.allowance import Limits, Rate
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.overview import Overview
from sseproxy.ledger.protocol import Ledger
from sseproxy.ledger.sessions import Sessions
from sseproxy.middleware.credentials import ConfiguredKeys, CredentialReader, LedgerKeys, RemoteUser, Tokens
from sseproxy.middleware.limiter import Limiter
from sseproxy.users import Users
from sseproxy.web.dashboard.app import Dashboard
from sseproxy.web.dashboard.door import Door

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOGINS: Final = Limits(requests=Rate(10, 60))
"""Attempts to log in to the dashboard, by the address they come from."""


class Access:
    """Who may come in."""

    def __init__(self, config: Config, users: Users, ledger: Ledger) -> None:
        self._users = users
        self._section = config.auth
        self._keys = (ConfiguredKeys(users.by_key()), LedgerKeys(ledger.find_key, users.find))

    def readers(self) -> list[CredentialReader]:
        """What the API takes as credentials, in the order in which they are looked for."""
        configured, booked = self._keys
        readers: list[CredentialReader] = [configured]
        if self._section.jwt is not None:
            # Before the ledger, which may be away, is asked for a key: none that is made by command looks like a token.
            readers.append(Tokens(self._section.jwt.verifier(), self._users.find))
        readers.append(booked)
        if self._section.remote_user:
            readers.append(RemoteUser(self._users.find))
        return readers

    def dashboard(self, app: WSGIApplication, books: Ledger, limiter: Limiter) -> Dashboard:
        """The dashboard in front of an application.

        :param books: the ledger itself, whose database also keeps the sessions.
        """
        assert isinstance(books, SQLLedger)

        def admit(address: str) -> None:
            # No user has a name with a tab in it.
            limiter.enter(f"login\t{address}", LOGINS)

        keys = [kind.caller_of for kind in self._keys]
        door = Door(self.readers(), keys, Sessions(books.database), admit)
        return Dashboard(app, Overview(books.database), door)
