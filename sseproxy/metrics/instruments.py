"""The metrics of this process: their names, labels and buckets. Shared by all stacks in it.

Several processes are one where ``PROMETHEUS_MULTIPROC_DIR`` names a directory that they share
(https://prometheus.github.io/client_python/multiprocess/): then each counts in a file of its own, and any of them tells
the sum. There a value can only be written, never asked for at a scrape; hence :meth:`Instruments.watch`.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from bisect import bisect_left
from collections import Counter as Counted
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from sseproxy.core.pace import BOUNDS
from sseproxy.metrics.tally import MOST, Tally

log = logging.getLogger("sseproxy.metrics")

PREFIX: Final = "sseproxy_"
DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
LOOK: Final = 2.0
"""Seconds between two looks at what is watched, where several processes share a directory."""
FIRST_TOKEN: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60)
DURATION: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900)
LEDGER: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Watched = Callable[[], float]


class LabelledCounter(Counter):
    """A counter that is counted by its labels only, so that nobody need look each time whether it has any."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Count so many more, which are not less than none."""
        self._value.inc(amount)


class SummedHistogram(Histogram):
    """A histogram that takes many observations for the price of one."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Observe what falls into each bucket.

        :param counts: by bucket, as it was made, the last one without a bound.
        :param total: all observations together.
        """
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Count observations."""
        self._sum.inc(sum(amounts))
        for bucket, count in Counted(map(partial(bisect_left, self._upper_bounds), amounts)).items():
            self._buckets[bucket].inc(count)


class Instruments:
    """Every metric there is. In code they are without :data:`PREFIX` and without Prometheus' own endings.

    :param registry: holds them; never the library's global one, which belongs to the application around.
    :ivar tally: what happened and is not counted yet. Whoever notes it there calls :meth:`ease` now and then.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._watched: dict[Gauge, list[Watched]] = {}
        self._lock = threading.Lock()
        self._is_looking = False
        # As the library itself, which looks once.
        self._is_shared = DIRECTORY in os.environ
        self.tally = Tally(self._most_at_first)

        counter = partial(LabelledCounter, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        histogram = partial(SummedHistogram, registry=registry)
        call = ("model", "upstream")
        self.requests = counter(
            "sseproxy_requests", "Requests answered.", ("route", "model", "status", "outcome")
        )  # fmt: skip
        self.duration = histogram(
            "sseproxy_request_duration_seconds", "From a request to the end of its answer.", ("route", "model"),
            buckets=DURATION,
        )  # fmt: skip
        self.running = gauge("sseproxy_answers_running", "Answers of models under way.", ("kind",))
        self.tokens = counter("sseproxy_tokens", "Tokens charged.", (*call, "kind"))
        self.cost = counter("sseproxy_cost_usd", "US dollars charged.", call)
        self.first_token = histogram(
            "sseproxy_time_to_first_token_seconds", "From a request to the first token of a streamed answer.", call,
            buckets=FIRST_TOKEN,
        )  # fmt: skip
        self.gap = histogram(
            "sseproxy_event_gap_seconds", "Between two reads of a streamed answer that brought events.", call,
            buckets=BOUNDS,
        )  # fmt: skip
        self.tries = counter("sseproxy_upstream_tries", "Requests sent to an upstream.", ("upstream", "result"))
        self.retries = counter(
            "sseproxy_upstream_retries", "Of these, those after another one had failed.", ("upstream", "kind")
        )
        self.cooldowns = counter("sseproxy_upstream_cooldowns", "Times that an upstream was left alone.", ("upstream",))
        self.cooling = gauge("sseproxy_upstream_cooling_down", "Processes that leave an upstream alone.", ("upstream",))
        self.ledger = histogram(
            "sseproxy_ledger_duration_seconds", "How long the ledger took.", ("operation",), buckets=LEDGER
        )
        self.ledger_errors = counter("sseproxy_ledger_errors", "What the ledger could not do.", ("operation",))
        self.live_streams = gauge("sseproxy_live_streams", "Answers that can be joined again.", ("state",))
        self.queue = gauge("sseproxy_server_queue_length", "Requests that wait for a free thread.")
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase):
                # The library checks all labels anew at each look-up. This holds no more of them than the metric does.
                metric.labels = cache(metric.labels)  # type: ignore[method-assign]

    def cool_down(self, upstream: str, cooling: bool) -> None:
        """An upstream is left alone from now on, or not any more."""
        self.cooling.labels(upstream).set(cooling)
        if cooling:
            self.cooldowns.labels(upstream).inc()

    def watch(self, gauge: Gauge, value: Watched) -> Callable[[], None]:
        """Show this value, and those that others give for the same gauge, as their sum. Returns what ends it."""
        with self._lock:
            self._watched.setdefault(gauge, []).append(value)

        def unwatch() -> None:
            with self._lock:
                if value in self._watched[gauge]:
                    self._watched[gauge].remove(value)

        return unwatch

    @property
    def _most_at_first(self) -> int:
        """The first note in a process has it look on, where the others are to be told."""
        return 0 if self._is_shared else MOST

    def look(self) -> None:
        """Count what was noted, and read what is watched."""
        self.tally.count()
        with self._lock:
            watched = {gauge: list(values) for gauge, values in self._watched.items()}
        for gauge, values in watched.items():
            gauge.set(sum(value() for value in values))

    def ease(self) -> None:
        """Count what was noted, as often as there is much; from the first time on, others are told every so often."""
        if self._is_shared and not self._is_looking:
            self._keep_looking()
        self.tally.ease()

    def _keep_looking(self) -> None:
        with self._lock:
            if self._is_looking:
                return
            self._is_looking = True
        try:
            threading.Thread(target=self._look_on, name="sseproxy-metrics", daemon=True).start()
        except RuntimeError:  # no thread is left: the next note tries again
            self._is_looking = False
        else:
            self.tally.most = MOST

    def _look_on(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("this process could not tell its metrics; it tries again")
            time.sleep(LOOK)

    def begin_process(self) -> None:
        """In the child of a fork: what its parent noted is its parent's to count, whose threads are not here."""
        self._lock = threading.Lock()
        self._is_looking = False
        self.tally.begin_process(self._most_at_first)

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """Content type and text of all metrics, of all processes that share a directory.

        :param accept: the ``Accept`` header field: Prometheus' text format, or OpenMetrics.
        """
        self.look()
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            registry.register(_Shared())
        encode, content_type = choose_encoder(accept)
        return content_type, encode(registry)


class _Shared:
    """What the processes have counted, without what the application around counts in the same directory."""

    def __init__(self) -> None:
        collector: Any = MultiProcessCollector
        self._all = collector(None)

    def collect(self) -> Iterator[Metric]:
        yield from (metric for metric in self._all.collect() if metric.name.startswith(PREFIX))


@lru_cache(maxsize=1)
def instruments() -> Instruments:
    """Those of this process, made now if nobody has: two with the same names would write over each other's files."""
    directory = os.environ.get(DIRECTORY)
    if directory:
        os.makedirs(directory, exist_ok=True)
    made = Instruments(CollectorRegistry(auto_describe=True))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made.begin_process)
    if directory:
        atexit.register(made.look)  # the other processes tell on what this one has counted
    return made
