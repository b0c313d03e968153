"""Ends what still runs when the process's time to go down is over, and what is stopped: with an error event that the
client understands.
"""

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
    """Cuts answers short at their next event or idle tick; one that has not begun becomes a refusal.

    Stands around the normalised answer, inside of accounting, which settles by the event, and of the format, which
    renders it. Answers that nobody looks into (``passthrough``, ``wrap``) cannot be told anything: the server hangs up.
    """

    def __init__(self, app: WSGIApplication, draining: Draining) -> None:
        self.app = app
        self._draining = draining

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        request = exchange.request
        if request is None:
            return self.app(environ, start_response)
        patience = environ[GONE_KEY] = _Patience(watch_client(environ), self._draining, exchange)
        body = self.app(environ, start_response)
        if isinstance(body, EventStream):
            patience.has_stream = True
            # No answer is on the relay any more when the time is over, and elsewhere the lane is no way to stay on.
            body.pipe(partial(self._in_time, exchange, request.api, body), unseen)
        return body

    def _in_time(self, exchange: Exchange, api: Api, stream: EventStream, events: Iterator[Event]) -> Iterator[Event]:
        # Between two reads only: what is at hand may be the whole rest.
        for event in events:
            if stream.interrupted and (event.error is not None or event.type == "error"):
                # What breaks off is what was hung up on.
                yield from failure_events(Ended(), api)
                return
            yield event
            if event is FLUSH and self._draining.is_over():
                exchange.cut_short = True
                yield from failure_events(CutShort(), api)
                return


class _Patience(msgspec.Struct):
    """Asked in silences whether the client has left; where there is no stream yet, the place to end the waiting."""

    gone: Callable[[], bool]
    draining: Draining
    exchange: Exchange
    has_stream: bool = False

    def __call__(self) -> bool:
        if not self.has_stream and self.draining.is_over():
            self.exchange.cut_short = True
            raise CutShort
        return self.gone()
