"""The access log: one line for each exchange when it is over, without content or secrets; metrics are counted here too.

Stands outside of everything that may fail: so it also sets ``X-Request-Id``, and answers for an application that
raised.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sseproxy.core.chat import api_at
from sseproxy.core.pricing import nano_to_usd
from sseproxy.core.tries import in_few_words
from sseproxy.middleware.access_record import access_record
from sseproxy.wsgi.call import Headers, call_app
from sseproxy.wsgi.ending import when_ended
from sseproxy.wsgi.errors import Crashed, refuse
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.access")
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")
"""Printable ASCII without space, quote, backslash and equals sign."""


class LogMiddleware:
    """Logs each exchange when its answer has ended, and answers 500 for an application that raised.

    :param format: ``text`` or ``json``.
    :param shown: the form in which a path is logged; its query never is.
    :param count: called with each finished exchange and its status, from many threads; must return at once.
    """

    def __init__(
        self,
        app: WSGIApplication,
        format: str = "text",
        *,
        shown: Callable[[str], str] = lambda path: path,
        count: Callable[[Exchange, int], object] = lambda exchange, status: None,
    ) -> None:
        self.app = app
        self._json = format == "json"
        self._shown = shown
        self._count = count

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        ids = _RequestIds(exchange.request_id, (exchange.api or api_at(exchange.path)) == "messages")
        early = _EarlyHead(ids, start_response)
        exchange.begin = early.begin
        try:
            answer = call_app(self.app, environ)
        except Exception:
            log.exception("%s failed", exchange.request_id)
            answer = refuse(Crashed(), environ)
        except BaseException:
            self._told(exchange, 500)
            raise
        for field, value in ids.fields(answer.headers):
            answer.set_header(field, value)
        method = environ["REQUEST_METHOD"]
        if method == "HEAD":
            answer.close()
            answer.body = []
        ended = partial(self._ended, exchange, method, answer.code, environ.get("REMOTE_ADDR", ""))
        answer.body = when_ended(exchange, answer.body, ended)
        return answer.body if early.has_begun else answer(environ, start_response)

    def _ended(self, exchange: Exchange, method: str, code: int, client: str) -> None:
        self._told(exchange, code)
        if log.isEnabledFor(logging.INFO):
            self._write(exchange, method, code, client)

    def _told(self, exchange: Exchange, code: int) -> None:
        try:
            self._count(exchange, code)
        except Exception:  # metrics must not break an answer
            log.exception("%s was not counted", exchange.request_id)

    def _write(self, exchange: Exchange, method: str, code: int, client: str) -> None:
        shown = self._shown(exchange.path)
        if not shown.isascii() and shown == exchange.path:  # WSGI: UTF-8 bytes decoded as Latin-1
            shown = shown.encode("latin-1", "replace").decode("utf-8", "backslashreplace")
        line = _describe(exchange, shown, method, code, client)
        text = json.dumps(line) if self._json else as_text(line)
        log.handle(access_record(log, text))


class _RequestIds(msgspec.Struct):
    """The header fields with the request's ID. Anthropic's SDKs read a field of their own."""

    request_id: str
    is_for_anthropic: bool

    def fields(self, headers: Headers) -> Headers:
        """The fields to add to a head; an upstream's own ``Request-Id`` is kept."""
        fields = [("X-Request-Id", self.request_id)]
        if self.is_for_anthropic and all(name.lower() != "request-id" for name, _ in headers):
            fields.append(("Request-Id", self.request_id))
        return fields


class _EarlyHead(msgspec.Struct):
    """Sends a response head before the answer is known."""

    ids: _RequestIds
    start_response: StartResponse
    has_begun: bool = False

    def begin(self, status: str, headers: Headers) -> Callable[[bytes], object]:
        """Send the head; the body follows through ``write()`` and the iterable, without another head."""
        self.has_begun = True
        return self.start_response(status, [*headers, *self.ids.fields(headers)])


def as_text(line: Mapping[str, Any]) -> str:
    """``key=value``, separated by spaces (logfmt); a value that is no plain word is quoted as in JSON.

    So no name that a client makes up can forge a second line or field.
    """
    texts = [*map(str, line.values())]
    # All are checked at once: nearly always they are plain.
    is_plain = all(texts) and _PLAIN.fullmatch("".join(texts))
    return " ".join(map("=".join, zip(line, texts if is_plain else map(_word, texts), strict=True)))


def _word(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def _describe(exchange: Exchange, path: str, method: str, code: int, client: str) -> dict[str, Any]:
    line: dict[str, Any] = {"id": exchange.request_id}
    if client:
        line["client"] = client
    line["method"] = method
    line["path"] = path
    line["status"] = code
    if exchange.user is not None:
        line["user"] = exchange.user.name
    line["duration_ms"] = exchange.elapsed_ms()
    if exchange.outcome:
        _describe_charge(line, exchange)
    if exchange.tries:
        last = exchange.tries[-1]
        if last.upstream:
            line["upstream"] = last.upstream
        line["tries"] = len(exchange.tries)
        if exchange.failure:
            line["error"] = in_few_words(exchange.failure)
        elif last.error is not None:
            line["error"] = last.result
    return line


def _describe_charge(line: dict[str, Any], exchange: Exchange) -> None:
    line["model"] = exchange.asked_model
    line["outcome"] = exchange.outcome
    line["cost_usd"] = nano_to_usd(exchange.cost)
    if exchange.first_token_ms is not None:
        line["first_token_ms"] = exchange.first_token_ms
    usage = exchange.usage
    if usage is not None:
        line["input_tokens"] = usage.input_tokens
        if usage.cached_input_tokens:
            line["cached_input_tokens"] = usage.cached_input_tokens
        line["output_tokens"] = usage.output_tokens
        if usage.reasoning_tokens:
            line["reasoning_tokens"] = usage.reasoning_tokens
