"""Maps credentials to callers: each reader knows one kind and leaves all others to the next.

Secrets are taken from ``Authorization: Bearer``, else ``x-api-key``, else ``api-key``, and never from a URL. They must
not get into any message or log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final, NamedTuple

from sseproxy.core.digest import digest_of
from sseproxy.core.failure import Failure
from sseproxy.ledger.protocol import Key
from sseproxy.wsgi.exchange import User

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

LONGEST_NAME: Final = 200
FindUser = Callable[[str], User]
"""The user of that name, as configured."""


class Caller(NamedTuple):
    """The user, and the ID of the key that identified it."""

    user: User
    key: str | None


CredentialReader = Callable[["WSGIEnvironment"], "Caller | None"]
"""Reads one kind of credentials; None: there are none of this kind.

:raises Unauthorized: they are of this kind, and invalid.
"""


class Unauthorized(Failure):
    """Missing or invalid credentials; the message says what to do, never what was sent."""

    def __init__(self, message: str, code: str = "invalid_api_key") -> None:
        super().__init__(message, status=401, type="invalid_request_error", code=code)


class ConfiguredKeys:
    """API keys of the configuration, by their SHA-256.

    A look-up by hash leaks nothing about a secret through its timing.

    :param users: by the SHA-256 (hex) of their key.
    """

    def __init__(self, users: Mapping[str, User]) -> None:
        self._callers = {digest: Caller(user, f"config:{digest[:8]}") for digest, user in users.items()}

    def __call__(self, environ: WSGIEnvironment) -> Caller | None:
        return self.caller_of(digest_of(secret_of(environ)))

    def caller_of(self, digest: str) -> Caller | None:
        """The caller whose key has this SHA-256 (hex)."""
        return self._callers.get(digest)


class LedgerKeys:
    """API keys made by ``sseproxy keys``.

    :param find: by the SHA-256 (hex); called on each request, so that a revocation takes effect at once everywhere.
    """

    def __init__(self, find: Callable[[str], Key | None], user: FindUser = User) -> None:
        self._find = find
        self._user = user

    def __call__(self, environ: WSGIEnvironment) -> Caller | None:
        secret = secret_of(environ)
        return self.caller_of(digest_of(secret)) if secret else None

    def caller_of(self, digest: str) -> Caller | None:
        """The caller whose key has this SHA-256 (hex).

        :raises Unauthorized: it is revoked or expired.
        """
        key = self._find(digest)
        if key is None:
            return None
        if not key.is_valid(datetime.now(timezone.utc)):
            raise Unauthorized("The API key is revoked or expired. Ask for a new one.")
        return Caller(self._user(key.user), key.id)


class Tokens:
    """JSON Web Tokens: secrets with two dots. API keys have none.

    :param verify: returns the name of a token's user; raises :class:`Unauthorized`.
    """

    def __init__(self, verify: Callable[[str], str], user: FindUser = User) -> None:
        self._verify = verify
        self._user = user

    def __call__(self, environ: WSGIEnvironment) -> Caller | None:
        secret = secret_of(environ)
        return Caller(self._user(self._verify(secret)), "jwt") if secret.count(".") == 2 else None


class RemoteUser:
    """``REMOTE_USER`` as set by the server or an outer middleware.

    No client can set it: its headers arrive as ``HTTP_…`` (RFC 3875, 4.1.18). A request with a secret of its own is
    judged by that alone.
    """

    def __init__(self, user: FindUser = User) -> None:
        self._user = user

    def __call__(self, environ: WSGIEnvironment) -> Caller | None:
        name = _decoded(environ.get("REMOTE_USER") or "")
        if not name or secret_of(environ):
            return None
        if not is_user_name(name):
            raise Unauthorized("The name of the user that the server states cannot be used.", "invalid_user")
        return Caller(self._user(name), "remote_user")


def secret_of(environ: WSGIEnvironment) -> str:
    """The secret the client sent, or an empty string."""
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    secret: str = value.strip()
    if secret and scheme.lower() == "bearer":
        return secret
    return str(environ.get("HTTP_X_API_KEY") or environ.get("HTTP_API_KEY") or "").strip()


def is_user_name(name: str) -> bool:
    """Whether a name may appear in headers, logs and reports."""
    return bool(name.strip()) and len(name) <= LONGEST_NAME and name.isprintable()


def _decoded(value: str) -> str:
    """Servers decode bytes as Latin-1 (PEP 3333); middlewares may set proper text."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
