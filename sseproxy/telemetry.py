"""What is observed of a stack, as the sections ``metrics`` and ``tracing`` say: middlewares and wrappers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sseproxy.config import Config, Upstream, find_model
from sseproxy.core.chat import API_PATHS
from sseproxy.ledger.protocol import Ledger
from sseproxy.metrics import (
    REMEMBERED,
    ExchangeRecorder,
    Instruments,
    MetricsEndpoint,
    Named,
    RouteLabels,
    TimedLedger,
    instruments,
)
from sseproxy.middleware.bookkeeper import Bookkeeper
from sseproxy.middleware.joining import PATH as STREAMS
from sseproxy.streams.protocol import Streams
from sseproxy.upstreams import passthrough_paths
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from sseproxy.middleware.tracing import Peer, Tracing

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/: gen_ai.provider.name
VENDORS: Final = {
    "api.anthropic.com": "anthropic",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}


class Telemetry:
    """Counts and traces the stacks of an application, one after the other.

    :raises RuntimeError: what tracing needs is not installed; says what to install.
    """

    def __init__(self, config: Config) -> None:
        self._instruments: Instruments | None = None
        self._tracing: Tracing | None = None
        self._ends: list[Callable[[], object]] = []
        if config.metrics.enabled:
            self._instruments = instruments()
        if config.tracing.enabled:
            from sseproxy.middleware.tracing import Tracing

            self._tracing = Tracing()
            self._ends.append(self._tracing.close)

    def watch(self, bookkeeper: Bookkeeper, streams: Streams) -> None:
        """Tell how many answers run, and how many can be joined again."""
        if self._instruments is not None:
            gauge = self._instruments.running
            live = self._instruments.live_streams
            self._ends += [
                self._instruments.watch(gauge.labels("stream"), lambda: bookkeeper.running(streamed=True)),
                self._instruments.watch(gauge.labels("whole"), lambda: bookkeeper.running(streamed=False)),
                self._instruments.watch(live.labels("running"), lambda: streams.counts()[0]),
                self._instruments.watch(live.labels("kept"), lambda: streams.counts()[1]),
            ]

    def timed(self, ledger: Ledger) -> Ledger:
        """The ledger, with its times written down."""
        return ledger if self._instruments is None else TimedLedger(ledger, self._instruments)

    def cooling(self, upstream: str, cooling: bool) -> None:
        """An upstream is left alone from now on, or not any more."""
        if self._instruments is not None:
            self._instruments.cool_down(upstream, cooling)

    def counting(
        self, config: Config, pattern: Callable[[str], str], paths: Collection[str]
    ) -> Callable[[Exchange, int], object]:
        """What counts each exchange when it is over; it is called with its status too.

        :param pattern: the pattern of a path that is a route, else the path.
        :param paths: of the proxy's own.
        """
        if self._instruments is None:
            return _count_nothing
        known = [*paths, *API_PATHS, "/v1/models", *passthrough_paths(config), *config.routes]
        routes = RouteLabels(known, [STREAMS], pattern, config.wrap.paths)
        models, upstreams = Named(config.models), Named([*config.upstreams, "app"])

        @lru_cache(REMEMBERED)
        def model(name: str) -> str:
            found = find_model(config.models, name)
            return models(found[0] if found is not None else None)

        return ExchangeRecorder(self._instruments, routes.of, model, upstreams).ended

    def told(self, app: WSGIApplication) -> WSGIApplication:
        """The application, and the numbers for who asks."""
        return app if self._instruments is None else MetricsEndpoint(app, self._instruments)

    def traced(self, app: WSGIApplication, config: Config) -> WSGIApplication:
        """The application, with each call of a model in a span."""
        if self._tracing is None:
            return app
        from sseproxy.middleware.tracing import TracingMiddleware

        peers = {name: _peer(section) for name, section in config.upstreams.items()}
        return TracingMiddleware(app, self._tracing.tracer, peers)

    def close(self) -> None:
        """Send what was not sent yet, and count what was not counted yet; the numbers stay."""
        for end in self._ends:
            end()
        if self._instruments is not None:
            self._instruments.look()


def _count_nothing(exchange: Exchange, status: int) -> None:
    pass


def _peer(section: Upstream) -> Peer:
    from sseproxy.middleware.tracing import Peer

    if section.url is None:
        return Peer()
    url = urlsplit(section.url)
    host = url.hostname or ""
    provider = "azure.ai.openai" if section.flavor == "azure" else VENDORS.get(host, "openai")
    return Peer(provider, host, url.port or (443 if url.scheme == "https" else 80))
