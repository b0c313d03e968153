"""The canned stream that the proxy offers the doctor: who gets it, what it tells, and that it is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from sseproxy import create_app
from sseproxy.app import Proxy
from sseproxy.core.sse import FLUSH
from sseproxy.probe import AT_ONCE, Plan, read_plan, send

from .middleware.apps import Echo, request

KEY = {"Authorization": "Bearer sk-alice"}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    app = create_app(
        {
            "users": {"alice": {"keys": ["sk-alice"], "limits": {"requests": "1/hour"}}},
            "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
        }
    )
    yield app
    app.close()


@pytest.fixture
def client(proxy: Proxy) -> Client:
    return Client(proxy)


def events_of(body: str) -> list[Any]:
    *told, end = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    assert end == "[DONE]"
    return [json.loads(each) for each in told]


def test_a_probe_sends_the_events_it_was_asked_for_and_tells_when(client: Client) -> None:
    answer = client.get("/-/probe?events=3&pause=0.05&nonce=n1", headers=KEY)

    events = events_of(answer.text)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert [(event["n"], event["of"]) for event in events] == [(1, 3), (2, 3), (3, 3)]
    assert [event["sent_ms"] >= least for event, least in zip(events, (0, 50, 100), strict=True)] == [True] * 3
    assert events[0]["nonce"] == "n1"


def test_a_probe_tells_how_its_request_arrived_and_no_secret(client: Client) -> None:
    answer = client.get("/llm/-/probe?events=1", base_url="http://h/", headers=KEY, environ_overrides={
        "SCRIPT_NAME": "/llm", "PATH_INFO": "/-/probe", "SERVER_PROTOCOL": "HTTP/1.0", "HTTP_LAST_EVENT_ID": "x:1",
    })  # fmt: skip

    told = events_of(answer.text)[0]["request"]
    assert told["protocol"] == "HTTP/1.0"
    assert told["location"] == "/llm/-/probe"
    assert told["arrived"] == ["Authorization", "Last-Event-ID"]
    assert "sk-alice" not in answer.text and "x:1" not in answer.text


def test_keep_alives_fill_its_silence(client: Client) -> None:
    answer = client.get("/-/probe?events=2&pause=0&silence=0.9&keepalive=0.2", headers=KEY)

    assert answer.text.count(": ping\n") >= 2
    assert len(events_of(answer.text)) == 2


def test_without_the_hint_nothing_asks_proxies_not_to_buffer(client: Client) -> None:
    assert client.get("/-/probe?events=1", headers=KEY).headers["X-Accel-Buffering"] == "no"
    assert "X-Accel-Buffering" not in client.get("/-/probe?events=1&hint=0", headers=KEY).headers


def test_a_probe_wants_a_key_and_costs_nothing(proxy: Proxy, client: Client) -> None:
    assert client.get("/-/probe").status_code == 401
    # The user may make one request an hour.
    assert [client.get("/-/probe?events=1", headers=KEY).status_code for _ in range(3)] == [200] * 3
    assert list(proxy.ledger.usage("user")) == []


@pytest.mark.parametrize(
    "query", ["events=0", "events=201", "events=1.5", "pause=x", "pause=-1", "silence=601", "silence=nan", "pad=99999"]
)
def test_what_is_no_bounded_plan_is_refused(client: Client, query: str) -> None:
    answer = client.get(f"/-/probe?{query}", headers=KEY)

    assert answer.status_code == 400
    assert answer.json["error"]["param"] == query.split("=")[0]


def test_a_probe_that_would_last_too_long_is_refused(client: Client) -> None:
    assert client.get("/-/probe?events=200&pause=10", headers=KEY).status_code == 400


def test_other_methods_are_refused(client: Client) -> None:
    answer = client.post("/-/probe", headers=KEY)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_only_a_few_run_at_a_time_and_each_makes_room_when_it_ends(client: Client) -> None:
    def open_probe() -> Any:
        return client.get("/-/probe?silence=600", headers=KEY, buffered=False)

    running = [open_probe() for _ in range(AT_ONCE)]
    refused = client.get("/-/probe", headers=KEY)
    running.pop().close()
    again = client.get("/-/probe?events=1", headers=KEY)

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert again.status_code == 200
    for each in running:
        each.close()


def test_a_tick_comes_often_in_a_silence_so_that_a_client_that_left_is_noticed() -> None:
    naps: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        now[0] += seconds

    plan = Plan(events=2, pause=0, silence=60, keepalive=0, pad=0, hint=True)
    sent = list(send(plan, {}, clock=lambda: now[0], sleep=sleep))

    assert max(naps) <= 0.2
    assert sum(event is FLUSH for event in sent) >= 300


def test_defaults_are_a_short_plan() -> None:
    assert read_plan({}).seconds < 2


def test_every_other_path_is_the_applications() -> None:
    from sseproxy.probe import ProbeEndpoint

    assert request(ProbeEndpoint(Echo()), "GET", "/-/probes").code == 200
