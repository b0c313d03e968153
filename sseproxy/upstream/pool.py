"""The upstreams of a model as one that answers: order, retries, failover, cool-down.

Stands around what reads an answer, so that a stream that fails before its first content is still an answer that can
be asked for again. Nothing has been sent to the client while this tries. What is retried, and when: see ``retry``.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import partial
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Final

from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.tries import Try
from sseproxy.upstream.cooldown import Cooldown
from sseproxy.upstream.retry import (
    BRIEF,
    PATIENCE,
    Verdict,
    delay_before,
    is_down,
    is_failing,
    judge,
    wished_delay,
)
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.client import ClientGone, watch_client
from sseproxy.wsgi.draining import ShuttingDown
from sseproxy.wsgi.errors import refuse, whether_to_retry
from sseproxy.wsgi.exchange import KEY, Exchange, Target

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.upstream")

TICK: Final = 0.25
"""Seconds between two looks at whether the client is still there, while waiting to try again."""
COOLDOWN: Final = 10.0
RETRIES: Final = 2


class UpstreamPool:
    """Tries the upstreams that a request may go to until one answers.

    :param app: asks the upstream that the exchange's target names, and reads the beginning of what it answers.
    :param retries: by upstream: how often one request is sent there again.
    :param cooldowns: by upstream: seconds for which it is left alone after repeated failures.
    :param cooling: told of each upstream that is left alone (True) or back (False).
    """

    def __init__(
        self,
        app: WSGIApplication,
        retries: Mapping[str, int] | None = None,
        cooldowns: Mapping[str, float] | None = None,
        cooling: Callable[[str, bool], object] = lambda upstream, cooling: None,
    ) -> None:
        self.app = app
        self._retries = retries or {}
        self._health = _Health(cooldowns or {}, cooling)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        if exchange.target is None:
            return self.app(environ, start_response)
        try:
            answer = self._answer(environ, exchange, exchange.target)
        except (ClientGone, ShuttingDown) as ended:
            answer = refuse(ended, environ)
        if answer.code >= 400 and not answer.header("X-Should-Retry"):
            answer.headers = [*answer.headers, *whether_to_retry(wished_delay(answer.headers, _now) or 0)]
        if exchange.request is not None:  # it will not be sent again
            exchange.body, environ["wsgi.input"] = b"", BytesIO()
        return answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange, target: Target) -> Answer:
        places = in_order(target, random.random)
        cooling: list[Target] = []
        answer: Answer | None = None
        while places:
            if answer is not None:
                self._wait(environ, 0)
            place = places.pop(0)
            if not self._health[place.upstream].enter():
                cooling.append(place)
                continue
            has_spare = any(self._health[other.upstream].admits for other in places)
            answer, verdict = self._ask(environ, exchange, place, answer, has_spare)
            if verdict == "final":
                return answer
        if answer is not None and not is_failing(answer.code):
            return answer
        # Where one request may have been at fault, another need not be refused for it.
        for place in [place for place in cooling if not self._health[place.upstream].is_certain]:
            if answer is not None:
                self._wait(environ, 0)
            answer, verdict = self._ask(environ, exchange, place, answer, False)
            if verdict == "final":
                return answer
        return answer or self._refusal(environ, exchange, cooling)

    def _ask(
        self,
        environ: WSGIEnvironment,
        exchange: Exchange,
        place: Target,
        before: Answer | None,
        has_spare: bool,
    ) -> tuple[Answer, Verdict]:
        """The answer of one place, of whose health this is to be told.

        :param before: the answer of the place before, which the client will not get.
        """
        if before is not None:
            before.close()
        health = self._health[place.upstream]
        is_probing = health.is_probing
        try:
            answer = self._try(environ, exchange, place, has_spare)
            if answer.code < 400:
                health.succeeded()
                return answer, "final"
            retries = 0 if is_probing else self._retries.get(place.upstream, RETRIES)
            answer, verdict = self._ask_again(environ, exchange, place, answer, retries, has_spare)
        except ClientGone:
            health.left()
            raise
        except BaseException:
            health.failed(down=False)
            raise
        if answer.code == ClientGone.STATUS:
            health.left()
        elif is_failing(answer.code):
            health.failed(down=is_down(exchange.tries[-1]))
        else:
            health.succeeded()
        if verdict != "final" and not _can_repeat(environ, exchange):
            verdict = "final"
        return answer, verdict

    def _ask_again(
        self,
        environ: WSGIEnvironment,
        exchange: Exchange,
        place: Target,
        answer: Answer,
        retries: int,
        has_spare: bool,
    ) -> tuple[Answer, Verdict]:
        """The answer of one place that has refused once, after as many retries as it needs and has."""
        for number in range(retries + 1):
            if number:
                answer = self._try(environ, exchange, place, has_spare)
            if answer.code < 400:
                return answer, "final"
            verdict = judge(answer.code, exchange.tries[-1].error)
            if verdict != "again" or number == retries or not _can_repeat(environ, exchange):
                break
            wished = wished_delay(answer.headers, _now)
            delay = delay_before(number, random.random) if wished is None else wished
            if delay > (BRIEF if has_spare else PATIENCE):
                break
            answer.close()
            self._wait(environ, delay)
        return answer, verdict

    def _try(self, environ: WSGIEnvironment, exchange: Exchange, place: Target, has_spare: bool) -> Answer:
        exchange.target = place
        exchange.has_spare = has_spare
        again = bool(exchange.tries)
        if exchange.usage is not None:
            exchange.sunk, exchange.usage = exchange.sunk + (exchange.usage.cost or 0), None
        exchange.tries.append(Try(place.upstream, place.model))
        request = exchange.request
        if request is not None:
            if request.model != place.model:
                exchange.put_request(environ, request.with_model(place.model))
            if again:
                exchange.put_body(environ)
        elif again and isinstance(environ.get("wsgi.input"), BytesIO):
            environ["wsgi.input"].seek(0)
        try:
            answer = call_app(self.app, environ)
        except Failure:
            raise
        except Exception as error:
            exchange.note_failure(UpstreamFailure("", code="app_failed"))
            if not has_spare:
                raise
            log.exception("upstream %s failed", place.upstream)
            failure = UpstreamFailure("The application failed.", status=500, code="app_failed")
            failure.__cause__ = error
            return refuse(failure, environ)
        if answer.code >= 400:
            exchange.note_failure(UpstreamFailure("", code=f"status_{answer.code}"))
        return answer

    def _wait(self, environ: WSGIEnvironment, seconds: float) -> None:
        """Wait, unless the client leaves.

        :raises ClientGone: it did, by now at the latest.
        :raises ShuttingDown: the process has no more time for it.
        """
        gone = watch_client(environ)
        until = monotonic() + seconds
        while not gone():
            left = until - monotonic()
            if left <= 0:
                return
            time.sleep(min(TICK, left))  # looked up late: gevent may have replaced it since
        raise ClientGone

    def _refusal(self, environ: WSGIEnvironment, exchange: Exchange, skipped: list[Target]) -> Answer:
        """Nobody is asked: all failed again and again, and it is not yet time to see whether they still do."""
        failure = UpstreamFailure(
            "No upstream of this model is available at the moment; try again later.",
            status=503,
            code="upstream_cooling_down",
        )
        exchange.tries += [Try(place.upstream, place.model, error="cooling_down", reached=False) for place in skipped]
        failure.retry_after = max(1.0, min(self._health[place.upstream].wait for place in skipped))
        return refuse(failure, environ)


class _Health(dict[str, Cooldown]):
    """What is known of each upstream, by its name."""

    def __init__(self, cooldowns: Mapping[str, float], cooling: Callable[[str, bool], object]) -> None:
        self._cooldowns = cooldowns
        self._cooling = cooling

    def __missing__(self, upstream: str) -> Cooldown:
        seconds = self._cooldowns.get(upstream, COOLDOWN)
        return self.setdefault(upstream, Cooldown(seconds, monotonic, partial(self._cooling, upstream)))


def in_order(target: Target, random: Callable[[], float]) -> list[Target]:
    """The target and its spares in the order in which they are tried: one by weight first, the rest as configured.

    :param random: gives numbers in [0, 1).
    """
    if not target.spares:
        return [target]
    places = [target, *target.spares]
    total = sum(place.weight for place in places)
    if not total:
        return places
    drawn = random() * total
    for place in places:
        drawn -= place.weight
        if drawn < 0:
            break
    return [place, *(other for other in places if other is not place)]


def _can_repeat(environ: WSGIEnvironment, exchange: Exchange) -> bool:
    """Whether the request's body is still there. One that is handed on while it comes in is not."""
    return exchange.request is not None or isinstance(environ.get("wsgi.input"), BytesIO)


def _now() -> datetime:
    return datetime.now(timezone.utc)
