"""Keep-alives before the first byte, for a client that waits while the upstream has not sent its response head.

The first keep-alive commits the status to 200: a later failure ends the stream as an error event. Written with the
``write()`` that ``start_response`` returns (PEP 3333), the only way to send while an application runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from sseproxy.core.failure import Failure
from sseproxy.core.formats.failing import encode_failure
from sseproxy.core.normalize import failure_of
from sseproxy.core.sse import PING
from sseproxy.wsgi.call import Answer, Headers, call_app
from sseproxy.wsgi.client import GONE_KEY, watch_client
from sseproxy.wsgi.errors import STREAM_HEADERS, Crashed, status_line, wants_events
from sseproxy.wsgi.exchange import KEY, Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.streams")

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
        try:
            answer = call_app(self.app, environ)
            failure = _failure_in(answer) if silence.write is not None and answer.code >= 400 else None
        except Exception:
            if silence.write is None:
                raise
            log.exception("%s failed", exchange.request_id)
            failure = Crashed()
        silence.is_over = True
        if failure is not None:
            assert exchange.api is not None
            event = encode_failure(failure, exchange.api, exchange.format, named=wants_events(environ))
            answer = Answer(status_line(200), [], event)
        return answer(environ, start_response)


class _Silence(msgspec.Struct):
    """Called during silences to ask whether the client has left; writes a keep-alive when one is due.

    :ivar since: monotonic seconds at which the silence began or a keep-alive was last written.
    :ivar write: set once the response head is sent.
    :ivar left: a keep-alive could not be written: on some servers the only sign that the client has left.
    """

    gone: Callable[[], bool]
    begin: Callable[[str, Headers], Write]
    exchange: Exchange
    keepalive: float
    since: float
    is_over: bool = False
    write: Write | None = None
    left: bool = False

    def __call__(self) -> bool:
        if self.left or self.gone():
            return True
        if not self.is_over and monotonic() - self.since >= self.keepalive:
            self.since = monotonic()
            self.left = not self._ping()
        return self.left

    def _ping(self) -> bool:
        """Write a keep-alive; False if the client has left."""
        try:
            if self.write is None:
                self.write = self.begin(status_line(200), [*STREAM_HEADERS, *self.exchange.cookies])
            self.write(PING)
        except OSError:
            return False
        return True


def _failure_in(answer: Answer) -> Failure:
    """The failure that a refusal states, to be the only event of the stream that has begun."""
    try:
        return failure_of(answer.code, b"".join(answer.body), answer.header("Content-Type"))
    finally:
        answer.close()
