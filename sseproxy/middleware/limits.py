"""Rate limits of users: requests, tokens, running streams.

Header fields as in OpenAI's API: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sseproxy.core.allowance import Limits
from sseproxy.core.failure import Failure
from sseproxy.middleware.auth import ANONYMOUS
from sseproxy.middleware.counts import Window
from sseproxy.middleware.limiter import Limiter, Turn, as_duration
from sseproxy.middleware.reservation import rough_tokens
from sseproxy.wsgi.call import Answer, Headers, call_app
from sseproxy.wsgi.closing import ClosingBody
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class LimitsMiddleware:
    """Refuses with 429 what exceeds the user's limits, and shows in headers what is left of them.

    A request's estimated tokens are counted when it begins, and replaced by the actual ones when these are booked.

    :param limiter: counts; may be shared by several stacks.
    """

    def __init__(self, app: WSGIApplication, limiter: Limiter) -> None:
        self.app = app
        self._limiter = limiter

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        user = exchange.user or ANONYMOUS
        name, limits = user.name, user.limits
        try:
            request = exchange.read_request(environ)
            if not limits or (request is None and exchange.target is None):
                return self.app(environ, start_response)
            turn = self._enter(name, limits, exchange)
        except Failure as failure:
            headers = _headers(self._limiter.windows(name, limits)) if limits else None
            return refuse(failure, environ, headers)(environ, start_response)
        return self._answer(environ, exchange, turn)(environ, start_response)

    def _enter(self, name: str, limits: Limits, exchange: Exchange) -> Turn:
        request = exchange.billed
        if request is None:
            return self._limiter.enter(name, limits)
        given, produced = rough_tokens(request)
        return self._limiter.enter(name, limits, tokens=(given, given + produced), stream=request.stream)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange, turn: Turn) -> Answer:
        exchange.when_booked.append(lambda: turn.settle(_tokens(exchange)))
        try:
            answer = call_app(self.app, environ)
        except BaseException:
            turn.leave()
            turn.settle(0)
            raise
        if answer.code >= 400:
            turn.settle(_tokens(exchange))
        answer.headers = [item for item in answer.headers if not item[0].lower().startswith("x-ratelimit-")]
        answer.headers += _headers(turn.windows())
        if turn.place is not None:
            answer.body = _when_closed(answer.body, turn.leave)
        return answer


def _tokens(exchange: Exchange) -> int:
    return 0 if exchange.usage is None else exchange.usage.input_tokens + exchange.usage.output_tokens


def _headers(windows: dict[str, Window]) -> Headers:
    headers: Headers = []
    for kind, window in windows.items():
        headers += [
            (f"x-ratelimit-limit-{kind}", str(window.limit)),
            (f"x-ratelimit-remaining-{kind}", str(window.remaining)),
            (f"x-ratelimit-reset-{kind}", as_duration(window.reset)),
        ]
    return headers


def _when_closed(body: Iterable[bytes], callback: Callable[[], object]) -> Iterable[bytes]:
    """The body, with a callback for its end; an :class:`EventStream` stays one."""
    if isinstance(body, EventStream):
        body.on_close(callback)
        return body
    return ClosingBody.around(body, callback)
