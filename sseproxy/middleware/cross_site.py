"""Cross-site request forgery: requests by web pages of other sites. https://www.w3.org/TR/fetch-metadata/

Such a page could never read the answer, but its visitor would pay for it wherever the browser adds credentials by
itself (REMOTE_USER) or none are needed. Over plain http, except to localhost, browsers send no ``Sec-Fetch-Site``;
there only ``Origin`` tells, which they omit from a GET without CORS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from sseproxy.core.failure import Failure
from sseproxy.core.origins import Origins
from sseproxy.middleware.credentials import secret_of
from sseproxy.wsgi.errors import refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


PAGES: Final = frozenset({"/-/chat", "/-/dashboard"})
"""Other sites may link to these."""
_PORT: Final = re.compile(r":\d*\Z")


class CrossSiteMiddleware:
    """Refuses requests that a page of another site sent, by its browser's word, unless its origin is allowed.

    :param origins: the origins whose pages may read answers.
    :param is_exempt: whether a request is for something that guards itself.
    """

    def __init__(
        self, app: WSGIApplication, origins: Origins, *, is_exempt: Callable[[WSGIEnvironment], bool] = lambda _: False
    ) -> None:
        self.app = app
        self._origins = origins
        self._is_exempt = is_exempt

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if _is_foreign(environ) and not self._allows(environ):
            return refuse(_foreign(), environ)(environ, start_response)
        return self.app(environ, start_response)

    def _allows(self, environ: WSGIEnvironment) -> bool:
        if self._is_exempt(environ) or (environ.get("PATH_INFO") in PAGES and _is_visit(environ)):
            return True
        origin = environ.get("HTTP_ORIGIN")  # not sent by images and links
        return self._origins.any if origin is None else self._origins.allows(origin)


def _is_foreign(environ: WSGIEnvironment) -> bool:
    """Whether a page of another site sent this. Clients other than browsers send neither header. A desktop application
    or an extension sends an origin and a key, which no page could send without a CORS permission.
    """
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return bool(site.lower() == "cross-site")
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and not _is_own(origin, environ) and not secret_of(environ)


def _is_own(origin: str, environ: WSGIEnvironment) -> bool:
    """Whether the page is of the requested host. A site includes all ports, and TLS may end at a proxy in front."""
    scheme, _, host = origin.partition("://")
    asked = environ.get("HTTP_HOST", "").lower()
    return scheme in (environ["wsgi.url_scheme"], "https") and _PORT.sub("", host) == _PORT.sub("", asked)


def _is_visit(environ: WSGIEnvironment) -> bool:
    """Whether the user followed a link, in a top-level window and not in a frame."""
    wanted = (environ.get("HTTP_SEC_FETCH_MODE"), environ.get("HTTP_SEC_FETCH_DEST"))
    return wanted == ("navigate", "document") and environ["REQUEST_METHOD"] in ("GET", "HEAD")


def _foreign() -> Failure:
    message = (
        "A page of another site made this request, and its origin does not stand in the configuration's cors.origins. "
        "Add it there if the page is yours. If it comes from here, a proxy in front must pass the Host header on as is."
    )
    return Failure(message, status=403, type="permission_error", code="origin_not_allowed")
