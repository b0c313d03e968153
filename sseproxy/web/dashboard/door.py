"""Who may read the dashboard: an admin, by a session that began with their key, or by what the API takes as well.

A session is as good as the key it began with: on each request the key must still be valid and its user still an admin.
Cookies: RFC 6265; requests of other sites: https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from werkzeug.http import dump_cookie, parse_cookie

from sseproxy.core.digest import digest_of
from sseproxy.core.failure import Failure
from sseproxy.middleware.credentials import Caller, CredentialReader, Unauthorized, secret_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.ledger.sessions import Sessions

log = logging.getLogger("sseproxy.dashboard")

COOKIE: Final = "sseproxy_session"
LASTS: Final = timedelta(hours=8)
KeyOf = Callable[[str], "Caller | None"]
"""Whose the key is that has this SHA-256 (hex); raises :class:`Unauthorized` if it is revoked."""


class NotAdmin(Failure):
    """It is known who asks, and that they may not see this."""

    def __init__(self) -> None:
        message = "The dashboard is for admins: users with admin: true in the configuration."
        super().__init__(message, status=403, type="permission_error", code="admin_required")


class Door:
    """Lets admins in.

    :param readers: what the API takes as credentials.
    :param keys: whose a key is, by kind of key.
    :param admit: called with the address that an attempt to log in comes from; raises if there were too many.
    :param clock: now, aware.
    """

    def __init__(
        self,
        readers: Sequence[CredentialReader],
        keys: Sequence[KeyOf],
        sessions: Sessions,
        admit: Callable[[str], object],
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._readers = readers
        self._keys = keys
        self._sessions = sessions
        self._admit = admit
        self._clock = clock

    def admin(self, environ: WSGIEnvironment) -> Caller:
        """The admin who asks. Whoever sends a key is judged by that alone.

        :raises Unauthorized: nobody is known to ask; NotAdmin: somebody else does.
        """
        caller = (None if secret_of(environ) else self._of_session(environ)) or self._of_credentials(environ)
        if caller is None:
            if _token(environ):
                raise Unauthorized("Your session has ended. Log in again.", "session_ended")
            raise Unauthorized("Log in with the API key of an admin.", "missing_api_key")
        return _admin(caller)

    def has_session(self, environ: WSGIEnvironment) -> bool:
        """Whether there is something to log out of."""
        return bool(_token(environ)) and not secret_of(environ)

    def login(self, environ: WSGIEnvironment, secret: str) -> str:
        """Begin a session with a key.

        :returns: the ``Set-Cookie`` header.
        :raises Unauthorized: the key is wrong; NotAdmin: it is no admin's; Failure: too many attempts.
        """
        self._check_origin(environ)
        address = environ.get("REMOTE_ADDR", "")
        self._admit(address)
        digest = digest_of(secret)
        try:
            caller = self._caller_of(digest) if secret else None
            if caller is None:
                raise Unauthorized("This API key is unknown, revoked or expired.")
            _admin(caller)
        except Failure as failure:
            log.warning("refused a login to the dashboard from %s: %s", address, failure.code)
            raise
        self._end(environ)
        now = self._clock()
        return _cookie(environ, self._sessions.start(digest, now, now + LASTS), LASTS)

    def logout(self, environ: WSGIEnvironment) -> str:
        """End the session there is, in every process.

        :returns: the ``Set-Cookie`` header.
        """
        self._check_origin(environ)
        self._end(environ)
        return _cookie(environ, "", timedelta(0))

    def _of_session(self, environ: WSGIEnvironment) -> Caller | None:
        token = _token(environ)
        digest = self._sessions.key_of(token, self._clock()) if token else None
        try:
            caller = self._caller_of(digest) if digest else None
        except Unauthorized:
            return None
        return caller if caller and caller.user.admin else None

    def _of_credentials(self, environ: WSGIEnvironment) -> Caller | None:
        for read in self._readers:
            caller = read(environ)
            if caller is not None:
                return caller
        if secret_of(environ):
            raise Unauthorized("This API key is unknown, revoked or expired.")
        return None

    def _caller_of(self, digest: str) -> Caller | None:
        return next((caller for key_of in self._keys if (caller := key_of(digest)) is not None), None)

    def _end(self, environ: WSGIEnvironment) -> None:
        if token := _token(environ):
            self._sessions.end(token)

    def _check_origin(self, environ: WSGIEnvironment) -> None:
        """Refuse what a page of another origin, also one of the same site, makes its visitor send."""
        site, origin = environ.get("HTTP_SEC_FETCH_SITE", "").lower(), environ.get("HTTP_ORIGIN")
        if site:
            ours = site in ("same-origin", "none")
        else:  # a browser on plain http, or no browser
            ours = origin is None or origin.partition("://")[2] == environ.get("HTTP_HOST", "")
        if not ours:
            message = "A page of another origin sent this. A proxy in front must pass the Host header on as it is."
            raise Failure(message, status=403, type="permission_error", code="origin_not_allowed")


def _admin(caller: Caller) -> Caller:
    if not caller.user.admin:
        raise NotAdmin
    return caller


def _token(environ: WSGIEnvironment) -> str:
    return parse_cookie(environ).get(COOKIE, "")


def _cookie(environ: WSGIEnvironment, token: str, lasts: timedelta) -> str:
    secure = environ["wsgi.url_scheme"] == "https"
    # No Path: by itself it is that of the login's URL up to its last slash (RFC 6265, 5.1.4), as the browser sees it,
    # also where a proxy in front has cut something off.
    return dump_cookie(COOKIE, token, max_age=lasts, path=None, httponly=True, samesite="Strict", secure=secure)
