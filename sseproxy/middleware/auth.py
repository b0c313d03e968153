"""Authentication: the first reader that knows the credentials names the user (see credentials)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sseproxy.core.failure import Failure
from sseproxy.middleware.credentials import Caller, CredentialReader, Unauthorized, secret_of
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import KEY, Exchange, User

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ANONYMOUS: Final = User("anonymous")
CHALLENGE: Final = [("WWW-Authenticate", 'Bearer realm="sseproxy"')]


class AuthMiddleware:
    """Admits a request and sets its user: ``REMOTE_USER`` and the exchange's user and key.

    To a wrapped application ``REMOTE_USER`` means a logged-in user (RFC 3875, 4.1.11): a request without credentials is
    only billed to the anonymous user, and the variable stays as the server set it.

    :param readers: asked in this order; the first that knows the credentials decides.
    :param required: False admits requests without credentials; wrong ones are refused even so.
    :param anonymous: the user of requests without credentials.
    :param public: whether a path needs no credentials even if they are required elsewhere.
    """

    def __init__(
        self,
        app: WSGIApplication,
        readers: Sequence[CredentialReader],
        *,
        required: bool = True,
        anonymous: User = ANONYMOUS,
        public: Callable[[str], bool] | None = None,
    ) -> None:
        self.app = app
        self._readers = readers
        self._required = required
        self._anonymous = anonymous
        self._public = public

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        try:
            exchange.user, exchange.key = self._authenticate(environ)
        except Failure as failure:
            headers = CHALLENGE if failure.status == 401 else None
            return refuse(failure, environ, headers)(environ, start_response)
        if exchange.key is not None:
            environ["REMOTE_USER"] = exchange.user.name
        return self.app(environ, start_response)

    def _authenticate(self, environ: WSGIEnvironment) -> Caller:
        for read in self._readers:
            caller = read(environ)
            if caller is not None:
                return caller
        if secret_of(environ):
            raise Unauthorized("The API key is unknown, revoked or expired. Ask for a new one.")
        if self._required and not (self._public and self._public(environ.get("PATH_INFO", ""))):
            raise Unauthorized("No API key was sent. Send one as 'Authorization: Bearer KEY'.", "missing_api_key")
        return Caller(self._anonymous, None)
