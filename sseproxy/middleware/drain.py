"""A process that shuts down starts no new answers, and knows how many are running."""

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
    """Refuses with 503 while the process shuts down; counts the answers that were admitted before.

    Stands inside of resume, so that running answers can be joined until the end, and outside of limits and accounting.
    """

    def __init__(self, app: WSGIApplication, draining: Draining) -> None:
        self.app = app
        self._draining = draining

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        leave = self._draining.enter()
        try:
            # After entering: a request admitted between check and count would be cut off uncounted.
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
