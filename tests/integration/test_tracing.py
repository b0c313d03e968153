"""One span for each answer of a model, by the GenAI conventions, between the client's and the upstream's."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, EnvironBuilder, TestResponse

from sseproxy import SSEProxyMiddleware, create_app
from sseproxy.app import Proxy
from sseproxy.demo import app as demo
from sseproxy.wsgi.call import call_app
from tests.harness import PATIENCE, Upstream, raw, refuse, serve, stream, wait_until

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

ROOT = Path(__file__).parent.parent.parent
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Once"}}]}\n\n'
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Traced = Callable[..., Proxy]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What an application's own tracer provider got."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("sseproxy.middleware.tracing.get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def settings(upstream: Upstream, directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, "api_key": "sk-upstream", "retries": 0}},
        "models": {"m": {"upstream": "main", "model": "vendor-m", "price": {"input": "1", "output": "2"}}},
        "users": {"alice": {"keys": ["sk-secret"]}},
        "accounting": {"ledger": f"sqlite:///{directory}/usage.db", "journal": f"{directory}/journal"},
        "tracing": {"enabled": True},
        **more,
    }


@pytest.fixture
def traced(upstream: Upstream, tmp_path: Path) -> Iterator[Traced]:
    made: list[Proxy] = []

    def make(**more: Any) -> Proxy:
        made.append(create_app(settings(upstream, tmp_path, **more)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(app: Any, streamed: bool = True, path: str = "/v1/chat/completions", **headers: str) -> TestResponse:
    asked = {"model": "m", "stream": streamed, "messages": [{"role": "user", "content": "SECRET PROMPT"}]}
    headers = {"Authorization": "Bearer sk-secret", **headers}
    return Client(app).post(path, json={**asked, "input": "SECRET PROMPT"}, headers=headers, buffered=True)


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_is_a_span_between_the_clients_and_the_upstreams(
    upstream: Upstream, traced: Traced, spans: InMemorySpanExporter, streamed: bool
) -> None:
    upstream.script = stream(tokens=7)
    answer = ask(traced(), streamed, traceparent=PARENT, tracestate="vendor=1", **{"X-Request-Id": "abc"})
    span, sent = only(spans), upstream.last
    first = json.loads(answer.text.partition("data: ")[2].splitlines()[0] if streamed else answer.text)

    assert (span.name, span.kind, span.status.status_code) == ("chat vendor-m", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent is not None and span.context is not None
    assert f"00-{span.context.trace_id:032x}-{span.parent.span_id:016x}-01" == PARENT
    assert sent.headers["traceparent"] == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert sent.headers["tracestate"] == "vendor=1"
    attributes = told(span)
    assert attributes.pop("gen_ai.response.time_to_first_chunk", 0) >= 0
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "vendor-m",
        "gen_ai.request.stream": streamed,
        "gen_ai.response.model": first["model"],
        "gen_ai.usage.input_tokens": sent.input_tokens,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "server.address": "127.0.0.1",
        "server.port": int(upstream.url.split(":")[2].split("/")[0]),
        "sseproxy.request_id": "abc",
        "sseproxy.upstream": "main",
        "sseproxy.tries": 1,
        "sseproxy.outcome": "completed",
        "sseproxy.cost_usd": pytest.approx((sent.input_tokens + 14) / 1e6),
    }


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/completions", "text_completion"),
        ("/v1/responses", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/embeddings", "embeddings"),
    ],
)
def test_every_api_has_its_operation_and_says_which_model_answered(
    traced: Traced, spans: InMemorySpanExporter, path: str, operation: str
) -> None:
    asked = {"model": "m", "stream": path != "/v1/embeddings", "prompt": "x", "input": "x", "max_tokens": 5}
    asked["messages"] = [{"role": "user", "content": "x"}]
    headers = {"Authorization": "Bearer sk-secret"}
    assert Client(traced()).post(path, json=asked, headers=headers, buffered=True).status_code == 200

    attributes = told(only(spans))
    assert attributes["gen_ai.operation.name"] == operation
    assert attributes["gen_ai.usage.input_tokens"] >= 1
    if path != "/v1/embeddings":
        assert attributes["gen_ai.response.model"]


def test_a_client_without_a_trace_begins_one(upstream: Upstream, traced: Traced, spans: InMemorySpanExporter) -> None:
    ask(traced(), traceparent="no trace", tracestate="x=1")
    span = only(spans)

    assert span.parent is None and span.context is not None
    assert upstream.last.headers["traceparent"].split("-")[2] == f"{span.context.span_id:016x}"
    assert "tracestate" not in upstream.last.headers


def test_without_tracing_the_clients_trace_is_passed_on(
    upstream: Upstream, traced: Traced, spans: InMemorySpanExporter
) -> None:
    ask(traced(tracing={"enabled": False}), traceparent=PARENT)

    assert upstream.last.headers["traceparent"] == PARENT
    assert spans.get_finished_spans() == ()


def test_nothing_of_the_content_the_user_or_a_key_is_in_a_span(
    upstream: Upstream, traced: Traced, spans: InMemorySpanExporter
) -> None:
    app = traced()
    ask(app)
    text = upstream.last.text
    upstream.script = refuse(400, "SECRET PROMPT is refused for sk-secret")
    ask(app)

    written = "".join(span.to_json() for span in spans.get_finished_spans())
    for secret in ("SECRET", "alice", "sk-secret", "sk-upstream", text[:40]):
        assert secret and secret not in written


@pytest.mark.parametrize(
    ("script", "error", "outcome"),
    [
        (refuse(503), "503", "upstream_failed"),
        (refuse(400, body=b'{"error": {"message": "no", "code": "made_up"}}'), "400", "refused"),
        (stream(tokens=9, fault="cut", after=3), "upstream_truncated", "upstream_failed"),
        (raw([CHUNK, b'data: {"error": {"message": "no", "code": "made_up"}}\n\n']), "error", "upstream_failed"),
    ],
)
def test_a_failure_is_an_error_in_few_words(
    upstream: Upstream, traced: Traced, spans: InMemorySpanExporter, script: Any, error: str, outcome: str
) -> None:
    upstream.script = script
    ask(traced())
    span = only(spans)

    assert span.status.status_code is StatusCode.ERROR
    assert (told(span)["error.type"], told(span)["sseproxy.outcome"]) == (error, outcome)


def test_a_client_that_leaves_is_no_error(upstream: Upstream, traced: Traced, spans: InMemorySpanExporter) -> None:
    upstream.script = stream(tokens=1000, interval=0.01)
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    headers = {"Authorization": "Bearer sk-secret"}
    environ = EnvironBuilder("/v1/chat/completions", method="POST", json=asked, headers=headers).get_environ()
    answer = call_app(traced(), environ)
    next(piece for piece in iter(answer.body) if re.search(rb'"content":"[^"]', piece))
    answer.close()
    span = only(spans)

    assert span.status.status_code is StatusCode.UNSET and "error.type" not in told(span)
    assert told(span)["sseproxy.outcome"] == "client_gone"
    assert told(span)["gen_ai.usage.output_tokens"] > 0


def test_who_answered_in_the_end_is_told(upstream: Upstream, traced: Traced, spans: InMemorySpanExporter) -> None:
    upstream.script = refuse(503)
    with Upstream() as spare:
        places = {"main": {"url": upstream.url, "retries": 0}, "spare": {"url": spare.url}}
        models = {"m": {"upstream": ["main", {"name": "spare", "model": "spare-m"}]}}
        ask(traced(upstreams=places, models=models))
        attributes = told(only(spans))

        assert attributes["server.port"] == int(spare.url.split(":")[2].split("/")[0])
        assert (attributes["sseproxy.upstream"], attributes["sseproxy.tries"]) == ("spare", 2)
        assert (attributes["gen_ai.request.model"], "error.type" in attributes) == ("spare-m", False)


def test_what_limits_refuse_is_a_span_and_what_auth_refuses_is_none(
    traced: Traced, spans: InMemorySpanExporter
) -> None:
    app = traced(users={"alice": {"keys": ["sk-secret"], "limits": {"requests": "1/day"}}})
    assert ask(app, Authorization="Bearer wrong").status_code == 401
    assert [ask(app).status_code, ask(app).status_code] == [200, 429]
    first, second = spans.get_finished_spans()

    assert "error.type" not in told(first)
    assert (told(second)["error.type"], "sseproxy.outcome" in told(second)) == ("429", False)


def test_an_answer_that_outlives_its_client_is_one_span(
    upstream: Upstream, traced: Traced, spans: InMemorySpanExporter
) -> None:
    app = traced()
    first = ask(app, **{"Idempotency-Key": "k"}, traceparent=PARENT)
    second = ask(app, **{"Idempotency-Key": "k"}, traceparent=PARENT)

    assert first.data == second.data
    assert len(upstream.exchanges) == 1
    wait_until(lambda: len(spans.get_finished_spans()) == 1)


def test_a_wrapped_application_gets_the_span_as_the_trace_to_go_on_with(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    given: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        given.append(environ["HTTP_TRACEPARENT"])
        return demo(environ, start_response)

    books = {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/journal"}
    config = {"auth": {"required": False}, "tracing": {"enabled": True}, "accounting": books}
    wrapped = SSEProxyMiddleware(app, config)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    Client(wrapped).post("/v1/chat/completions", json=body, headers={"traceparent": PARENT}, buffered=True)
    wrapped.close()
    span = only(spans)

    assert span.kind is SpanKind.INTERNAL and span.context is not None
    assert given == [f"00-{PARENT.split('-')[1]}-{span.context.span_id:016x}-01"]


class Collector(HTTPServer):
    """An OTLP receiver."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), _Receive)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Receive(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        content = gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content
        self.server.received.append(ExportTraceServiceRequest.FromString(content))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join(PATIENCE)


