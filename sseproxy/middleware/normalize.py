"""Whatever the upstream answers, the client gets the canonical form of the API it called (see core/normalize)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from itertools import compress
from typing import TYPE_CHECKING, Final

from sseproxy.core.chat import Request, peek_field
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.http_fields import HOP_BY_HOP
from sseproxy.core.normalize import STANDARD, Dialect, Plain, events_of, failure_ending, failure_of, normalize
from sseproxy.core.normalize.compression import unzip
from sseproxy.core.redact import Redactor, redact_failure
from sseproxy.core.sse import DONE, Event
from sseproxy.wsgi.call import NAME_OF, Answer, Headers, call_app
from sseproxy.wsgi.client import ClientGone, lingering, watch_client
from sseproxy.wsgi.completion import CompletionBody, collect
from sseproxy.wsgi.errors import STREAM_HEADERS, refuse
from sseproxy.wsgi.exchange import KEY, Exchange
from sseproxy.wsgi.long_body import LongBody
from sseproxy.wsgi.ride import board
from sseproxy.wsgi.stream import EventStream, Transform

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.normalize")

BODY_HEADERS: Final = frozenset(
    [
        "content-type",
        "content-length",
        "content-encoding",
        "content-range",
        "accept-ranges",
        "etag",
        "last-modified",
        "digest",
        "content-digest",
        "repr-digest",
        "content-md5",
        "cache-control",
        "expires",
        "pragma",
        "x-accel-buffering",
    ]
)
"""Header fields that describe the upstream's bytes, which the client will not get."""
_DROPPED_HEADERS: Final = BODY_HEADERS | HOP_BY_HOP
"""PEP 3333 leaves hop-by-hop fields to the server; applications set ``Connection`` all the same."""
_JSON: Final = ("Content-Type", "application/json")
_BARE: Final = "application/octet-stream"
_BARE_FORMATS: Final = ("bytes", "bytes_only")


