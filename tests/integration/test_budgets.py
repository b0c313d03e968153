"""Nobody spends more than their budget, however many ask at once, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from sseproxy.ledger.ledger import open_ledger
from tests.harness import RawClient, Server, Upstream, raw, serve, stream
from tests.ledger.conftest import new_database, postgresql, url  # noqa: F401

from .books import CHAT, KEY, STREAM, config

PATH = "/v1/chat/completions"
TOKEN = Decimal(2) / 10**6
"""USD for one token of output."""


def budgeted(upstream: Upstream, directory: Path, ledger: str, usd: Decimal, per: str = "month") -> dict[str, Any]:
    users = {"alice": {"keys": [KEY], "budget": {"usd": str(usd), "per": per}}}
    return config(upstream.url, directory, users=users, accounting={"ledger": ledger})


def spent(ledger: str) -> Decimal:
    books = open_ledger(ledger)
    charges = list(books.charges())
    books.close()
    assert {row["state"] for row in charges} <= {"settled", "released"}
    return sum((Decimal(row["cost_usd"]) for row in charges), Decimal(0))


def ask(proxy: Server, body: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Status and, of a stream, the JSON of its events."""
    with RawClient(proxy.url) as client:
        client.post(PATH, body, key=KEY)
        if client.status != 200 or not body.get("stream"):
            return client.status, [json.loads(client.read_body())]
        return client.status, [event.json for event in client.events() if event.data != b"[DONE]"]


@pytest.mark.parametrize(
    ("body", "limit"), [(CHAT, {"max_tokens": 60}), (STREAM, {})], ids=["whole-limited", "stream-unlimited"]
)
def test_32_at_once_never_settle_above_the_budget_and_one_reservation(
    body: dict[str, Any],
    limit: dict[str, int],
    url: str,  # noqa: F811
    upstream: Upstream,
    tmp_path: Path,
) -> None:
    upstream.script = stream(tokens=60, interval=0.001)
    budget, one = 600 * TOKEN, (limit.get("max_tokens", 4096) + 60) * TOKEN
    settings = budgeted(upstream, tmp_path, url, budget)
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(serve(settings)) for _ in range(2)]
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda number: ask(proxies[number % 2], {**body, **limit}), range(32)))
        # One after the other until nothing is left: refusals stop what concurrency let pass.
        again = [ask(proxies[0], {**body, **limit})[0] for _ in range(12)]

    total = spent(url)
    assert {status for status, _ in answers} <= {200, 429}
    assert sum(status == 200 for status, _ in answers) >= 1
    assert total <= budget + one
    assert total > budget / 2
    assert again[-1] == 429
    for status, (error, *_) in answers:
        if status == 429:
            assert error["error"]["type"] == error["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_stream_that_passes_what_is_left_ends_with_an_error_event(
    path: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = stream(tokens=50_000, interval=0.0002)
    ledger = f"sqlite:///{tmp_path}/usage.db"
    content = {"prompt": "hi"} if path.endswith("/completions") and "chat" not in path else {}
    content |= {"max_tokens": 50_000} if path == "/v1/messages" else {}  # required there
    body = {"model": "m", "stream": True, "input": "hi", **content, "messages": CHAT["messages"]}
    with (
        serve(budgeted(upstream, tmp_path, ledger, 700 * TOKEN)) as proxy,
        RawClient(proxy.url) as client,
    ):
        events = list(client.post(path, body, key=KEY).events())
        exchange = upstream.wait_for_request()
        exchange.wait_for_peer_close()

        error = events[-1].json["error"]
        type = "rate_limit_error" if path == "/v1/messages" else "budget_exceeded"
        assert (error["type"], error["code"]) == (type, "budget_exceeded")
        assert client.ending == "clean"
        assert exchange.tokens < 50_000
        books = open_ledger(ledger)
        (charge,) = books.charges()
        books.close()
        assert (charge["state"], charge["outcome"]) == ("settled", "refused")
        assert charge["usage_source"] in ("counted", "mixed")  # Anthropic's first event reports the input
        assert 600 * TOKEN < Decimal(charge["cost_usd"]) < 720 * TOKEN
        with RawClient(proxy.url) as again:
            again.post(PATH, STREAM, key=KEY)
            assert again.status == 429
            assert "x-should-retry" in again.headers or int(again.headers["retry-after"]) <= 120, "a month may end now"
            assert int(again.headers["retry-after"]) > 0
            assert "USD are left" in json.loads(again.read_body())["error"]["message"]


def typed(body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), json.dumps(body).encode())


