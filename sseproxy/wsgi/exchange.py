"""One request and its answer, from the first middleware to the log line: the only state middlewares share.

Stored in the WSGI environ as ``sseproxy.exchange``, so that each middleware also works alone.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from sseproxy.core.allowance import Budget, Limits
from sseproxy.core.chat import API_PATHS, Api, BadRequest, Request
from sseproxy.core.pricing import Price
from sseproxy.core.usage import Usage

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

KEY: Final = "sseproxy.exchange"
DEFAULT_MAX_BODY: Final = 10 * 1024 * 1024
SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class User:
    """Who asks and is billed.

    :ivar models: patterns of the model names that may be asked for.
    :ivar budget: what may be spent; None: whatever is asked for.
    :ivar limits: how much may be asked for at a time.
    """

    name: str
    admin: bool = False
    models: tuple[str, ...] = ("*",)
    budget: Budget | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: an upstream, its name for the model, and what it costs there (None: unknown)."""

    upstream: str
    model: str
    price: Price | None = None


@dataclass(slots=True)
class Exchange:
    """What is known of one exchange; each middleware fills in its own part.

    :ivar when_booked: called once, when :attr:`usage` and :attr:`cost` are final.
    """

    request_id: str
    path: str
    started: float = field(default_factory=monotonic)
    api: Api | None = None
    request: Request | None = None
    user: User | None = None
    key: str | None = None
    target: Target | None = None
    asked_model: str = ""
    outcome: str = ""
    usage: Usage | None = None
    cost: int = 0
    first_token_ms: int | None = None
    linger: float = 0.0
    when_booked: list[Callable[[], object]] = field(default_factory=list)

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Exchange:
        """The exchange of this environ, begun now if this is the first middleware to ask."""
        exchange: Exchange | None = environ.get(KEY)
        if exchange is None:
            path = environ.get("PATH_INFO", "")
            api = API_PATHS.get(path) if environ["REQUEST_METHOD"] == "POST" else None
            exchange = environ[KEY] = cls(_request_id(environ), path, api=api)
        return exchange

    def elapsed_ms(self) -> int:
        """Milliseconds since the request came in."""
        return int((monotonic() - self.started) * 1000)

    def read_request(self, environ: WSGIEnvironment, max_body: int = DEFAULT_MAX_BODY) -> Request | None:
        """The parsed request body, read once; None where the path is no LLM call.

        :raises BadRequest: the body is too large, incomplete, or not what the API takes.
        """
        if self.request is None and self.api is not None:
            self.put_request(environ, Request.parse(self.api, _read_body(environ, max_body)))
            self.asked_model = self.asked_model or (self.request.model if self.request else "")
        return self.request

    def read_bytes(self, environ: WSGIEnvironment, max_body: int = DEFAULT_MAX_BODY) -> None:
        """Read a body that nobody parses, whatever its transfer framing, and put it back with its length.

        :raises BadRequest: it is too large or incomplete.
        """
        _put_body(environ, _read_body(environ, max_body))

    def put_request(self, environ: WSGIEnvironment, request: Request) -> None:
        """Make this the request, for the next middleware and for the application that reads ``wsgi.input``."""
        if request is self.request:
            return
        self.request = request
        _put_body(environ, request.encode())


def _put_body(environ: WSGIEnvironment, body: bytes) -> None:
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)


def _request_id(environ: WSGIEnvironment) -> str:
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    return given if SANE_ID.match(given) else f"req_{uuid.uuid4().hex}"


def _read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    try:
        # One more than the limit: werkzeug's stream stops silently at its own.
        body = get_input_stream(environ, max_content_length=limit + 1).read()
    except RequestEntityTooLarge:
        raise _too_large(limit) from None
    except (ClientDisconnected, OSError, ValueError) as error:
        raise BadRequest("The request body is malformed or ended before its stated length.") from error
    except Exception as error:
        if type(error).__module__.startswith("gunicorn."):  # gunicorn parses chunks while they are read
            raise BadRequest("The request body's chunked framing is malformed.") from error
        raise
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> BadRequest:
    message = f"The request body is larger than {limit} bytes, the most that is accepted here."
    return BadRequest(message, status=413, code="request_too_large")