class NormalizeMiddleware:
    """Turns an LLM answer of any dialect into the canonical one; other answers pass unchanged.

    :param dialects: by upstream: the quirks that only the operator can know.
    :param keepalive: seconds of silence after which a stream's client gets a keep-alive.
    :param redact: removes secrets from an upstream's error messages.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        dialects: Mapping[str, Dialect] | None = None,
        keepalive: float = 15.0,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self.app = app
        self._dialects = dialects or {}
        self._keepalive = keepalive
        self._redact = redact or Redactor()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        try:
            request = exchange.request or exchange.read_request(environ)
            if request is None:
                return self.app(environ, start_response)
            answer = self._answer(environ, exchange, request)
        except Failure as failure:
            redact_failure(failure, self._redact)
            exchange.note_failure(failure)
            answer = refuse(failure, environ)
        return answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange, request: Request) -> Answer:
        answer = call_app(self.app, environ)
        if answer.code == 206:  # describes a range of the upstream's bytes, which the client will not get
            answer.status, answer.code = "200 OK", 200
        headers = [*compress(answer.headers, map(_is_passed, map(NAME_OF, answer.headers)))]
        if not request.stream and answer.code < 400:
            body = CompletionBody.at_once(answer.body, request.api)
            if body is not None:
                return _whole(answer, headers, body)
        gone = watch_client(environ)
        if answer.code >= 400:
            failure = failure_of(answer.code, collect(answer.body, gone), answer.header("Content-Type"))
            redact_failure(failure, self._redact)
            exchange.note_failure(failure)
            return refuse(failure, environ, headers)
        if answer.code >= 300 and (location := answer.header("Location")):
            answer.close()
            raise UpstreamFailure(
                f"The application redirects to {location[:200]!r} (status {answer.code}), and would have to answer "
                f"under {environ['PATH_INFO']!r} itself.",
                code="upstream_redirect",
            )
        if request.stream:
            exchange.cookies = [item for item in headers if item[0].lower() == "set-cookie"]
            plain = Plain()
            stream = self._stream(answer, exchange, request, gone, plain)
            board(stream, answer.body, environ, plain.is_uncompressed)
            answer.headers, answer.body = [*STREAM_HEADERS, *headers], stream
            return answer
        whole = answer.body
        if request.api == "embeddings":
            if answer.header("Content-Type") == _BARE and _asks_for_bare(request):
                return _bare(answer, headers)
            whole = LongBody.begin(answer.body, lingering(gone, exchange.linger))
        if isinstance(whole, LongBody):
            return Answer(answer.status, [_JSON, *headers], whole)
        body = CompletionBody.of(
            whole,
            request.api,
            lingering(gone, exchange.linger),
            model=request.model,
            choices=request.choices,
            dialect=self._dialect(exchange),
        )
        return _whole(answer, headers, body)

    def _stream(
        self, answer: Answer, exchange: Exchange, request: Request, gone: Callable[[], bool], plain: Plain
    ) -> EventStream:
        """The canonical stream, with its first event read.

        :raises Failure: the upstream's stream begins with an error, which can still become the response's status.
        """
        stream = EventStream.of(answer.body, partial(events_of, plain=plain, failure_for=_failure_of_application))
        stream.gone = lingering(gone, exchange.linger)
        stream.keepalive = self._keepalive
        stream.pipe(self._transform(exchange, request, plain))
        stream.open_lane(plain)
        try:
            first = stream.peek(_is_content if exchange.has_spare else _is_any)
        except BaseException:
            stream.close()
            raise
        if stream.client_left:
            raise ClientGone
        if first is not None and (failure := failure_ending(first)) is not None:
            stream.close()
            raise failure
        stream.gone = gone
        return stream

    def _transform(self, exchange: Exchange, request: Request, plain: Plain) -> Transform:
        return partial(
            normalize,
            api=request.api,
            model=request.model,
            choices=request.choices,
            tools=request.tools(),
            dialect=self._dialect(exchange),
            plain=plain,
            redact=self._redact,
        )

    def _dialect(self, exchange: Exchange) -> Dialect:
        upstream = exchange.target.upstream if exchange.target is not None else ""
        return self._dialects.get(upstream, STANDARD)


@lru_cache(256)
def _is_passed(name: str) -> bool:
    """Cached, as nearly all answers have the same few header names."""
    return name.lower() not in _DROPPED_HEADERS


def _whole(answer: Answer, headers: Headers, body: CompletionBody) -> Answer:
    answer.headers = [_JSON, ("Content-Length", str(len(body.completion.body))), *headers]
    answer.body = body
    return answer


def _asks_for_bare(request: Request) -> bool:
    """Whether the client asked for vectors without JSON: a server may label JSON as octet-stream, too."""
    return peek_field(request.fields, "encoding_format", str) in _BARE_FORMATS


def _bare(answer: Answer, headers: Headers) -> Answer:
    """Vectors without JSON, unchanged: vLLM's ``encoding_format: bytes``, with their usage in a header.

    Only the header tells whether they are compressed: numbers may begin with the same bytes.
    """
    pieces = unzip(answer.body) if answer.header("Content-Encoding") else iter(answer.body)
    about = answer.header("metadata").encode("latin-1")
    return Answer(answer.status, [("Content-Type", _BARE), *headers], LongBody(answer.body, pieces, about))


def _is_any(event: Event) -> bool:
    return True


def _is_content(event: Event) -> bool:
    """Whether this event has content, or ends the answer."""
    return bool(event.content or event.hidden or event.finish or event.error or event.data == DONE)


def _failure_of_application(error: Exception) -> Failure:
    """The failure for the client when a wrapped application raises in the middle of its answer."""
    log.error("the application failed in the middle of its answer", exc_info=error)
    return UpstreamFailure("The application failed in the middle of its answer.", code="app_failed")
