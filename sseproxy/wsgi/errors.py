"""Failures as WSGI answers: the JSON error body of the requested API, or one error event for an event source.

fetch-event-source re-POSTs every second on a JSON 401, 402 or 429; the same status as ``text/event-stream`` with one
error event stops it. The status stays the true one. Codex reads a refusal as JSON, whatever it accepts.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Final

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import HTTP_STATUS_CODES, parse_accept_header

from sseproxy.core.chat import TYPED, api_at
from sseproxy.core.chunk import write_json
from sseproxy.core.failure import Failure
from sseproxy.core.refusal import refusal_at
from sseproxy.core.sse import Event, encode
from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REFUSED_KEY: Final = "sseproxy.refused"
"""Holds the :class:`Failure` with which the server itself refuses a request."""
EVENTS: Final = "text/event-stream"
STREAM_HEADERS: Headers = [
    ("Content-Type", f"{EVENTS}; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
]
LONGEST_WAIT: Final = 120.0
"""The longest ``Retry-After`` in seconds that SDKs should obey: OpenAI's maximum. Anthropic's would sleep for days."""


class Crashed(Failure):
    """An unexpected exception, perhaps in a wrapped application, as the client is told of it."""

    def __init__(self) -> None:
        super().__init__("The server failed; its log tells why.", code="internal_error")


class MethodNotAllowed(Failure):
    """The path takes other methods, which the refusal names in ``Allow`` (RFC 9110 section 15.5.6)."""

    def __init__(self, *methods: str) -> None:
        *others, last = (method for method in methods if method != "HEAD")
        told = f"{', '.join(others)} and {last}" if others else last
        message = f"This path takes {told} requests only."
        super().__init__(message, status=405, type="invalid_request_error", code="method_not_allowed")
        self.methods = methods

    @property
    def fields(self) -> Headers:
        """The header fields to send with it."""
        return [("Allow", ", ".join(self.methods))]


def status_line(code: int) -> str:
    """``404`` → ``"404 NOT FOUND"``."""
    return f"{code} {HTTP_STATUS_CODES.get(code, 'Client Closed Request' if code == 499 else 'Unknown')}"


def wants_events(environ: WSGIEnvironment) -> bool:
    """Whether the client names ``text/event-stream`` in its ``Accept`` header, as EventSource does."""
    accept: str = environ.get("HTTP_ACCEPT", "").lower()
    if accept == EVENTS:  # exactly what EventSource sends; parsing is expensive
        return True
    return EVENTS in accept and parse_accept_header(accept, MIMEAccept).quality(EVENTS) > 0


def is_event_source(environ: WSGIEnvironment) -> bool:
    """Whether the client reads every response as events, also a refusal, and reconnects for what it missed.

    Among clients of the typed APIs, only those in a browser: others accept event streams in each request, as Codex.
    """
    if not wants_events(environ):
        return False
    # Not Sec-Fetch-Mode, which Node's fetch also sends.
    is_in_browser = "HTTP_SEC_FETCH_SITE" in environ or "HTTP_ORIGIN" in environ
    return is_in_browser or api_at(Exchange.of(environ).path) not in TYPED


def refuse(failure: Failure, environ: WSGIEnvironment, headers: Headers | None = None) -> Answer:
    """The answer that reports a failure while nothing has been sent."""
    own = [] if failure.retry_after is None else _when_to_retry(failure.retry_after)
    if isinstance(failure, MethodNotAllowed):
        own = [*own, *failure.fields]
    return error_answer(status_line(failure.status), error_body(failure, environ), environ, [*own, *(headers or [])])


def error_body(failure: Failure, environ: WSGIEnvironment) -> bytes:
    """The error body in the form of the requested API."""
    exchange = Exchange.of(environ)
    return write_json(refusal_at(exchange.path, failure, exchange.request_id))


def error_answer(status: str, body: bytes, environ: WSGIEnvironment, headers: Headers) -> Answer:
    """The JSON error body as it is, or for an event source as the only event of a stream.

    :param headers: additional fields.
    """
    if is_event_source(environ):
        return Answer(status, [*STREAM_HEADERS, *headers], [encode(Event(data=body))])
    content = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer(status, [*content, *headers], [body])


def tell_refusal(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The application that answers requests that the server refuses."""
    return refuse(environ[REFUSED_KEY], environ)(environ, start_response)


def whether_to_retry(seconds: float) -> Headers:
    """The header that keeps SDKs from sleeping for longer than anybody would wait."""
    return [] if seconds <= LONGEST_WAIT else [("X-Should-Retry", "false")]


def _when_to_retry(seconds: float) -> Headers:
    """How long to wait, unless for ever, and whether to retry at all."""
    fields = [("Retry-After", str(max(1, ceil(seconds))))] if seconds < inf else []
    return [*fields, *whether_to_retry(seconds)]
