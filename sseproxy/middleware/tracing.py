"""One OpenTelemetry span for each call of a model, without its content. The one file that imports OpenTelemetry.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/; extra ``[otel]``. The ``OTEL_*`` environment variables
configure the exporter, the sampling and the name of this service.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from sseproxy.core.chat import Api
from sseproxy.core.sse import FLUSH, Event
from sseproxy.core.tries import in_few_words
from sseproxy.core.vendor_cost import NANO_PER_USD
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.lane import unseen
from sseproxy.wsgi.stream import EventStream

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import (
        ProxyTracerProvider,
        Span,
        SpanKind,
        StatusCode,
        Tracer,
        get_tracer_provider,
        set_span_in_context,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise RuntimeError("Tracing needs OpenTelemetry: pip install 'sseproxy[otel]'") from error

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OPERATIONS: Final[dict[Api, str]] = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
}
LAST_SECONDS: Final = 3.0
CONTEXT: Final = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE"}
"""https://www.w3.org/TR/trace-context/"""


@dataclass(frozen=True, slots=True)
class Peer:
    """An upstream's vendor and address.

    :ivar provider: the conventions' name of the vendor.
    """

    provider: str = "openai"
    address: str = ""
    port: int = 0


class Tracing:
    """Makes spans with the tracer provider of the surrounding application if there is one, else with its own.

    :raises ValueError: ``OTEL_TRACES_EXPORTER`` names an unsupported exporter.
    """

    def __init__(self) -> None:
        around = get_tracer_provider()
        self._own = _make_provider() if isinstance(around, ProxyTracerProvider) else None
        self.tracer = (self._own or around).get_tracer("sseproxy")

    def close(self) -> None:
        """Send the remaining spans, for a bounded time."""
        if self._own is not None:
            ending = threading.Thread(target=self._own.shutdown, name="sseproxy-tracing", daemon=True)
            ending.start()
            ending.join(LAST_SECONDS)


class TracingMiddleware:
    """Spans each call of a model, and makes the upstream's own spans its children.

    :param peers: the upstreams by name.
    """

    def __init__(self, app: WSGIApplication, tracer: Tracer, peers: Mapping[str, Peer]) -> None:
        self.app = app
        self._tracer = tracer
        self._peers = peers
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        if exchange.billed is None:
            return self.app(environ, start_response)
        call = _Call(self._begin(environ, exchange), exchange, self._peers)
        exchange.when_reserved.append(call.reserved)
        exchange.when_booked.append(call.booked)
        try:
            answer = call_app(self.app, environ)
        except BaseException as error:
            call.failed(type(error).__name__)
            raise
        call.answered(answer)
        return answer(environ, start_response)

    def _begin(self, environ: WSGIEnvironment, exchange: Exchange) -> Span:
        """Start the span, as a child of the client's if it sent one, and pass it to the upstream as the parent."""
        request, target = exchange.billed, exchange.target
        assert request is not None
        peer = self._peers.get(target.upstream if target is not None else "", Peer())
        operation = OPERATIONS[request.api]
        given = {name: environ[key] for name, key in CONTEXT.items() if key in environ}
        span = self._tracer.start_span(
            f"{operation} {request.model}",
            self._propagator.extract(given),
            SpanKind.CLIENT if peer.address else SpanKind.INTERNAL,
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": peer.provider,
                "gen_ai.request.model": request.model,
                "gen_ai.request.stream": request.stream,
                "sseproxy.request_id": exchange.request_id,
            },
        )
        self._propagate(environ, span)
        return span

    def _propagate(self, environ: WSGIEnvironment, span: Span) -> None:
        ours: dict[str, str] = {}
        self._propagator.inject(ours, set_span_in_context(span))
        for name, key in CONTEXT.items():
            environ.pop(key, None)
            if name in ours:
                environ[key] = ours[name]