def wholes(number: int) -> list[dict[str, Any]]:
    """The output of a response in items of 3 tokens."""
    part = {"type": "output_text", "text": "one two three"}
    return [{"type": "message", "id": f"i{index}", "content": [part]} for index in range(number)]


def test_a_response_told_without_deltas_ends_with_the_budget(upstream: Upstream, tmp_path: Path) -> None:
    items = enumerate(wholes(20_000))
    begun = typed({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "model": "m"}})
    done = [
        typed({"type": "response.output_item.done", "sequence_number": index + 1, "output_index": index, "item": item})
        for index, item in items
    ]
    upstream.script = raw([begun, *done])
    ledger = f"sqlite:///{tmp_path}/usage.db"
    with serve(budgeted(upstream, tmp_path, ledger, 700 * TOKEN)) as proxy, RawClient(proxy.url) as client:
        events = list(client.post("/v1/responses", {"model": "m", "stream": True, "input": "hi"}, key=KEY).events())

    assert events[-1].json["error"]["code"] == "budget_exceeded"
    assert events[-1].json["response"].items() >= {"id": "resp_1", "model": "m", "status": "failed"}.items()
    assert [event.json["sequence_number"] for event in events] == list(range(len(events)))
    assert len(events) < 1000
    assert 600 * TOKEN < spent(ledger) < 720 * TOKEN


def test_an_answer_that_is_all_in_its_last_event_costs_what_it_is_and_nothing_follows_it(
    upstream: Upstream, tmp_path: Path
) -> None:
    completed = {"type": "response.completed", "response": {"status": "completed", "output": wholes(1000)}}
    upstream.script = raw(typed(completed))
    ledger = f"sqlite:///{tmp_path}/usage.db"
    with serve(budgeted(upstream, tmp_path, ledger, 700 * TOKEN)) as proxy, RawClient(proxy.url) as client:
        (event,) = client.post("/v1/responses", {"model": "m", "stream": True, "input": "hi"}, key=KEY).events()

    assert event.json["type"] == "response.completed"
    assert spent(ledger) > 2000 * TOKEN


def test_streams_that_run_at_once_share_what_is_left(url: str, upstream: Upstream, tmp_path: Path) -> None:  # noqa: F811
    upstream.script = stream(tokens=50_000, interval=0.0005)
    budget = 6000 * TOKEN
    with serve(budgeted(upstream, tmp_path, url, budget)) as proxy, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(proxy, STREAM), range(4)))

    assert [(status, events[-1]["error"]["code"]) for status, events in answers] == [(200, "budget_exceeded")] * 4
    assert 0.95 * float(budget) < float(spent(url)) < 1.01 * float(budget)


def test_a_long_stream_goes_on_while_the_budget_lasts_and_holds_nothing_after(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = stream(tokens=5000)
    ledger = f"sqlite:///{tmp_path}/usage.db"
    with serve(budgeted(upstream, tmp_path, ledger, Decimal("0.05"))) as proxy:
        status, events = ask(proxy, STREAM)
        with RawClient(proxy.url) as client:
            told = json.loads(client.get("/-/usage", key=KEY).read_body())["budget"]

    assert (status, "error" in events[-1]) == (200, False)
    assert spent(ledger) > 5000 * TOKEN
    assert told["reserved_usd"] == "0"
    assert Decimal(told["spent_usd"]) == spent(ledger)
    assert Decimal(told["left_usd"]) == Decimal("0.05") - spent(ledger)
    assert told["per"] == "month"
    assert told["renews_at"].endswith("+00:00")


def test_a_spent_prepaid_budget_says_what_is_left_and_that_trying_again_is_in_vain(
    upstream: Upstream, tmp_path: Path
) -> None:
    ledger = f"sqlite:///{tmp_path}/usage.db"
    with serve(budgeted(upstream, tmp_path, ledger, Decimal(0), "total")) as proxy:
        with RawClient(proxy.url) as client:
            client.post(PATH, CHAT, key=KEY)
            assert client.status == 429
            assert "retry-after" not in client.headers
            assert "0 USD are left" in json.loads(client.read_body())["error"]["message"]
        sdk = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=KEY, max_retries=2)
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(**CHAT)

    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert caught.value.code == "insufficient_quota"
    assert upstream.exchanges == []
    assert spent(ledger) == 0


def test_users_who_stand_nowhere_have_the_default_budget_each(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(upstream.url, tmp_path, defaults={"budget": {"usd": "0", "per": "day"}}, auth={"required": False})
    with serve(settings) as proxy:
        with RawClient(proxy.url) as client:
            assert client.post(PATH, CHAT).status == 429
        with RawClient(proxy.url) as client:
            assert client.post(PATH, CHAT, key=KEY).status == 200
