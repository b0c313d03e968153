"""Keep-alives before the first byte: a client that waits for the upstream's response head hears that it is worked on.

From then on the status is 200, whatever comes; what would have been another one ends the stream as an error event.
Uses the ``write()`` that PEP 3333 has ``start_response`` return, the only way to send while an application runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from sseproxy.core.formats.failing import encode_failure
from sseproxy.core.normalize import failure_of
from sseproxy.core.sse import PING
from sseproxy.wsgi.call import Answer, Headers, call_app
from sseproxy.wsgi.client import GONE_KEY, watch_client
from sseproxy.wsgi.errors import STREAM_HEADERS, status_line, wants_events
from sseproxy.wsgi.exchange import KEY, Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Write = Callable[[bytes], object]


class AwakeMiddleware:
    """Begins the response to a streaming request after ``keepalive`` seconds without an answer.

    Needs the exchange's :attr:`~sseproxy.wsgi.exchange.Exchange.begin`; does nothing without.
    """

    def __init__(self, app: WSGIApplication, *, keepalive: float = 15.0) -> None:
        self.app = app
        self._keepalive = keepalive

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        begin = exchange.begin
        if begin is None or exchange.in_background or not exchange.streams_events:
            return self.app(environ, start_response)
        silence = environ[GONE_KEY] = _Silence(watch_client(environ), begin, exchange, self._keepalive, monotonic())
        answer = call_app(self.app, environ)
        silence.is_over = True
        if silence.write is not None and answer.code >= 400:
            answer = _as_event(answer, exchange, named=wants_events(environ))
        return answer(environ, start_response)


class _Silence(msgspec.Struct):
    """Asked in silences whether the client has left; the occasion to let it know that it is not forgotten.

    :ivar since: monotonic seconds: when it began, or a keep-alive was written last.
    :ivar write: writes to a client that has a response head already.
    """

    gone: Callable[[], bool]
    begin: Callable[[str, Headers], Write]
    exchange: Exchange
    keepalive: float
    since: float
    is_over: bool = False
    write: Write | None = None

    def __call__(self) -> bool:
        if self.gone():
            return True
        if not self.is_over and monotonic() - self.since >= self.keepalive:
            self.since = monotonic()
            return not self._ping()
        return False

    def _ping(self) -> bool:
        """Write a keep-alive; whether somebody took it."""
        try:
            if self.write is None:
                self.write = self.begin(status_line(200), [*STREAM_HEADERS, *self.exchange.cookies])
            self.write(PING)
        except OSError:
            return False
        return True


def _as_event(answer: Answer, exchange: Exchange, *, named: bool) -> Answer:
    """The refusal as the only event of the stream that has begun."""
    assert exchange.api is not None
    try:
        failure = failure_of(answer.code, b"".join(answer.body), answer.header("Content-Type"))
    finally:
        answer.close()
    return Answer(status_line(200), [], encode_failure(failure, exchange.api, exchange.format, named=named))
