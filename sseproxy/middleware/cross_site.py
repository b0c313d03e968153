"""Requests that a web page of another site makes without being allowed to. https://www.w3.org/TR/fetch-metadata/

Such a page could never read the answer, but the user it is visited by would pay for it wherever credentials come by
themselves: with REMOTE_USER, or where none are needed. To plain http other than localhost browsers state no
``Sec-Fetch-Site``; what remains there is ``Origin``, which they leave out of a GET that asks for no permission to read.
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
"""Links elsewhere may lead to these."""
_PORT: Final = re.compile(r":\d*\Z")


class CrossSiteMiddleware:
    """Refuses what comes from a page of another site, as its browser says, whose origin is not allowed.

    :param origins: whose pages may read answers.
    :param is_exempt: tells of what guards itself.
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
        origin = environ.get("HTTP_ORIGIN")  # which images and links do not send
        return self._origins.any if origin is None else self._origins.allows(origin)


def _is_foreign(environ: WSGIEnvironment) -> bool:
    """Whether this comes from a page of another site. What is no browser sends neither of the two fields, and what has
    a page's origin and a key all the same, a desktop application or an extension, no page could have sent unasked.
    """
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return bool(site.lower() == "cross-site")
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and not _is_own(origin, environ) and not secret_of(environ)


def _is_own(origin: str, environ: WSGIEnvironment) -> bool:
    """Whether the page is of the host that is asked. To a site all ports belong, and https may end in front."""
    scheme, _, host = origin.partition("://")
    asked = environ.get("HTTP_HOST", "").lower()
    return scheme in (environ["wsgi.url_scheme"], "https") and _PORT.sub("", host) == _PORT.sub("", asked)


def _is_visit(environ: WSGIEnvironment) -> bool:
    """Whether the user followed a link, in a window of its own and not in a frame."""
    wanted = (environ.get("HTTP_SEC_FETCH_MODE"), environ.get("HTTP_SEC_FETCH_DEST"))
    return wanted == ("navigate", "document") and environ["REQUEST_METHOD"] in ("GET", "HEAD")


def _foreign() -> Failure:
    message = (
        "A page of another site made this request, and its origin does not stand in the configuration's cors.origins. "
        "Add it there if the page is yours. If it comes from here, a proxy in front must pass the Host header on as is."
    )
    return Failure(message, status=403, type="permission_error", code="origin_not_allowed")
