"""One request and its answer, from the first middleware to the log line: the only state middlewares share.

Stored in the WSGI environ as ``sseproxy.exchange``, so that each middleware also works alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from random import getrandbits
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import msgspec

from sseproxy.core.allowance import Budget, Limits
from sseproxy.core.chat import API_PATHS, Api, Request
from sseproxy.core.failure import Failure
from sseproxy.core.mapping import AnswerMapping
from sseproxy.core.pace import Pace
from sseproxy.core.pricing import Price
from sseproxy.core.tries import Try
from sseproxy.core.usage import Usage
from sseproxy.wsgi.client import Linger
from sseproxy.wsgi.upload import open_body, read_body

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.core.formats import Format
    from sseproxy.core.prompt import Prefix

KEY: Final = "sseproxy.exchange"
DEFAULT_MAX_BODY: Final = 10 * 1024 * 1024
LONGEST_CODE: Final = 64
_BODY_HEADERS: Final = frozenset(
    {
        "HTTP_CONTENT_ENCODING",
        "HTTP_CONTENT_RANGE",
        "HTTP_CONTENT_MD5",
        "HTTP_CONTENT_DIGEST",
        "HTTP_REPR_DIGEST",
        "HTTP_DIGEST",
        "HTTP_RANGE",
        "HTTP_IF_RANGE",
        "HTTP_IF_MATCH",
        "HTTP_IF_NONE_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_IF_UNMODIFIED_SINCE",
    }
)
"""Request headers that describe the original body, which is replaced, or ask for less than the whole answer."""
SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class User:
    """Who sends the request and is billed.

    :ivar models: patterns of the model names that the user may request.
    :ivar budget: what the user may spend; None: unlimited.
    :ivar limits: rate limits and concurrent streams.
    """

    name: str
    admin: bool = False
    models: tuple[str, ...] = ("*",)
    budget: Budget | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: an upstream, its name for the model, and what it costs there (None: unknown).

    :ivar weight: its share of the requests among it and its spares; 0: only requests that the others failed.
    :ivar spares: the fallbacks if this fails, in this order.
    """

    upstream: str
    model: str
    price: Price | None = None
    weight: int = 0
    spares: tuple[Target, ...] = ()

    @property
    def prices(self) -> tuple[Price | None, ...]:
        """The prices that may apply, depending on which upstream answers."""
        return (self.price, *[spare.price for spare in self.spares]) if self.spares else (self.price,)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A request whose answer has the application's own shape, which the proxy must not change.

    :ivar request: for accounting only; it is never sent.
    :ivar resolve: the target for the model name in an answer; None: no such model.
    """

    mapping: AnswerMapping
    request: Request
    resolve: Callable[[str], Target | None]


class Exchange(msgspec.Struct):
    """The state of one exchange; each middleware fills in its own part.

    :ivar path: ``PATH_INFO``; with ``SCRIPT_NAME`` in front where the application is mounted below an LLM path.
    :ivar method: the client's; a route calls the application with another.
    :ivar body: the request as it is sent, encoded.
    :ivar route: the pattern of the app-facing route, or of the passed-on paths, that matched; empty: one of OpenAI's
        paths.
    :ivar mapped: set where the application answers in its own shape; then there is no :attr:`request`.
    :ivar prefix: the route's own prompt prefix, which overrides every other.
    :ivar format: how the client gets its events; None: as OpenAI's.
    :ivar last_event_id: the last event that the client says it has received.
    :ivar begin: sends a response head before the answer is known, and returns ``write``; None where that is not
        possible. Only in the thread of the request.
    :ivar cookies: the ``Set-Cookie`` fields of an answer that has its head and no event yet.
    :ivar in_background: the answer goes on after its client has left.
    :ivar cut_short: the process ended it because it is shutting down.
    :ivar rejoin: the ID of the stream that the route's path names, to be replayed.
    :ivar target: where the request is, or where the answer came from.
    :ivar tries: each time the request went to an upstream, the last one last.
    :ivar has_spare: another upstream is left, so that an answer without content does not count as begun.
    :ivar when_reserved: called once, when the charge is reserved and the request may go to the upstream.
    :ivar usage: as booked; before that, what the vendor of the current try reports although the try failed.
    :ivar sunk: nano-USD that vendors report for earlier tries, which failed.
    :ivar failure: error code of what ended an answer that had begun.
    :ivar pace: how evenly the events of a streamed answer came.
    :ivar linger: how long the answer is still read after its client has left.
    :ivar when_generated: called once, when an answer that is generated in the background has ended.
    :ivar when_booked: called once, when :attr:`usage` and :attr:`cost` are final.
    """

    request_id: str
    path: str
    method: str = "POST"
    started: float = msgspec.field(default_factory=monotonic)
    api: Api | None = None
    request: Request | None = None
    body: bytes = b""
    user: User | None = None
    key: str | None = None
    target: Target | None = None
    tries: list[Try] = msgspec.field(default_factory=list)
    has_spare: bool = False
    asked_model: str = ""
    charge_id: str = ""
    route: str = ""
    mapped: Mapped | None = None
    prefix: Prefix | None = None
    format: Format | None = None
    cut_short: bool = False
    rejoin: str = ""
    last_event_id: str = ""
    begin: Callable[[str, list[tuple[str, str]]], Callable[[bytes], object]] | None = None
    cookies: list[tuple[str, str]] = msgspec.field(default_factory=list)
    in_background: bool = False
    outcome: str = ""
    usage: Usage | None = None
    cost: int = 0
    sunk: int = 0
    first_token_ms: int | None = None
    failure: str = ""
    pace: Pace | None = None
    linger: Linger = msgspec.field(default_factory=Linger)
    when_reserved: list[Callable[[], object]] = msgspec.field(default_factory=list)
    when_generated: list[Callable[[], object]] = msgspec.field(default_factory=list)
    when_booked: list[Callable[[], object]] = msgspec.field(default_factory=list)

    @staticmethod
    def of(environ: WSGIEnvironment) -> Exchange:
        """The exchange of this environ, created by the first middleware that asks.

        Middlewares that every request passes look under :data:`KEY` first, which costs a third of this.
        """
        exchange: Exchange | None = environ.get(KEY)
        if exchange is None:
            path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
            if (mount := environ.get("SCRIPT_NAME", "")) and mount + path in API_PATHS:
                path = mount + path
            api = API_PATHS.get(path) if method == "POST" else None
            last = _last_event_id(environ)
            exchange = environ[KEY] = Exchange(_request_id(environ), path, method, api=api, last_event_id=last)
        return exchange

    @property
    def billed(self) -> Request | None:
        """The request by which input is estimated and counted; None: it is not parsed."""
        return self.mapped.request if self.mapped is not None else self.request

    @property
    def streams_events(self) -> bool:
        """Whether the answer is to be an event stream, in which comments may stand."""
        if self.request is None or not self.request.stream:
            return False
        return self.format is None or self.format.events

    def elapsed_ms(self, at: float | None = None) -> int:
        """Milliseconds since the request came in, until now or a moment (monotonic seconds)."""
        return int(((monotonic() if at is None else at) - self.started) * 1000)

    def read_request(self, environ: WSGIEnvironment, max_body: int = DEFAULT_MAX_BODY) -> Request | None:
        """The parsed request body, read once; None where the path is no LLM call.

        :raises BadRequest: the body is too large, incomplete, or not what the API takes.
        """
        if self.request is None and self.api is not None:
            request = Request.parse(self.api, read_body(environ, max_body))
            self.put_request(environ, request)
            self.asked_model = self.asked_model or request.model
        return self.request

    def read_bytes(self, environ: WSGIEnvironment, max_body: int = DEFAULT_MAX_BODY) -> bytes:
        """Read the body of a request to no known API, however framed, and put it back with its length.

        :raises BadRequest: it is too large or incomplete.
        """
        if body := read_body(environ, max_body):
            _put_body(environ, body)
        return body

    def pass_bytes(self, environ: WSGIEnvironment, max_body: int) -> None:
        """Prepare a body that is passed on unchanged: in memory if it is short, else streamed.

        :raises BadRequest: it is too large or incomplete.
        """
        body = open_body(environ, max_body)
        if isinstance(body, bytes):
            _put_body(environ, body)
        else:
            environ["wsgi.input"] = body

    def put_body(self, environ: WSGIEnvironment) -> None:
        """Put the request's body back after an application that failed has read it."""
        if self.request is not None:
            _put_body(environ, self.body)

    def this_try(self) -> Try:
        """The current try, created if there is none."""
        if not self.tries:
            self.tries.append(Try("", ""))
        return self.tries[-1]

    def note_failure(self, failure: Failure) -> None:
        """Record why the current try failed; the first record, nearest to the cause, stays."""
        self.usage = failure.usage or self.usage
        if self.tries and self.tries[-1].error is None:
            self.tries[-1].error = str(failure.code or failure.type)[:LONGEST_CODE]

    def put_request(self, environ: WSGIEnvironment, request: Request) -> None:
        """Replace the request, for later middlewares and for the application that reads ``wsgi.input``."""
        if request is self.request:
            return
        if self.request is None:
            _describe_json(environ)
        self.request, self.body = request, request.encode()
        _put_body(environ, self.body)


