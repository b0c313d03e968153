"""Ends answers that are stopped, or still run when the shutdown's grace period is over, with an error event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sseproxy.core.chat import Api
from sseproxy.core.normalize import failure_events
from sseproxy.core.sse import FLUSH, Event
from sseproxy.wsgi.client import GONE_KEY, Ended, watch_client
from sseproxy.wsgi.draining import CutShort, Draining
from sseproxy.wsgi.exchange import KEY, Exchange
from sseproxy.wsgi.lane import unseen
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class CutMiddleware:
    """Cuts answers short at their next read or idle tick; one that has not begun becomes a refusal.

    Stands around the normalised answer, inside of accounting, which settles by the event, and of the format, which
    renders it. Answers that are not parsed (``passthrough``, ``wrap``) get no event: the server closes the connection.
    """

    def __init__(self, app: WSGIApplication, draining: Draining) -> None:
        self.app = app
        self._draining = draining

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        request = exchange.request
        if request is None:
            return self.app(environ, start_response)
        waiting = environ[GONE_KEY] = _Waiting(watch_client(environ), self._draining, exchange)
        body = self.app(environ, start_response)
        if isinstance(body, EventStream):
            waiting.has_stream = True
            # Plain events may bypass this: drain has emptied the relay by then, and the lane gives each iterator a
            # turn.
            body.pipe(partial(self._in_time, exchange, request.api, body), unseen)
        return body

    def _in_time(self, exchange: Exchange, api: Api, stream: EventStream, events: Iterator[Event]) -> Iterator[Event]:
        # Only between two reads: what has arrived may complete the answer.
        for event in events:
            # An upstream connection that was shut down on purpose ends in an error: report the stop instead.
            if stream.interrupted and (event.error is not None or event.type == "error"):
                yield from failure_events(Ended(), api)
                return
            yield event
            if event is FLUSH and self._draining.is_over():
                exchange.cut_short = True
                yield from failure_events(CutShort(), api)
                return


class _Waiting(msgspec.Struct):
    """Called during silences to ask whether the client has left; ends the wait for an answer at shutdown."""

    gone: Callable[[], bool]
    draining: Draining
    exchange: Exchange
    has_stream: bool = False

    def __call__(self) -> bool:
        if not self.has_stream and self.draining.is_over():
            self.exchange.cut_short = True
            raise CutShort
        return self.gone()
