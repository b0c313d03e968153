"""An OpenAI-compatible HTTP endpoint as a WSGI application: the innermost app of the proxy.

Passes bytes on as they arrive; what they mean is for the middlewares around it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from requests import PreparedRequest, RequestException, Response
from requests.structures import CaseInsensitiveDict
from werkzeug.wsgi import get_input_stream

from sseproxy.core.chat import Request
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.normalize.bodies import unzip
from sseproxy.core.redact import Redactor
from sseproxy.core.tries import Try
from sseproxy.upstream.body import UpstreamBody
from sseproxy.upstream.connection import UpstreamAdapter, is_sent, on_idle
from sseproxy.upstream.flavor import Flavor, OpenAI
from sseproxy.upstream.headers import request_headers, response_headers
from sseproxy.upstream.unreachable import failure_to_reach, is_stale
from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.client import ClientGone, lingering, watch_client
from sseproxy.wsgi.errors import refuse, status_line
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.upload import Upload

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("sseproxy.upstream")

IncludeUsage = Literal["auto", "always", "never"]
ERROR_BODY_LIMIT: Final = 64 * 1024
MAX_CONNECTIONS: Final = 2048
MODELS_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Timeout:
    """How long an upstream may take, in seconds: to connect, to its response head, between two reads, in all."""

    connect: float = 5.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 900.0


class UpstreamApp:
    """A WSGI application that answers with what an HTTP upstream answers.

    :param url: the base URL, as OpenAI SDKs take it (``https://api.openai.com/v1``).
    :param api_key: sent as the flavor wants it; never shown.
    :param headers: more header fields for every request.
    :param include_usage: whether streams are asked for usage. ``auto``: yes, until a model refuses the option.
    :param flavor: how requests are addressed; as OpenAI unless given.
    :param proxy: URL of the HTTP proxy to go through; without it none is used, whatever the environment says.
    :param ca_file: certificates to trust instead of those of certifi.
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
        self._redact = Redactor([api_key or "", *(headers or {}).values()])
        self._flavor = flavor or OpenAI()
        self._headers = {**(self._flavor.credentials(api_key) if api_key else {}), **(headers or {})}
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        self._timeout = timeout
        self._include_usage = include_usage
        self._refuses_usage: set[str] = set()
        self._adapter = UpstreamAdapter(MAX_CONNECTIONS, ca_file)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Failure as failure:
            Exchange.of(environ).note_failure(failure)
            answer = refuse(failure, environ)
        return answer(environ, start_response)

    def close(self) -> None:
        """Close the connections that wait in the pool."""
        self._adapter.close()

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        exchange = Exchange.of(environ)
        deadline = monotonic() + self._timeout.total
        request = self._with_usage_option(exchange.request)
        with _noticing_client(environ, exchange.linger):
            response = self._send(environ, exchange, request)
            if response.status_code >= 400:
                text = _error_text(self._body(response, deadline))
                if not self._refuses_option(response.status_code, text, request):
                    return self._refusal(response, text)
                response = self._send(environ, exchange, request and request.asking_usage(False))
                if response.status_code >= 400:
                    return self._refusal(response, _error_text(self._body(response, deadline)))
        return self._relay(response, deadline)

    def _with_usage_option(self, request: Request | None) -> Request | None:
        if request is None or self._include_usage == "always":
            return request
        if self._include_usage == "never" or request.model in self._refuses_usage:
            return request.asking_usage(False)
        return request

    def _refuses_option(self, status: int, text: str, request: Request | None) -> bool:
        """Whether the upstream stumbled over ``stream_options``; remembered for this model."""
        if self._include_usage != "auto" or status not in (400, 422) or request is None:
            return False
        if "stream_options" not in request.fields or not ("stream_options" in text or "include_usage" in text):
            return False
        log.warning("%s refuses stream_options for model %s; asking without from now on", self._url, request.model)
        if len(self._refuses_usage) < MODELS_REMEMBERED:
            self._refuses_usage.add(request.model)
        return True

    def _send(self, environ: WSGIEnvironment, exchange: Exchange, request: Request | None) -> Response:
        prepared = self._prepare(environ, exchange, request)
        try:
            response = self._send_once(prepared, exchange)
        except (RequestException, OSError) as error:
            if not is_stale(error) or not isinstance(prepared.body, bytes | None):
                raise failure_to_reach(error, self._timeout) from error
            self._adapter.drop_idle()
            response = self._send_again(prepared, exchange)
        exchange.this_try().status = response.status_code
        return response

    def _send_again(self, prepared: PreparedRequest, exchange: Exchange) -> Response:
        """After a stale connection: the upstream closed it without a byte, so it has most likely read none either."""
        before = exchange.this_try()
        before.error = "stale_connection"
        exchange.tries.append(Try(before.upstream, before.upstream_model))
        try:
            return self._send_once(prepared, exchange)
        except (RequestException, OSError) as error:
            raise failure_to_reach(error, self._timeout) from error

    def _send_once(self, prepared: PreparedRequest, exchange: Exchange) -> Response:
        is_sent.set(False)
        try:
            return self._adapter.send(
                prepared,
                stream=True,
                timeout=(self._timeout.connect, self._timeout.first_byte),
                proxies=self._proxies,
            )
        finally:
            exchange.this_try().reached = is_sent.get()

    def _prepare(self, environ: WSGIEnvironment, exchange: Exchange, request: Request | None) -> PreparedRequest:
        own = {
            "accept": "text/event-stream" if request and request.stream else "application/json",
            "accept-encoding": "identity",
            "x-request-id": exchange.request_id,
            **self._headers,
        }
        prepared = PreparedRequest()
        prepared.method = environ["REQUEST_METHOD"]
        model = exchange.target.model if exchange.target is not None else request.model if request else ""
        prepared.url = self._flavor.url(self._url, *_below_version(environ), model)
        prepared.headers = CaseInsensitiveDict(request_headers(environ, own))
        if request is None and isinstance(environ["wsgi.input"], Upload):
            # requests wants a type that it knows; what it hands on to is content with anything that can be read.
            prepared.body = cast(Any, environ["wsgi.input"])
            if environ.get("CONTENT_LENGTH"):
                prepared.headers["content-length"] = environ["CONTENT_LENGTH"]
        elif body := request.encode() if request is not None else get_input_stream(environ).read():
            prepared.body = body
            prepared.headers["content-length"] = str(len(body))
        return prepared

    def _body(self, response: Response, deadline: float) -> UpstreamBody:
        return UpstreamBody(response.raw, idle=self._timeout.idle, deadline=deadline)

    def _relay(self, response: Response, deadline: float) -> Answer:
        body = self._body(response, deadline)
        if 300 <= response.status_code < 400 and response.status_code != HTTPStatus.NOT_MODIFIED:
            body.close()
            raise UpstreamFailure(
                f"The upstream redirects (status {response.status_code}); its URL in the configuration must be final.",
                code="upstream_redirect",
            )
        return Answer(status_line(response.status_code), self._headers_of(response), body)

    def _refusal(self, response: Response, text: str) -> Answer:
        """The upstream's error, without anything in it that looks like a key (OpenAI quotes parts of it)."""
        body = self._redact(text).encode()
        headers = self._headers_of(response, without=("content-length", "content-encoding"))
        status = response.status_code
        if status == ClientGone.STATUS or status >= 600:  # the proxy's own word; no status (RFC 9110 section 15)
            status = 502
        return Answer(status_line(status), [*headers, ("Content-Length", str(len(body)))], [body])

    def _headers_of(self, response: Response, without: tuple[str, ...] = ()) -> Headers:
        fields = response_headers(response.raw.headers.items())
        return [item for item in fields if item[0].lower() not in without and not self._redact.holds(item[1])]


@contextmanager
def _noticing_client(environ: WSGIEnvironment, linger: float) -> Iterator[None]:
    """While waiting for the upstream's head, look out for a client that leaves."""
    gone = lingering(watch_client(environ), linger)

    def check() -> None:
        if gone():
            raise ClientGone

    token = on_idle.set(check)
    try:
        yield
    finally:
        on_idle.reset(token)


def _below_version(environ: WSGIEnvironment) -> tuple[str, str]:
    """The path after ``/v1``, as the upstream's base URL ends in its own version, and the query."""
    path: str = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    return path.removeprefix("/v1"), environ.get("QUERY_STRING", "")


def _error_text(body: UpstreamBody) -> str:
    """A refused request's answer, uncompressed, as far as it is worth reading."""
    content = b""
    try:
        for piece in unzip(body):
            content += piece
            if len(content) > ERROR_BODY_LIMIT:
                break
    except UpstreamFailure:
        pass
    finally:
        body.close()
    return content[:ERROR_BODY_LIMIT].decode("utf-8", "replace")
