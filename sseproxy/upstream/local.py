"""A WSGI application as an upstream: called in the client's thread, without the client's secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sseproxy.upstream.headers import ANSWERED_HERE, BROWSER, CREDENTIALS, OVERRIDES
from sseproxy.wsgi.call import Headers
from sseproxy.wsgi.client import ClientGone, watch_client
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

WITHHELD = {"HTTP_" + name.upper().replace("-", "_") for name in ANSWERED_HERE | CREDENTIALS | BROWSER | OVERRIDES}


class LocalUpstream:
    """Hands a request to an application of this process as if it had come over a network.

    What the proxy keeps in the environ (``sseproxy.*``) stays behind, so that the application may itself be a proxy.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        this_try = Exchange.of(environ).this_try()
        if watch_client(environ)():
            this_try.reached = False
            raise ClientGone
        passed = {
            key: value for key, value in environ.items() if key not in WITHHELD and not key.startswith("sseproxy.")
        }

        def started(status: str, headers: Headers, *exc_info: Any) -> Callable[[bytes], object]:
            this_try.status = int(status[:3])
            return start_response(status, headers, *exc_info)

        return self.app(passed, started)
