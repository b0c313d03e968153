"""Answers that survive their connection: which requests get one, and which join one that is already running.

``Idempotency-Key``: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/;
``Prefer: respond-async``: RFC 7240 section 4.1; ``Last-Event-ID``: the WHATWG's server-sent events.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import msgspec

from sseproxy.core.chat import BadRequest, Request
from sseproxy.core.failure import Failure
from sseproxy.middleware.generation import Generation
from sseproxy.middleware.joining import Joining, StreamLost, asker, claim_key, last_event, location_of
from sseproxy.streams.protocol import Claim, Stream
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.client import ClientGone, watch_client
from sseproxy.wsgi.errors import is_event_source, refuse, status_line
from sseproxy.wsgi.exchange import KEY, Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LONGEST_KEY: Final = 255


class ResumeMiddleware:
    """Runs a request apart from its connection if the client can come back for the answer; else passes it on.

    It can if it named the request (``Idempotency-Key``), asked for an address instead of the answer
    (``Prefer: respond-async``) or is an event source, which reads events with ids (``Accept: text/event-stream``).
    """

    def __init__(self, app: WSGIApplication, joining: Joining) -> None:
        self.app = app
        self._joining = joining
        self._by_get: WeakValueDictionary[str, Stream] = WeakValueDictionary()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        environ["wsgi.multithread"] = True  # because of Generation's threads
        try:
            answer = self._answer(environ, exchange)
        except Failure as failure:
            answer = refuse(failure, environ)
        return (answer or self.app)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange) -> Answer | None:
        """The answer from a live stream; None for a request that goes on directly."""
        if exchange.rejoin:
            return self._joining.rejoin(exchange.rejoin, environ)
        request = exchange.request
        if request is None:
            return None
        if (last := last_event(exchange)) is not None:
            return self._joining.rejoin(last[0], environ)
        if not request.stream and "HTTP_IDEMPOTENCY_KEY" not in environ:
            return None
        asynchronous = request.stream and "HTTP_PREFER" in environ and _prefers_later(environ)
        claim = _claim(environ, exchange, request) if "HTTP_IDEMPOTENCY_KEY" in environ else None
        if not (claim or asynchronous or (request.stream and is_event_source(environ))):
            return None
        if exchange.method == "GET" and not claim:
            return self._run_for_get(environ, exchange, request)
        return self._run(environ, exchange, claim, asynchronous)

    def _run_for_get(self, environ: WSGIEnvironment, exchange: Exchange, request: Request) -> Answer:
        """Join an equal request whose answer nobody has read yet, else begin one.

        An EventSource that lost its connection before its first event has no id to come back with.
        """
        # Cookies tell apart clients of the same address, as behind a proxy.
        visitor = f"{environ.get('REMOTE_ADDR', '')}\0{environ.get('HTTP_COOKIE', '')}"
        question = f"{visitor}\0{_digest(exchange, request)}"
        stream = self._by_get.get(question)
        if stream is not None and stream.is_unheard():
            return self._joining.answer(environ, stream)
        stream, generation = self._begin(environ, exchange, None)
        self._by_get[question] = stream
        return _told(self._joining.answer(environ, stream), generation)

    def _run(self, environ: WSGIEnvironment, exchange: Exchange, claim: Claim | None, asynchronous: bool) -> Answer:
        stream, generation = self._begin(environ, exchange, claim)
        if asynchronous and (generation is None or generation.is_accepted()):
            return _told(_accepted(environ, stream), generation)
        try:
            return _told(self._joining.answer(environ, stream), generation)
        except StreamLost:
            if generation is not None:
                raise
        return self._run(environ, exchange, claim, asynchronous)  # the claim is free again

    def _begin(
        self, environ: WSGIEnvironment, exchange: Exchange, claim: Claim | None
    ) -> tuple[Stream, Generation | None]:
        """The stream of this request, and its generation unless an earlier request began that.

        :raises ClientGone: the client left while the request waited for a thread.
        """
        if watch_client(environ)():
            raise ClientGone
        stream, writer = self._joining.streams.open(asker(exchange), claim)
        if writer is None:
            return stream, None
        exchange.in_background = True
        generation = Generation(self.app, environ, exchange, writer)
        generation.start()
        return stream, generation


def _prefers_later(environ: WSGIEnvironment) -> bool:
    preferences: str = environ["HTTP_PREFER"]
    return any(each.partition(";")[0].strip().lower() == "respond-async" for each in preferences.split(","))


def _claim(environ: WSGIEnvironment, exchange: Exchange, request: Request) -> Claim | None:
    key: str = environ["HTTP_IDEMPOTENCY_KEY"]
    if not key:
        return None
    if len(key) > LONGEST_KEY or not key.isprintable():
        message = f"The header Idempotency-Key must have 1 to {LONGEST_KEY} printable characters."
        raise BadRequest(message, "Idempotency-Key")
    return Claim(claim_key(exchange, key), _digest(exchange, request))


def _digest(exchange: Exchange, request: Request) -> str:
    """Identifies the request and its user, whichever upstream answers."""
    asked = request.with_model(exchange.asked_model).encode()
    return sha256(f"{asker(exchange)}\0{exchange.path}\0".encode() + asked).hexdigest()


def _told(answer: Answer, generation: Generation | None) -> Answer:
    return answer if generation is None else generation.told_to_asker(answer)


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