def test_spans_go_where_the_environment_says_at_the_latest_when_the_server_ends(
    upstream: Upstream, tmp_path: Path, collector: Collector
) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "deployment=test"}
    with serve(settings(upstream, tmp_path), env=environment, directory=tmp_path) as proxy:
        code = ask_over_http(proxy.url)
    assert code == 200

    (resource,) = (each for request in collector.received for each in request.resource_spans)
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (about["service.name"], about["deployment"]) == ("sseproxy", "test")
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["chat vendor-m"]


def ask_over_http(url: str) -> int:
    from urllib.request import Request, urlopen

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    headers = {"Authorization": "Bearer sk-secret", "Content-Type": "application/json"}
    with urlopen(Request(f"{url}/v1/chat/completions", body, headers), timeout=PATIENCE) as answer:
        answer.read()
        return int(answer.status)


@pytest.mark.timeout(5)
def test_a_collector_that_is_away_holds_nothing_up(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    app = traced()
    assert ask(app).status_code == 200
    monkeypatch.setattr("sseproxy.middleware.tracing.LAST_SECONDS", 0.2)
    app.close()


def test_an_exporter_that_is_not_known_is_named(upstream: Upstream, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")

    with pytest.raises(ValueError, match=r"OTEL_TRACES_EXPORTER is 'zipkin'; known here: otlp \(over HTTP\), none"):
        create_app(settings(upstream, tmp_path))


def test_what_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; import sseproxy; "
        "sseproxy.create_app({'tracing': {'enabled': True}})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert "RuntimeError: Tracing needs OpenTelemetry: pip install 'sseproxy[otel]'" in result.stderr
