"""Answers that survive their connection: which requests get one, and which of them join one that runs already.

``Idempotency-Key``: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/;
``Prefer: respond-async``: RFC 7240 section 4.1; ``Last-Event-ID``: the WHATWG's server-sent events.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from sseproxy.core.chat import BadRequest, Request
from sseproxy.core.failure import Failure
from sseproxy.middleware.generation import Generation
from sseproxy.middleware.joining import Joining, last_event, location_of
from sseproxy.streams.protocol import Claim, Stream
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.errors import refuse, status_line, wants_events
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LONGEST_KEY: Final = 255


class ResumeMiddleware:
    """Runs a request apart from its connection where the client can come back for the answer; else passes it on.

    It can if it named the request (``Idempotency-Key``), asked for an address instead of the answer
    (``Prefer: respond-async``) or reads events with ids (``Accept: text/event-stream``).
    """

    def __init__(self, app: WSGIApplication, joining: Joining) -> None:
        self.app = app
        self._joining = joining

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        try:
            answer = self._answer(environ, exchange)
        except Failure as failure:
            answer = refuse(failure, environ)
        return (answer or self.app)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange) -> Answer | None:
        """The answer from a live stream; None for a request that goes on directly."""
        last = last_event(exchange)
        if exchange.rejoin:
            stream = self._joining.find(exchange.rejoin, environ)
            return self._joining.answer(environ, stream, last[1] if last and last[0] == stream.id else 0)
        request = exchange.request
        if request is None:
            return None
        if last is not None:
            return self._joining.answer(environ, self._joining.find(last[0], environ), last[1])
        asynchronous = request.stream and _prefers_later(environ)
        claim = _claim(environ, exchange, request)
        if not (claim or asynchronous or (request.stream and wants_events(environ))):
            return None
        return self._run(environ, exchange, claim, asynchronous)

    def _run(self, environ: WSGIEnvironment, exchange: Exchange, claim: Claim | None, asynchronous: bool) -> Answer:
        user = exchange.user.name if exchange.user is not None else "anonymous"
        stream, writer = self._joining.streams.open(user, claim)
        accepted = True
        if writer is not None:
            exchange.in_background = True
            generation = Generation(self.app, environ, exchange, writer)
            generation.start()
            accepted = not asynchronous or generation.is_accepted()
        if asynchronous and accepted:
            return _accepted(environ, stream)
        return self._joining.answer(environ, stream)


def _prefers_later(environ: WSGIEnvironment) -> bool:
    preferences: str = environ.get("HTTP_PREFER", "")
    return any(each.partition(";")[0].strip().lower() == "respond-async" for each in preferences.split(","))


def _claim(environ: WSGIEnvironment, exchange: Exchange, request: Request) -> Claim | None:
    key: str = environ.get("HTTP_IDEMPOTENCY_KEY", "")
    if not key:
        return None
    if len(key) > LONGEST_KEY or not key.isprintable():
        message = f"The header Idempotency-Key must have 1 to {LONGEST_KEY} printable characters."
        raise BadRequest(message, "Idempotency-Key")
    user = exchange.user.name if exchange.user is not None else ""
    asked = request.with_model(exchange.asked_model).encode()
    return Claim(
        sha256(f"{user}\0{key}".encode()).hexdigest(), sha256(exchange.path.encode() + b"\0" + asked).hexdigest()
    )


def _accepted(environ: WSGIEnvironment, stream: Stream) -> Answer:
    location = location_of(environ, stream)
    body = msgspec.json.encode({"id": stream.id, "object": "stream", "url": location})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Location", location),
        ("Preference-Applied", "respond-async"),
        ("Cache-Control", "no-store"),
    ]
    return Answer(status_line(202), headers, [body])
