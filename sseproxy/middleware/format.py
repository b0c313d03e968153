"""Renders answers in the format of the route that was requested (see core/formats)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sseproxy.core.failure import Failure
from sseproxy.core.formats import Format
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.errors import refuse, wants_events
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class FormatMiddleware:
    """Renders streamed answers in the exchange's format; all others pass unchanged.

    A refusal keeps its status and OpenAI's error body, as clients check these before they read a format.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        if exchange.format is None:
            return self.app(environ, start_response)
        try:
            if exchange.format.shows_cost:
                _ask_usage(environ, exchange)
        except Failure as failure:
            return refuse(failure, environ)(environ, start_response)
        answer = call_app(self.app, environ)
        if answer.code < 400 and isinstance(answer.body, EventStream):
            try:
                _apply(exchange.format, answer, answer.body, named=wants_events(environ))
            except BaseException as error:
                answer.close()
                if not isinstance(error, Failure):
                    raise
                answer = refuse(error, environ)
        return answer(environ, start_response)


def _ask_usage(environ: WSGIEnvironment, exchange: Exchange) -> None:
    """Make sure that the usage chunk, with the cost in it, reaches this middleware."""
    request = exchange.read_request(environ)
    if request is not None:
        exchange.put_request(environ, replace(request.asking_usage(True), wants_usage=True))


def _apply(format: Format, answer: Answer, stream: EventStream, *, named: bool) -> None:
    stream.pipe(partial(format.render, named=named))
    stream.encoder = format.encode
    stream.ping = format.ping
    answer.set_header("Content-Type", format.content_type)
    if not format.ping:
        stream.peek()  # nothing is sent before the first text, so until then a failure can have its own status
