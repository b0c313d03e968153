"""An OpenAI-compatible HTTP endpoint as a WSGI application: the innermost app of the proxy.

Passes bytes on as they arrive; what they mean is for the middlewares around it.
"""

from __future__ import annotations

import logging
import socket
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

from requests import PreparedRequest, RequestException, Response
from requests.exceptions import ConnectTimeout, ReadTimeout, SSLError
from requests.structures import CaseInsensitiveDict
from werkzeug.wsgi import get_input_stream

from sseproxy.core.chat import Request
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.normalize.bodies import unzip
from sseproxy.core.redact import Redactor
from sseproxy.upstream.body import UpstreamBody
from sseproxy.upstream.connection import UpstreamAdapter, on_idle
from sseproxy.upstream.headers import request_headers, response_headers
from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.client import ClientGone, lingering, watch_client
from sseproxy.wsgi.errors import refuse, status_line
from sseproxy.wsgi.exchange import Exchange

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
    :param api_key: sent as ``Authorization: Bearer``; never shown.
    :param headers: more header fields for every request.
    :param include_usage: whether streams are asked for usage. ``auto``: yes, until a model refuses the option.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeout = Timeout(),
        include_usage: IncludeUsage = "auto",
    ) -> None:
        self._url = url.rstrip("/")
        self._redact = Redactor([api_key or "", *(headers or {}).values()])
        self._headers = {**({"authorization": f"Bearer {api_key}"} if api_key else {}), **(headers or {})}
        self._timeout = timeout
        self._include_usage = include_usage
        self._refuses_usage: set[str] = set()
        self._adapter = UpstreamAdapter(MAX_CONNECTIONS)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Failure as failure:
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
        return self._relay(response, deadline)

    def _with_usage_option(self, request: Request | None) -> Request | None:
        if request is None or self._include_usage == "always":
            return request
        if self._include_usage == "never" or request.model in self._refuses_usage:
            return request.asking_usage(False)
        return request

    def _refuses_option(self, status: int, text: str, request: Request | None) -> bool:
        """Whether the upstream stumbled over ``stream_options``; remembered for this model (DIALECTS: E17, E21)."""
        if self._include_usage != "auto" or status not in (400, 422) or request is None:
            return False
        if "stream_options" not in request.fields or not ("stream_options" in text or "include_usage" in text):
            return False
        log.warning("%s refuses stream_options for model %s; asking without from now on", self._url, request.model)
        if len(self._refuses_usage) < MODELS_REMEMBERED:
            self._refuses_usage.add(request.model)
        return True

    def _send(self, environ: WSGIEnvironment, exchange: Exchange, request: Request | None) -> Response:
        own = {
            "accept": "text/event-stream" if request and request.stream else "application/json",
            "accept-encoding": "identity",
            "x-request-id": exchange.request_id,
            **self._headers,
        }
        prepared = PreparedRequest()
        prepared.method = environ["REQUEST_METHOD"]
        prepared.url = self._url + _path_below_version(environ)
        prepared.headers = CaseInsensitiveDict(request_headers(environ, own))
        body = request.encode() if request is not None else get_input_stream(environ).read()
        if body:
            prepared.body = body
            prepared.headers["content-length"] = str(len(body))
        try:
            return self._adapter.send(prepared, stream=True, timeout=(self._timeout.connect, self._timeout.first_byte))
        except (RequestException, OSError) as error:
            raise _unreachable(error, self._timeout) from error

    def _body(self, response: Response, deadline: float) -> UpstreamBody:
        return UpstreamBody(response.raw, idle=self._timeout.idle, deadline=deadline)

    def _relay(self, response: Response, deadline: float) -> Answer:
        body = self._body(response, deadline)
        if 300 <= response.status_code < 400:
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


def _path_below_version(environ: WSGIEnvironment) -> str:
    """The path and query after ``/v1``, as the upstream's base URL ends in its own version."""
    path: str = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    query = environ.get("QUERY_STRING", "")
    return path.removeprefix("/v1") + (f"?{query}" if query else "")


def _error_text(body: UpstreamBody) -> str:
    """A refused request's answer, uncompressed, as far as it is worth reading."""
    content = b""
    try:
        for piece in unzip(body):
            content += piece
            if len(content) > ERROR_BODY_LIMIT:
                break
    except (UpstreamFailure, zlib.error):
        pass
    finally:
        body.close()
    return content[:ERROR_BODY_LIMIT].decode("utf-8", "replace")


def _unreachable(error: Exception, timeout: Timeout) -> UpstreamFailure:
    """What kept the upstream from answering, in words that name no address and no key."""
    if isinstance(error, ConnectTimeout):
        message = f"The upstream did not accept a connection within {timeout.connect:g} seconds."
        return UpstreamFailure(message, status=504, type="upstream_timeout", code="upstream_connect_timeout")
    if isinstance(error, (ReadTimeout, socket.timeout)):
        message = f"The upstream did not begin its answer within {timeout.first_byte:g} seconds."
        return UpstreamFailure(message, status=504, type="upstream_timeout", code="upstream_first_byte_timeout")
    if isinstance(error, SSLError):
        return UpstreamFailure("The upstream's TLS certificate was not accepted.", code="upstream_tls")
    reason = getattr(error.args[0] if error.args else error, "reason", error)
    log.warning("upstream unreachable: %s", type(reason).__name__)
    return UpstreamFailure("The upstream cannot be reached or closed the connection.", code="upstream_unreachable")
