"""CORS for refusals around a wrapped application that has CORS of its own: its pages must be able to read them too.

The application is sent the preflight that the browser sent before the request, and its permissions are copied to the
refusal. Only refusals get them: for all other answers the application decides itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from sseproxy.middleware.cors import EXPOSED, vary
from sseproxy.wsgi.call import Headers, call_app

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.cors")

PERMISSIONS: Final = ("access-control-allow-origin", "access-control-allow-credentials")
_CREDENTIAL_KEYS: Final = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_API_KEY", "HTTP_API_KEY"})
"""A preflight carries no credentials."""
_CALLED_KEY: Final = "sseproxy.application_called"
"""A list in the environ; not empty once the application has been called."""


def noting_calls(app: WSGIApplication) -> WSGIApplication:
    """The application, which notes in the environ that it was called: then its answer keeps its own CORS fields."""

    def noted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.get(_CALLED_KEY, []).append(app)
        return app(environ, start_response)

    return noted


class TheirCorsMiddleware:
    """Lets pages of another origin read a refusal if the application lets them read its answers.

    :param asked: answers preflights as the application does.
    """

    def __init__(self, app: WSGIApplication, asked: WSGIApplication) -> None:
        self.app = app
        self._asked = asked

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if _concerns_the_application(environ):
            preflight = _preflight(environ)
            called = environ[_CALLED_KEY] = []
            start_response = partial(self._start, start_response, preflight, called)
        return self.app(environ, start_response)

    def _start(
        self,
        start_response: StartResponse,
        preflight: WSGIEnvironment,
        called: list[object],
        status: str,
        headers: Headers,
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        if status[0] in "45" and not called and not _permissions(headers):
            headers = self._permitted(headers, preflight)
        return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

    def _permitted(self, headers: Headers, preflight: WSGIEnvironment) -> Headers:
        try:
            answer = call_app(self._asked, preflight)
            answer.close()
        except Exception:
            log.warning("the application fails at a preflight, so that no page can read a refusal", exc_info=True)
            return headers
        permissions = _permissions(answer.headers)
        if not permissions:
            return headers
        return [*vary(headers, "Origin"), *permissions, ("Access-Control-Expose-Headers", EXPOSED)]


def _concerns_the_application(environ: WSGIEnvironment) -> bool:
    """Whether a page of another origin requests a path of the application's."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is None or environ.get("PATH_INFO", "").startswith("/-/"):
        return False
    own = f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', '')}"
    return bool(origin != own and environ.get("HTTP_SEC_FETCH_SITE") != "same-origin")


def _preflight(environ: WSGIEnvironment) -> WSGIEnvironment:
    """The preflight of this request, rebuilt before a middleware inside changes the environ."""
    asked = {name: value for name, value in environ.items() if name not in _CREDENTIAL_KEYS}
    method = environ["REQUEST_METHOD"]
    return {**asked, "REQUEST_METHOD": "OPTIONS", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": method}


def _permissions(headers: Headers) -> Headers:
    return [item for item in headers if item[0].lower() in PERMISSIONS]
