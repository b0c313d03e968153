"""One line for each exchange, and its ``X-Request-Id``. No content, no secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sseproxy.core.failure import Failure
from sseproxy.core.pricing import nano_to_usd
from sseproxy.wsgi.call import call_app
from sseproxy.wsgi.closing import ClosingBody
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.access")


class LogMiddleware:
    """Logs each exchange when its answer has ended, and answers 500 for an application that raised.

    :param format: ``text`` or ``json``.
    """

    def __init__(self, app: WSGIApplication, format: str = "text") -> None:
        self.app = app
        self._json = format == "json"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        try:
            answer = call_app(self.app, environ)
        except Exception:
            log.exception("%s failed", exchange.request_id)
            failure = Failure("The proxy failed; its log tells why.", code="internal_error")
            answer = refuse(failure, environ)
        answer.set_header("X-Request-Id", exchange.request_id)
        if environ["REQUEST_METHOD"] == "HEAD":
            answer.close()
            answer.body = []
        method, code = environ["REQUEST_METHOD"], answer.code
        answer.body = ClosingBody(answer.body, lambda: self._write(exchange, method, code))
        return answer(environ, start_response)

    def _write(self, exchange: Exchange, method: str, code: int) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        line = _describe(exchange, method, code)
        log.info("%s", json.dumps(line) if self._json else " ".join(f"{key}={value}" for key, value in line.items()))


def _describe(exchange: Exchange, method: str, code: int) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": exchange.request_id,
        "method": method,
        "path": exchange.path.encode("unicode_escape").decode(),
        "status": code,
        "user": exchange.user.name if exchange.user else None,
        "duration_ms": exchange.elapsed_ms(),
    }
    if exchange.outcome:
        line |= {
            "model": exchange.asked_model,
            "outcome": exchange.outcome,
            "cost_usd": nano_to_usd(exchange.cost),
            "first_token_ms": exchange.first_token_ms,
        }
    if exchange.usage is not None:
        line |= {"input_tokens": exchange.usage.input_tokens, "output_tokens": exchange.usage.output_tokens}
    return {key: value for key, value in line.items() if value is not None}