def stand_alone(environ: WSGIEnvironment) -> WSGIEnvironment:
    """The environ for a stack that begins here, without the exchange of a stack around it."""
    return {name: value for name, value in environ.items() if name != KEY} if KEY in environ else environ


def _put_body(environ: WSGIEnvironment, body: bytes) -> None:
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    if "HTTP_TRANSFER_ENCODING" in environ:
        del environ["HTTP_TRANSFER_ENCODING"]


def _describe_json(environ: WSGIEnvironment) -> None:
    """With the client's charset or coding an application could read another request than the one checked here."""
    environ["CONTENT_TYPE"] = "application/json"
    for key in environ.keys() & _BODY_HEADERS:
        del environ[key]


def _last_event_id(environ: WSGIEnvironment) -> str:
    """From the header, or from the query, where event-source-polyfill puts it to avoid a preflight."""
    header: str = environ.get("HTTP_LAST_EVENT_ID", "")
    query: str = environ.get("QUERY_STRING", "")
    if header or "lastEventId=" not in query:
        return header
    return parse_qs(query).get("lastEventId", [""])[-1]


def _request_id(environ: WSGIEnvironment) -> str:
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    if given and SANE_ID.match(given):
        return given
    # Without a prefix, since upstreams see it too: llama-cpp-python answers 400 to any X-Request-Id that is no UUID.
    # Version 4 (RFC 9562), which the module uuid makes at three times the cost. It need not be hard to guess.
    digits = getrandbits(128).to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
