"""``/-/metrics`` says what has happened, of all processes together, in bounded words and without a secret."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from sseproxy import SSEProxyMiddleware, create_app
from sseproxy.demo import app as demo
from tests.harness import (
    PATIENCE,
    Server,
    Upstream,
    free_port,
    raw,
    refuse,
    serve,
    start,
    stream,
    wait_until,
    write_config,
)

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Numbers:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(server: Server) -> Numbers:
    with urlopen(f"{server.url}/-/metrics", timeout=PATIENCE) as answer:
        return read(answer.read().decode())


def total(numbers: Numbers, name: str, **labels: str) -> float:
    """The sum of the samples of that name that have these labels."""
    return sum(value for (each, have), value in numbers.items() if each == name and have >= set(labels.items()))


def values(numbers: Numbers, label: str) -> set[str]:
    return {dict(labels)[label] for _, labels in numbers if label in dict(labels)}


def body(model: str = "m", streamed: bool = True) -> bytes:
    return json.dumps(
        {"model": model, "stream": streamed, "messages": [{"role": "user", "content": "SECRET PROMPT"}]}
    ).encode()


def ask(server: Server, path: str = "/v1/chat/completions", key: str = "sk-secret", **asked: Any) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = Request(server.url + path, body(**asked), headers)
    with contextlib.suppress(OSError, HTTPException), urlopen(request, timeout=PATIENCE) as answer:
        answer.read()


def config(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, "api_key": "sk-upstream", "retries": 1}},
        "models": {"m": {"upstream": "main", "price": {"input": "1", "output": "2"}}, "gpt-*": {"upstream": "main"}},
        "users": {"alice-the-user": {"keys": ["sk-secret"]}},
        "routes": {"/say/<q>": {"methods": ["POST"], "model": "m", "input": {"message": "q"}}},
        "log": {"level": "warning"},
        **more,
    }


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Server]:
    with serve(config(upstream)) as running:
        yield running


def test_it_tells_what_was_answered_charged_and_how_fast(upstream: Upstream, proxy: Server) -> None:
    upstream.script = stream(tokens=20, interval=0.002)
    for _ in range(3):
        ask(proxy)
    ask(proxy, streamed=False)
    wait_until(lambda: total(scrape(proxy), "sseproxy_requests_total", outcome="completed") == 4)
    numbers = scrape(proxy)

    call = {"model": "m", "upstream": "main"}
    made = sum(exchange.tokens for exchange in upstream.exchanges)
    given = sum(exchange.input_tokens for exchange in upstream.exchanges)
    where = {"route": "/v1/chat/completions", "model": "m"}
    assert total(numbers, "sseproxy_requests_total", status="2xx", outcome="completed", **where) == 4
    assert total(numbers, "sseproxy_request_duration_seconds_count", **where) == 4
    assert total(numbers, "sseproxy_tokens_total", kind="output", **call) == made
    assert total(numbers, "sseproxy_tokens_total", kind="input", **call) == given
    assert total(numbers, "sseproxy_cost_usd_total", **call) == pytest.approx((given + 2 * made) / 1e6)
    assert total(numbers, "sseproxy_time_to_first_token_seconds_count", **call) == 3
    assert 3 <= total(numbers, "sseproxy_event_gap_seconds_count", **call) <= 3 * 23
    assert total(numbers, "sseproxy_event_gap_seconds_sum", **call) > 0
    assert total(numbers, "sseproxy_upstream_tries_total", upstream="main", result="answered") == 4
    assert total(numbers, "sseproxy_ledger_duration_seconds_count", operation="settle") == 4
    assert total(numbers, "sseproxy_answers_running") == 0


def test_what_its_own_paths_ask_the_ledger_is_timed_too(proxy: Server) -> None:
    for path in ("/-/ready", "/-/usage"):
        with urlopen(
            Request(proxy.url + path, headers={"Authorization": "Bearer sk-secret"}), timeout=PATIENCE
        ) as page:
            page.read()

    numbers = scrape(proxy)
    for operation in ("ping", "usage"):
        assert total(numbers, "sseproxy_ledger_duration_seconds_count", operation=operation) > 0


def test_running_answers_are_seen_and_a_client_that_left_is_an_outcome(upstream: Upstream, proxy: Server) -> None:
    upstream.script = stream(tokens=1000, interval=0.02)
    headers = {"Authorization": "Bearer sk-secret", "Content-Type": "application/json", "Prefer": "respond-async"}
    with urlopen(Request(f"{proxy.url}/v1/chat/completions", body(), headers), timeout=PATIENCE) as answer:
        location = answer.headers["Location"]
    numbers = scrape(proxy)
    assert total(numbers, "sseproxy_live_streams", state="running") == 1
    assert total(numbers, "sseproxy_answers_running", kind="stream") == 1

    urlopen(Request(proxy.url + location, method="DELETE"), timeout=PATIENCE).close()
    wait_until(lambda: total(scrape(proxy), "sseproxy_requests_total", outcome="client_gone") == 1)
    numbers = scrape(proxy)
    assert total(numbers, "sseproxy_answers_running") == 0
    assert total(numbers, "sseproxy_live_streams", state="running") == 0
    assert total(numbers, "sseproxy_live_streams", state="kept") == 1
    assert total(numbers, "sseproxy_requests_total", route="/-/streams/*", status="2xx") == 1


def test_tries_retries_and_cool_downs_of_an_upstream_are_counted(upstream: Upstream) -> None:
    upstream.script = refuse(503, headers={"Retry-After": "0", "Content-Type": "application/json"})
    with Upstream() as spare:
        settings = config(upstream)
        settings["upstreams"]["spare"] = {"url": spare.url, "api_key": "x"}
        settings["models"]["m"]["upstream"] = ["main", "spare"]
        with serve(settings) as proxy:
            for _ in range(6):
                ask(proxy, streamed=False)
            wait_until(lambda: total(scrape(proxy), "sseproxy_requests_total", outcome="completed") == 6)
            numbers = scrape(proxy)

    assert total(numbers, "sseproxy_upstream_tries_total", upstream="main", result="status_503") == 10
    assert total(numbers, "sseproxy_upstream_tries_total", upstream="spare", result="answered") == 6
    assert total(numbers, "sseproxy_upstream_retries_total", upstream="main", kind="again") == 5
    assert total(numbers, "sseproxy_upstream_retries_total", upstream="spare", kind="elsewhere") == 5
    assert total(numbers, "sseproxy_upstream_cooldowns_total", upstream="main") == 1
    assert total(numbers, "sseproxy_upstream_cooling_down", upstream="main") == 1


def test_after_a_reload_no_upstream_is_left_alone(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = refuse(503)
    ledger = {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/journal"}
    places = {"failing": {"url": upstream.url, "retries": 0}}
    settings = {"upstreams": places, "auth": {"required": False}, "accounting": ledger}
    app = create_app(settings)

    def cooling() -> float:
        text = Client(app).get("/-/metrics", buffered=True).text
        return total(read(text), "sseproxy_upstream_cooling_down", upstream="failing")

    assert cooling() == 0
    for _ in range(5):
        Client(app).post("/v1/chat/completions", data=body(), content_type="application/json", buffered=True)
    assert cooling() == 1
    app.reload(settings)
    assert cooling() == 0
    app.close()


def test_all_below_a_passthrough_path_is_one_route(upstream: Upstream) -> None:
    upstream.script = raw(b"{}", framing="length")
    upstreams = {"main": {"url": upstream.url, "passthrough": ["batches", "batches/*"]}}
    with serve(config(upstream, upstreams=upstreams)) as proxy:
        for path in ("/v1/batches", "/v1/batches/b1", "/v1/batches/b2/cancel"):
            ask(proxy, path=path)
            assert upstream.last.path == path
        for route, number in (("/v1/batches", 1), ("/v1/batches/*", 2)):
            wait_until(lambda: total(scrape(proxy), "sseproxy_requests_total", route=route) == number)  # noqa: B023


def test_whatever_clients_make_up_there_are_few_labels_and_no_secret(upstream: Upstream, proxy: Server) -> None:
    upstream.script = refuse(418, body=b'{"error": {"message": "no", "code": "sk-made-up"}}')
    for number in range(30):
        ask(proxy, model=f"gpt-{number}-made-up", streamed=False)
        ask(proxy, model=f"made-up-{number}")
        ask(proxy, path=f"/made-up/{number}")
        ask(proxy, path=f"/say/made-up-{number}")
        ask(proxy, key=f"sk-made-up-{number}")
    wait_until(lambda: total(scrape(proxy), "sseproxy_requests_total", status="4xx") == 150)
    text = urlopen(f"{proxy.url}/-/metrics", timeout=PATIENCE).read().decode()
    numbers = read(text)

    assert values(numbers, "model") == {"m", "gpt-*", "none"}
    assert values(numbers, "route") == {"/v1/chat/completions", "/say/<q>", "other", "/-/metrics", "/-/health"}
    assert values(numbers, "upstream") == {"main"}
    assert values(numbers, "result") == {"status_418"}
    for secret in ("made-up", "alice", "sk-", "SECRET"):
        assert secret not in text


def test_requests_that_wait_for_a_thread_are_seen(upstream: Upstream) -> None:
    upstream.script = stream(steps=True, tokens=3)
    with serve(config(upstream, server={"threads": 1})) as proxy:
        clients = [threading.Thread(target=ask, args=(proxy,)) for _ in range(2)]
        for client in clients:
            client.start()
        wait_until(lambda: total(scrape(proxy), "sseproxy_server_queue_length") == 1)
        for number in (1, 2):
            upstream.wait_for_request(number).allow(1000)
        for client in clients:
            client.join(PATIENCE)
        assert total(scrape(proxy), "sseproxy_server_queue_length") == 0


@pytest.mark.parametrize("worker_class", ["waitress", "gevent"])
def test_workers_of_gunicorn_count_together_and_one_that_died_runs_nothing(
    upstream: Upstream, tmp_path: Path, worker_class: str
) -> None:
    port, file = free_port(), write_config(config(upstream), tmp_path)
    command = [
        sys.executable, "-m", "sseproxy", "serve", "-c", str(file), "--listen", f"127.0.0.1:{port}",
        "--server", "gunicorn", "--workers", "2", "--worker-class", worker_class,
    ]  # fmt: skip
    (tmp_path / "tmp").mkdir()
    with start(command, port, tmp_path, {"TMPDIR": str(tmp_path / "tmp")}) as proxy:
        wait_until(lambda: len(counting(tmp_path)) == 2 or bool(ask(proxy, streamed=False)))
        asked = len(upstream.exchanges)
        wait_until(lambda: total(scrape(proxy), "sseproxy_requests_total", model="m") == asked)

        upstream.script = stream(tokens=10_000, interval=0.05)
        streams = [threading.Thread(target=ask, args=(proxy,), daemon=True) for _ in range(4)]
        for each in streams:
            each.start()
        wait_until(lambda: total(scrape(proxy), "sseproxy_answers_running", kind="stream") == 4)
        for worker in proxy.workers():
            os.kill(worker, signal.SIGKILL)
        for each in streams:
            each.join(PATIENCE)
        wait_until(lambda: not refused(proxy) and total(scrape(proxy), "sseproxy_answers_running") == 0)
        assert total(scrape(proxy), "sseproxy_requests_total", model="m") == asked
    assert not list((tmp_path / "tmp").glob("sseproxy-metrics-*"))


def counting(directory: Path) -> list[Path]:
    """The files of the processes that have answered for a model."""
    return [
        path
        for path in directory.glob("tmp/sseproxy-metrics-*/counter_*.db")
        if b"sseproxy_tokens" in path.read_bytes()
    ]


def refused(server: Server) -> bool:
    try:
        scrape(server)
    except OSError:
        return True
    return False


def test_two_stacks_in_one_process_count_together(tmp_path: Path) -> None:
    def wrapped(name: str) -> SSEProxyMiddleware:
        ledger = {"ledger": f"sqlite:///{tmp_path}/{name}.db", "journal": f"{tmp_path}/{name}"}
        settings = {"auth": {"required": False}, "models": {"demo": {}}, "accounting": ledger}
        return SSEProxyMiddleware(demo, settings)

    stacks = [wrapped("one"), wrapped("two")]

    def told() -> list[float]:
        texts = [Client(each).get("/-/metrics", buffered=True).text for each in stacks]
        return [total(read(text), "sseproxy_tokens_total", model="demo", upstream="app") for text in texts]

    before = told()
    Client(stacks[0]).post(
        "/v1/chat/completions", data=body("demo", False), content_type="application/json", buffered=True
    )
    after = told()

    assert before[0] == before[1] and after[0] == after[1] > before[0]
    for stack in stacks:
        stack.close()


def test_switched_off_there_is_no_such_path(tmp_path: Path) -> None:
    ledger = {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/journal"}
    app = create_app({"auth": {"required": False}, "metrics": {"enabled": False}, "accounting": ledger})

    assert Client(app).get("/-/metrics").status_code == 404
    app.close()


def test_it_takes_get_only_and_is_never_stored(tmp_path: Path) -> None:
    ledger = {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/journal"}
    app = create_app({"accounting": ledger, "users": {"a": {"keys": ["sk-secret"]}}})
    got, posted = Client(app).get("/-/metrics"), Client(app).post("/-/metrics")

    assert (got.status_code, got.headers["Cache-Control"]) == (200, "no-store")
    assert re.match(r"text/plain; version=\d", got.headers["Content-Type"])
    assert (posted.status_code, posted.headers["Allow"]) == (405, "GET, HEAD")
    assert Client(app).head("/-/metrics").data == b""
    app.close()
