"""CORS: tells browsers which web pages may read an answer. https://fetch.spec.whatwg.org/#http-cors-protocol

Stands around everything else, so that refusals can be read too. Whether a request is admitted is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from sseproxy.core.failure import Failure
from sseproxy.core.http_fields import TOKEN
from sseproxy.core.origins import Origins
from sseproxy.wsgi.call import NAME_OF, Answer, Headers
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METHODS: Final = "GET, HEAD, POST, DELETE, OPTIONS"
MAX_AGE: Final = "7200"
"""Seconds; the longest for which Chromium caches a preflight."""

EXPOSED: Final = ", ".join(
    ["X-Request-Id", "Request-Id", "Location", "Content-Location", "Retry-After", "X-Should-Retry"]
    + [f"x-ratelimit-{part}-{kind}" for kind in ("requests", "tokens") for part in ("limit", "remaining", "reset")]
)
PREFLIGHT_VARY: Final = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
_MOST_NAMES: Final = 100


class CorsMiddleware:
    """Answers preflights, and puts its own CORS fields in place of whatever an application inside has set.

    :param origins: the origins whose pages may read answers; with none, no answer carries a CORS field.
    :param credentials: whether they may send cookies; not with ``*``.
    """

    def __init__(self, app: WSGIApplication, origins: Origins, *, credentials: bool = False) -> None:
        if credentials and origins.any:
            raise ValueError("credentials cannot be allowed to every origin")
        self.app = app
        self._origins = origins
        self._credentials = credentials

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN", "")
        if origin and is_preflight(environ):
            return self._preflight(environ, origin)(environ, start_response)
        return self.app(environ, partial(self._start, start_response, origin))

    def _start(
        self,
        start_response: StartResponse,
        origin: str,
        status: str,
        headers: Headers,
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        if any(map(_is_of_cors, map(NAME_OF, headers))):
            headers = [item for item in headers if not _is_of_cors(item[0])]
        if self._origins:
            headers = self._with_fields(headers, origin)
        return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

    def _with_fields(self, headers: Headers, origin: str) -> Headers:
        fields = vary(headers, "Origin")
        if self._origins.allows(origin):
            fields += [*self._permission(origin), ("Access-Control-Expose-Headers", EXPOSED)]
        return fields

    def _permission(self, origin: str) -> Headers:
        fields = [("Access-Control-Allow-Origin", "*" if self._origins.any else origin)]
        return [*fields, ("Access-Control-Allow-Credentials", "true")] if self._credentials else fields

    def _preflight(self, environ: WSGIEnvironment, origin: str) -> Answer:
        own = vary([("X-Request-Id", Exchange.of(environ).request_id)], *PREFLIGHT_VARY)
        if not self._origins.allows(origin):
            return refuse(_not_allowed(), environ, own)
        own += [*self._permission(origin), ("Access-Control-Allow-Methods", METHODS)]
        asked = requested_headers(environ)
        if asked:
            own.append(("Access-Control-Allow-Headers", asked))
        return Answer("204 NO CONTENT", [*own, ("Access-Control-Max-Age", MAX_AGE)], [])


@lru_cache(256)
def _is_of_cors(name: str) -> bool:
    """Cached, as nearly all answers have the same few header names."""
    return name.lower().startswith("access-control-")


def is_preflight(environ: WSGIEnvironment) -> bool:
    """Whether this is a CORS preflight request."""
    asks: Any = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD") and environ.get("HTTP_ORIGIN")
    return bool(asks) and environ["REQUEST_METHOD"] == "OPTIONS"


def requested_headers(environ: WSGIEnvironment) -> str:
    """The valid header names (RFC 9110 section 5.1) that a preflight asks for, to be allowed."""
    names = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").split(",", _MOST_NAMES)[:_MOST_NAMES]
    return ", ".join(name.strip(" \t") for name in names if TOKEN.fullmatch(name.strip(" \t")))


def vary(headers: Headers, *names: str) -> Headers:
    """The headers with ``names`` in their one ``Vary`` field, beside what was there (RFC 9110 section 12.5.5)."""
    given = ",".join(value for name, value in headers if name.lower() == "vary")
    listed = [name.strip() for name in given.split(",") if name.strip()]
    if "*" not in listed:
        listed += [name for name in names if name.lower() not in {each.lower() for each in listed}]
    return [*(item for item in headers if item[0].lower() != "vary"), ("Vary", ", ".join(listed))]


def _not_allowed() -> Failure:
    """Shown to developers in the browser's tools."""
    message = "Pages of this origin may not read answers here: it does not stand in the configuration's cors.origins."
    return Failure(message, status=403, type="permission_error", code="origin_not_allowed")
