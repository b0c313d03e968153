"""Tells a recorder of each exchange when it is over.

What is counted under which name may not go in here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sseproxy.wsgi.call import call_app
from sseproxy.wsgi.ending import when_ended
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.metrics")


class Recorder(Protocol):
    """Counts exchanges. Called from many threads; must return at once."""

    def ended(self, exchange: Exchange, status: int) -> None:
        """The exchange is over, whether it was charged or not."""


class MetricsMiddleware:
    """Has every exchange counted that passes here."""

    def __init__(self, app: WSGIApplication, recorder: Recorder) -> None:
        self.app = app
        self._recorder = recorder

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        try:
            answer = call_app(self.app, environ)
        except BaseException:
            _safely(self._recorder.ended, exchange, 500)
            raise
        answer.body = when_ended(exchange, answer.body, partial(_safely, self._recorder.ended, exchange, answer.code))
        return answer(environ, start_response)


def _safely(count: Callable[..., None], *what: object) -> None:
    """Called in the middle of a settlement, which must not fail because a number could not be written down."""
    try:
        count(*what)
    except Exception:
        log.exception("an exchange was not counted")
