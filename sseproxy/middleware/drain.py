"""A process that goes down begins no new answer, and knows which ones it has begun."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.wsgi.closing import ClosingBody
from sseproxy.wsgi.draining import Draining
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class DrainMiddleware:
    """Refuses with 503 while the process goes down; counts what was let in before.

    Stands inside of what joins running answers, which goes on until the end, and outside of what counts or charges.
    """

    def __init__(self, app: WSGIApplication, draining: Draining) -> None:
        self.app = app
        self._draining = draining

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        leave = self._draining.enter()
        try:
            # After entering: otherwise one could slip in between and be cut off as nobody's.
            self._draining.check()
            body = self.app(environ, start_response)
        except Failure as failure:
            leave()
            return refuse(failure, environ)(environ, start_response)
        except BaseException:
            leave()
            raise
        if isinstance(body, EventStream):
            body.on_closed(leave)
            return body
        return ClosingBody.around(body, leave)
