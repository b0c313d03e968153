"""What one exchange adds to the metrics, all at its end: while an answer passes nothing here is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

from sseproxy.core.pace import Pace
from sseproxy.core.tries import in_few_words
from sseproxy.core.usage import Usage
from sseproxy.core.vendor_cost import NANO_PER_USD
from sseproxy.metrics.instruments import Instruments
from sseproxy.metrics.labels import NONE
from sseproxy.wsgi.exchange import Exchange

KINDS: Final = ("input", "cached_input", "cache_write", "output", "reasoning")
TOKENS: Final = tuple((kind, attrgetter(f"{kind}_tokens")) for kind in KINDS)
"""Of :class:`~sseproxy.core.usage.Usage`, by what they are called here."""

Tries = tuple[tuple[str, str], ...]
"""The upstream of each, as it is called in the configuration, and how it ended."""


class ExchangeRecorder:
    """Counts the exchanges of one stack.

    :param route: label of a path.
    :param model: label of a model that was asked for.
    :param upstream: label of an upstream.
    """

    def __init__(
        self,
        instruments: Instruments,
        route: Callable[[str], str],
        model: Callable[[str], str],
        upstream: Callable[[str | None], str],
    ) -> None:
        self._instruments = instruments
        self._tally = instruments.tally
        self._route = route
        self._model = model
        self._upstream = upstream
        self._count_ended = self._count  # bound once, not for each note

    def ended(self, exchange: Exchange, status: int) -> None:
        """An exchange is over. It is noted; nothing is kept of it that a client can make long."""
        target, request, tally = exchange.target, exchange.request or exchange.billed, self._tally
        series = (
            self._count_ended,
            exchange.route or self._route(exchange.path),
            NONE if target is None else self._model(exchange.asked_model),
            None if target is None else target.upstream,
            status // 100,
            exchange.outcome,
            request is not None and request.stream,
            _tries_of(exchange),
        )
        tally.note(
            (series, exchange.elapsed_ms(), exchange.cost, exchange.usage, exchange.first_token_ms, exchange.pace)
        )
        if len(tally.notes) > tally.most:
            self._instruments.ease()

    def _count(
        self,
        route: str,
        model: str,
        upstream: str | None,
        status: int,
        outcome: str,
        streamed: bool,
        tries: Tries,
        durations: Sequence[int],
        costs: Sequence[int],
        usages: Sequence[Usage | None],
        first_tokens: Sequence[int | None],
        paces: Sequence[Pace | None],
    ) -> None:
        metrics = self._instruments
        metrics.requests.labels(route, model, f"{status}xx", outcome or NONE).inc(len(durations))
        metrics.duration.labels(route, model).observe_all([each / 1000 for each in durations])
        self._count_tries(tries, len(durations))
        if not outcome:
            return
        call = model, self._upstream(upstream)
        self._count_usage(call, [each for each in usages if each is not None])
        metrics.cost.labels(*call).inc(sum(costs) / NANO_PER_USD)
        if streamed and (seen := [each / 1000 for each in first_tokens if each is not None]):
            metrics.first_token.labels(*call).observe_all(seen)
        self._count_gaps(call, [each for each in paces if each is not None])

    def _count_usage(self, call: tuple[str, str], usages: Sequence[Usage]) -> None:
        for kind, tokens in TOKENS:
            if total := sum(map(tokens, usages)):
                self._instruments.tokens.labels(*call, kind).inc(total)

    def _count_gaps(self, call: tuple[str, str], paces: Sequence[Pace]) -> None:
        counts = [*map(sum, zip(*(pace.counts for pace in paces), strict=True))]
        if any(counts):
            self._instruments.gap.labels(*call).add(counts, sum(pace.total for pace in paces))

    def _count_tries(self, tries: Tries, exchanges: int) -> None:
        metrics, before = self._instruments, None
        for name, result in tries:
            upstream = self._upstream(name)
            metrics.tries.labels(upstream, result).inc(exchanges)
            if before is not None and result != "cooling_down":
                metrics.retries.labels(upstream, "again" if name == before else "elsewhere").inc(exchanges)
            before = name


def _tries_of(exchange: Exchange) -> Tries:
    tries = [(each.upstream, each.result) for each in exchange.tries]
    if exchange.outcome == "upstream_failed" and tries and exchange.tries[-1].error is None:
        tries[-1] = (tries[-1][0], in_few_words(exchange.failure))  # it answered, and broke off
    return (*tries,)
