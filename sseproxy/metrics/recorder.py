"""What one exchange adds to the metrics, all at its end: while an answer passes nothing here is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sseproxy.core.pricing import NANO_PER_USD
from sseproxy.core.tries import in_few_words
from sseproxy.metrics.instruments import Instruments
from sseproxy.metrics.labels import NONE
from sseproxy.wsgi.exchange import Exchange

KINDS: Final = ("input", "cached_input", "cache_write", "output", "reasoning")
FIELDS: Final = tuple((kind, f"{kind}_tokens") for kind in KINDS)
"""Of :class:`~sseproxy.core.usage.Usage`, by what they are called here."""


class ExchangeRecorder:
    """Counts the exchanges of one stack. See :class:`~sseproxy.middleware.metrics.Recorder`.

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
        self._route = route
        self._model = model
        self._upstream = upstream

    def reserved(self, exchange: Exchange) -> None:
        """One more answer is under way."""
        self._instruments.keep_looking()
        self._instruments.running.labels(_kind(exchange)).inc()

    def booked(self, exchange: Exchange) -> None:
        """One answer less is."""
        self._instruments.running.labels(_kind(exchange)).dec()

    def ended(self, exchange: Exchange, status: int) -> None:
        """Everything else."""
        metrics = self._instruments
        route = exchange.route or self._route(exchange.path)
        model = self._model(exchange.asked_model) if exchange.target is not None else NONE
        metrics.requests.labels(route, model, f"{status // 100}xx", exchange.outcome or NONE).inc()
        metrics.duration.labels(route, model).observe(exchange.elapsed_ms() / 1000)
        if exchange.outcome:
            self._charged(exchange, model)
        self._tried(exchange)

    def _charged(self, exchange: Exchange, model: str) -> None:
        metrics = self._instruments
        upstream = self._upstream(exchange.target.upstream if exchange.target is not None else None)
        if exchange.usage is not None:
            for kind, field in FIELDS:
                if tokens := getattr(exchange.usage, field):
                    metrics.tokens.labels(model, upstream, kind).inc(tokens)
        metrics.cost.labels(model, upstream).inc(exchange.cost / NANO_PER_USD)
        if exchange.first_token_ms is not None and _kind(exchange) == "stream":
            metrics.first_token.labels(model, upstream).observe(exchange.first_token_ms / 1000)
        if exchange.pace is not None and any(exchange.pace.counts):
            metrics.gap.labels(model, upstream).add(exchange.pace.counts, exchange.pace.total)

    def _tried(self, exchange: Exchange) -> None:
        metrics, before = self._instruments, None
        for each in exchange.tries:
            upstream, result = self._upstream(each.upstream), each.result
            if each.error is None and each is exchange.tries[-1] and exchange.outcome == "upstream_failed":
                result = in_few_words(exchange.failure)  # it answered, and broke off
            metrics.tries.labels(upstream, result).inc()
            if before is not None and result != "cooling_down":
                metrics.retries.labels(upstream, "again" if each.upstream == before.upstream else "elsewhere").inc()
            before = each


def _kind(exchange: Exchange) -> str:
    request = exchange.billed
    return "stream" if request is not None and request.stream else "whole"