class _Call:
    """The span of one call. It ends when the charge is booked, or at the refusal of a request that was never
    charged."""

    def __init__(self, span: Span, exchange: Exchange, peers: Mapping[str, Peer]) -> None:
        self._span: Span | None = span
        self._exchange = exchange
        self._peers = peers
        self._reserved = False
        self._booked = False
        self._answered = False

    def reserved(self) -> None:
        self._reserved = True

    def booked(self) -> None:
        self._booked = True
        if self._answered:
            self._end()

    def failed(self, error: str) -> None:
        self._end(error)

    def answered(self, answer: Answer) -> None:
        """Note the response: its head, and unless it is a stream the whole body."""
        self._answered = True
        if answer.code >= 400 and not self._reserved:
            self._end(str(answer.code))
        elif self._booked:
            if answer.code < 400 and isinstance(answer.body, list):
                self._read_model(b"".join(answer.body))
            self._end()
        elif isinstance(answer.body, EventStream):
            answer.body.pipe(partial(_tell_first, tell=self._read_model), unseen)

    def _read_model(self, data: bytes) -> None:
        model = _model_in(data)
        if model and self._span is not None:
            self._span.set_attribute("gen_ai.response.model", model)

    def _end(self, error: str = "") -> None:
        span, self._span = self._span, None
        if span is None:
            return
        exchange = self._exchange
        error = error or _error_of(exchange)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        self._describe_target(span)
        if exchange.outcome:
            span.set_attribute("sseproxy.outcome", exchange.outcome)
            span.set_attribute("sseproxy.cost_usd", exchange.cost / NANO_PER_USD)
        if exchange.first_token_ms is not None and exchange.billed is not None and exchange.billed.stream:
            span.set_attribute("gen_ai.response.time_to_first_chunk", exchange.first_token_ms / 1000)
        if (usage := exchange.usage) is not None:
            span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
            span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens)
            span.set_attribute("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_tokens)
            span.set_attribute("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens)
        span.end()

    def _describe_target(self, span: Span) -> None:
        """Add the upstream that answered, which need not be the first that was tried."""
        target = self._exchange.target
        if target is None:
            return
        peer = self._peers.get(target.upstream, Peer())
        span.set_attribute("sseproxy.upstream", target.upstream)
        span.set_attribute("sseproxy.tries", len(self._exchange.tries))
        span.set_attribute("gen_ai.provider.name", peer.provider)
        if target.model:
            span.set_attribute("gen_ai.request.model", target.model)
        if peer.address:
            span.set_attribute("server.address", peer.address)
            span.set_attribute("server.port", peer.port)


class _Named(msgspec.Struct):
    model: str = ""


class _Model(_Named):
    """The places of the model's name in an answer, or in its first event."""

    response: _Named | None = None
    message: _Named | None = None


_decoder = msgspec.json.Decoder(_Model)


def _model_in(data: bytes) -> str:
    try:
        told = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return next((each.model for each in (told, told.response, told.message) if each and each.model), "")


def _tell_first(events: Iterator[Event], *, tell: Callable[[bytes], None]) -> Iterator[Event]:
    for event in events:
        if event is not FLUSH:
            tell(event.data)
            yield event
            break
        yield event
    yield from events


def _error_of(exchange: Exchange) -> str:
    """A low-cardinality name of the error; empty if there was none. A client that left is no error of the call."""
    if exchange.outcome not in ("upstream_failed", "refused"):
        return ""
    last = exchange.tries[-1] if exchange.tries else None
    if last is not None and last.error is not None:
        return last.result.removeprefix("status_")
    return in_few_words(exchange.failure) if exchange.failure else exchange.outcome


def _make_provider() -> TracerProvider:
    """As configured by the environment (https://opentelemetry.io/docs/languages/sdk-configuration/)."""
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "sseproxy"}))
    provider = TracerProvider(resource=resource)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter == "otlp":
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    elif exporter != "none":
        raise ValueError(f"OTEL_TRACES_EXPORTER is {exporter!r}; known here: otlp (over HTTP), none")
    return provider
