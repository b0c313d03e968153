"""An OpenAI-compatible HTTP endpoint as a WSGI application: the innermost app of the proxy.

Passes bytes on as they arrive; what they mean is for the middlewares around it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

from werkzeug.wsgi import get_input_stream

from sseproxy.core.chat import BadRequest, Request
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.redact import Redactor, redact_body, secrets_of
from sseproxy.core.tries import Try
from sseproxy.upstream.body import UpstreamBody
from sseproxy.upstream.broken_off import timed_out
from sseproxy.upstream.connection import Connection, StaleConnection
from sseproxy.upstream.dialer import ConnectTimeout, Dialer
from sseproxy.upstream.flavor import Flavor, OpenAI
from sseproxy.upstream.head import ResponseHead, length_to_state, write_fields, write_head
from sseproxy.upstream.headers import OF_A_STRANGER, request_headers, response_headers
from sseproxy.upstream.kept import Connections
from sseproxy.upstream.refusal import read_refusal
from sseproxy.upstream.sending import NotSent, Outgoing
from sseproxy.upstream.target import RequestTargets
from sseproxy.upstream.unreachable import UNREACHABLE, failure_to_reach
from sseproxy.upstream.waiting import Waiting
from sseproxy.wsgi.call import Answer, Headers, close_body
from sseproxy.wsgi.client import ClientGone
from sseproxy.wsgi.errors import refuse, status_line
from sseproxy.wsgi.exchange import KEY, Exchange
from sseproxy.wsgi.upload import Upload

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("sseproxy.upstream")

IncludeUsage = Literal["auto", "always", "never"]
MAX_CONNECTIONS: Final = 2048
MODELS_REMEMBERED: Final = 4096
USER_AGENT: Final = "sseproxy"
"""Where the client names none: some firewalls refuse a request without."""
_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "DELETE", "TRACE", "OPTIONS"))
"""Methods for which no length says that there is no body (RFC 9110 section 8.6)."""
_FRAMING: Final = ("content-length", "transfer-encoding")
"""Stated anew for each request, whatever is configured."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """How long an upstream may take, in seconds: to connect, to its response head, between two reads, in all."""

    connect: float = 5.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 900.0


Response = tuple[Connection, ResponseHead, bytes]
"""An answer of which no more than the head is certain to have been read; what has come after it is often all of a short
body.
"""


class UpstreamApp:
    """A WSGI application that answers with what an HTTP upstream answers.

    :param url: the base URL, as OpenAI SDKs take it (``https://api.openai.com/v1``).
    :param api_key: sent as the flavor wants it; never shown.
    :param headers: more header fields for every request.
    :param include_usage: whether streams are asked for usage. ``auto``: yes, until a model refuses the option.
    :param flavor: how requests are addressed; as OpenAI unless given.
    :param proxy: URL of the HTTP proxy to go through; without it none is used, whatever the environment says.
    :param ca_file: certificates to trust instead of those of certifi.
    :raises ValueError: a URL or a header field cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeout = Timeout(),
        include_usage: IncludeUsage = "auto",
        flavor: Flavor | None = None,
        proxy: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._redact = Redactor(secrets_of(api_key, headers or {}, proxy))
        self._flavor = flavor or OpenAI()
        self._timeout = timeout
        self._dialer = Dialer(url, proxy, ca_file)
        dial = partial(self._dialer.dial, min(timeout.connect, timeout.total))
        self._connections = Connections(dial, MAX_CONNECTIONS)
        own = {**(self._flavor.credentials(api_key) if api_key else {}), **(headers or {})}
        headers = {
            "host": self._dialer.host,
            "accept-encoding": "identity",
            **{name.lower(): value for name, value in own.items() if name.lower() not in _FRAMING},
            **self._dialer.fields,
        }
        self._own = frozenset(headers)
        self._names_request, self._names_agent = "x-request-id" not in headers, "user-agent" not in headers
        self._for_events = write_fields({"accept": "text/event-stream", **headers})
        self._for_documents = write_fields({"accept": "application/json", **headers})
        self._include_usage = include_usage
        self._refuses_usage: set[str] = set()
        self._targets = RequestTargets(self._flavor, self._dialer.path, self._dialer.prefix)
        self._last: tuple[ResponseHead | None, str, Headers] = (None, "", [])

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Failure as failure:
            Exchange.of(environ).note_failure(failure)
            answer = refuse(failure, environ)
        if Exchange.of(environ).request is None:
            for name, value in OF_A_STRANGER:
                answer.set_header(name, value)
        return answer(environ, start_response)

    def close(self) -> None:
        """Close the connections that wait in the pool."""
        self._connections.close()

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        waiting = Waiting(environ, self._timeout.total, exchange.linger)
        request = exchange.request
        if request is not None and request.stream:
            request = self._with_usage_option(request)
        connection, head, rest = self._send(environ, exchange, request, waiting)
        if head.status >= 400:
            text = read_refusal(partial(self._body, connection, head, rest), waiting)
            if request is None or not self._blames_option(head.status, text):
                return self._refusal(head, text)
            refused, request = request, request.asking_usage(False)
            if request is refused:
                return self._refusal(head, text)
            connection, head, rest = self._send(environ, exchange, request, waiting)
            if head.status >= 400:
                return self._refusal(head, read_refusal(partial(self._body, connection, head, rest), waiting))
            self._note_refusal_of_option(request.model)
        return self._relay(head, self._body(connection, head, rest, waiting.deadline))

    def _with_usage_option(self, request: Request) -> Request:
        if self._include_usage == "always":
            return request
        if self._include_usage == "never" or request.model in self._refuses_usage:
            return request.asking_usage(False)
        return request

    def _blames_option(self, status: int, text: str) -> bool:
        """Whether a refusal may be one of ``stream_options``; the text may also quote what else the request says."""
        if self._include_usage != "auto" or status not in (400, 422):
            return False
        return "stream_options" in text or "include_usage" in text

    def _note_refusal_of_option(self, model: str) -> None:
        """Precondition: what was refused with the option was answered without it."""
        log.warning("%s refuses stream_options for model %s; asking without from now on", self._url, model)
        if len(self._refuses_usage) < MODELS_REMEMBERED:
            self._refuses_usage.add(model)

    def _send(
        self, environ: WSGIEnvironment, exchange: Exchange, request: Request | None, waiting: Waiting
    ) -> Response:
        outgoing = self._prepare(environ, exchange, request)
        if outgoing.upload is not None:  # which could not be sent again, were the connection stale
            return self._ask(self._connections.open, outgoing, exchange, waiting)
        try:
            return self._ask(self._connections.take, outgoing, exchange, waiting)
        except StaleConnection:
            pass
        # The upstream closed it without a byte, so it has most likely read none either.
        self._connections.drop_waiting()
        before = exchange.this_try()
        before.error = "stale_connection"
        exchange.tries.append(Try(before.upstream, before.upstream_model))
        return self._ask(self._connections.open, outgoing, exchange, waiting)

    def _ask(
        self, connect: Callable[[], Connection], outgoing: Outgoing, exchange: Exchange, waiting: Waiting
    ) -> Response:
        this_try = exchange.this_try()
        this_try.reached, this_try.status = False, None
        try:
            connection = connect()
            # Since when the server had no thread for it, or while the upstream accepted. An upload tells by itself.
            if outgoing.upload is None and waiting.has_no_client():
                connection.close()
                raise ClientGone
            this_try.reached = True
            limits = self._timeout
            head, rest = connection.ask(outgoing, limits.connect, limits.first_byte, waiting)
        except StaleConnection:
            raise
        except NotSent:
            this_try.reached = False
            raise
        except UNREACHABLE as error:
            if isinstance(error, TimeoutError | ConnectTimeout) and monotonic() >= waiting.deadline:
                raise timed_out("total", f"it has not begun within {self._timeout.total:g} seconds") from error
            raise failure_to_reach(error, self._timeout, self._url) from error
        this_try.status = head.status
        return connection, head, rest

    def _prepare(self, environ: WSGIEnvironment, exchange: Exchange, request: Request | None) -> Outgoing:
        fields = request_headers(environ, self._own)
        if self._names_request:
            fields["x-request-id"] = exchange.request_id
        if self._names_agent:
            fields.setdefault("user-agent", USER_AGENT)
        method: str = environ["REQUEST_METHOD"]
        upload, body = None, b""
        if request is not None:
            body = exchange.body if request is exchange.request else request.encode()
        elif isinstance(environ["wsgi.input"], Upload):
            upload = environ["wsgi.input"]
        else:
            body = get_input_stream(environ).read()
        if upload is None:
            if body or method not in _WITHOUT_BODY:
                fields["content-length"] = str(len(body))
        elif upload.length is not None:
            fields["content-length"] = str(upload.length)
        else:
            fields["transfer-encoding"] = "chunked"
        model = exchange.target.model if exchange.target is not None else request.model if request else ""
        target = self._targets.write(environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""), model)
        own = self._for_events if request is not None and request.stream else self._for_documents
        try:
            head = write_head(method, target, fields, own)
        except ValueError as error:
            message = "A header field of the request cannot be passed on: its name or its value is malformed."
            raise BadRequest(message, code="invalid_header") from error
        return Outgoing(method, head, body, upload, "transfer-encoding" in fields)

    def _body(self, connection: Connection, head: ResponseHead, rest: bytes, deadline: float) -> Iterable[bytes]:
        if head.length != len(rest):
            idle = self._timeout.idle
            return UpstreamBody(connection, head, rest, self._connections, idle=idle, deadline=deadline)
        if head.keeps:
            self._connections.keep(connection)
        else:
            connection.close()
        return [rest] if rest else []

    def _relay(self, head: ResponseHead, body: Iterable[bytes]) -> Answer:
        if 300 <= head.status < 400 and head.status != HTTPStatus.NOT_MODIFIED:
            close_body(body)
            raise UpstreamFailure(
                f"The upstream redirects (status {head.status}); its URL in the configuration must be final.",
                code="upstream_redirect",
            )
        known, status, headers = self._last
        if head is not known:  # one and the same for all that are alike, see read_head()
            status, headers = status_line(head.status), self._headers_of(head)
            if (length := length_to_state(head)) is not None:
                headers.append(("Content-Length", length))
            self._last = head, status, headers
        return Answer(status, headers.copy(), body)

    def _refusal(self, head: ResponseHead, text: str) -> Answer:
        """The upstream's error, without anything in it that looks like a key (OpenAI quotes parts of it)."""
        body = redact_body(text, self._redact).encode()
        headers = [item for item in self._headers_of(head) if item[0].lower() != "content-encoding"]
        # The proxy's own word; or no status (RFC 9110 section 15).
        status = 502 if head.status == ClientGone.STATUS or head.status >= 600 else head.status
        return Answer(status_line(status), [*headers, ("Content-Length", str(len(body)))], [body])

    def _headers_of(self, head: ResponseHead) -> Headers:
        fields = response_headers(head.fields)
        if self._redact.holds("\n".join([value for _, value in fields])):
            fields = [(name, self._redact(value) if self._redact.holds(value) else value) for name, value in fields]
        return fields
