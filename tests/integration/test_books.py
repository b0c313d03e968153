"""One request, one charge, whatever ends it; the sum is what the upstream counted."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from tests.harness import SERVERS, RawClient, Upstream, choose, serve, silent, stream
from tests.harness.old_books import make_old_books

from .books import CHAT, KEY, STREAM, Books, config
from .processes import begin, running


def test_charges_add_up_to_the_upstream_s_own_count(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = choose(lambda exchange: stream(tokens=exchange.body["max_tokens"]))
    dice = random.Random(1)
    requests = [
        {**dice.choice([CHAT, STREAM]), "model": dice.choice(["m", "m-2", "fast"]), "max_tokens": dice.randint(1, 40)}
        for _ in range(200)
    ]
    with serve(config(upstream.url, tmp_path)) as proxy:

        def ask(body: dict[str, object]) -> int:
            with RawClient(proxy.url) as client:
                client.post("/v1/chat/completions", body, key=KEY).read_body()
                return client.status

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(ask, requests)) == {200}
    charges = books.charges()

    assert len(charges) == 200
    assert {(row["state"], row["outcome"], row["usage_source"]) for row in charges} == {
        ("settled", "completed", "reported")
    }
    assert sum(row["output_tokens"] for row in charges) == sum(each.tokens for each in upstream.exchanges)
    assert sum(row["input_tokens"] for row in charges) == sum(each.input_tokens for each in upstream.exchanges)
    owed = sum(Decimal(each.input_tokens) + 2 * each.tokens for each in upstream.exchanges) / 10**6
    assert sum(Decimal(row["cost_usd"]) for row in charges) == owed


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("silence", [False, True], ids=["talking", "silent"])
def test_a_client_that_leaves_ends_the_upstream_and_is_charged_once(
    server: str, silence: bool, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=4, fault="hang", after=3) if silence else stream(tokens=5000, interval=0.02)
    with serve(config(upstream.url, tmp_path), server) as proxy:
        with RawClient(proxy.url) as client:
            client.post("/v1/chat/completions", STREAM, key=KEY)
            for _ in range(4):
                client.read_event()
        upstream.wait_for_request().wait_for_peer_close()
        charge = books.one_ended()

    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "client_gone", "counted")
    assert charge["output_tokens"] >= 3
    assert charge["input_tokens"] > 0


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_leaves_before_the_first_byte_ends_the_upstream_too(
    server: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = silent()
    with serve(config(upstream.url, tmp_path), server) as proxy:
        with RawClient(proxy.url) as client:
            client.send("POST", "/v1/chat/completions", CHAT, key=KEY)
            exchange = upstream.wait_for_request()
        exchange.wait_for_peer_close()

        assert books.one_ended()["outcome"] == "client_gone"


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_an_upstream_that_dies_mid_stream_is_an_error_event_and_one_charge(
    fault: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=9, fault=fault, after=4)
    with serve(config(upstream.url, tmp_path)) as proxy, RawClient(proxy.url) as client:
        events = list(client.post("/v1/chat/completions", STREAM, key=KEY).events())
        charge = books.one_ended()

    assert events[-1].json["error"]["type"] == "upstream_truncated"
    assert client.ending == "clean"
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "upstream_failed", "counted")
    assert charge["output_tokens"] > 0


def test_the_charge_is_settled_before_done_leaves(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=2)
    with serve(config(upstream.url, tmp_path)) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", STREAM, key=KEY)
        while (event := client.read_event()) and event.data != b"[DONE]":
            pass

        assert [row["state"] for row in books.charges()] == ["settled"]


def test_a_server_that_is_told_to_stop_settles_what_runs(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=5000, interval=0.02)
    with serve(config(upstream.url, tmp_path)) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", STREAM, key=KEY)
        client.read_event()

        assert proxy.stop() == 0
    assert books.one_ended()["state"] == "settled"


def test_drain_reads_on_to_the_exact_usage(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=60, interval=0.02)
    settings = config(upstream.url, tmp_path)
    settings["accounting"] |= {"client_gone": "drain", "drain_limit": "20s"}
    with serve(settings) as proxy:
        with RawClient(proxy.url) as client:
            client.post("/v1/chat/completions", STREAM, key=KEY).read_event()
        assert upstream.wait_for_request().wait_for_end() == "completed"
        charge = books.one_ended()

    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "reported")
    assert charge["output_tokens"] == upstream.last.tokens == 60


def test_drain_of_an_answer_that_is_not_streamed_reads_on_too(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=7, delay=3)
    settings = config(upstream.url, tmp_path)
    settings["accounting"] |= {"client_gone": "drain"}
    with serve(settings) as proxy:
        with RawClient(proxy.url) as client:
            client.send("POST", "/v1/chat/completions", CHAT, key=KEY)
            upstream.wait_for_request()
        charge = books.one_ended()

    assert (charge["outcome"], charge["usage_source"], charge["output_tokens"]) == ("client_gone", "reported", 7)


def test_drain_ends_at_its_limit(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=9, fault="hang", after=3)
    settings = config(upstream.url, tmp_path)
    settings["accounting"] |= {"client_gone": "drain", "drain_limit": "1s"}
    with serve(settings) as proxy:
        with RawClient(proxy.url) as client:
            client.post("/v1/chat/completions", STREAM, key=KEY).read_event()
        upstream.wait_for_request().wait_for_peer_close()
        charge = books.one_ended()

    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "counted")


def test_after_the_finish_a_hang_up_still_learns_the_reported_usage(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=3, steps=True)
    with serve(config(upstream.url, tmp_path)) as proxy:
        with RawClient(proxy.url) as client:
            client.send("POST", "/v1/chat/completions", STREAM, key=KEY)
            exchange = upstream.wait_for_request()
            exchange.allow(5)  # role, three tokens, finish
            client.read_head()
            for _ in range(5):
                client.read_event()
            client.send_bytes(b"")
        exchange.allow(5)
        charge = books.one_ended()

    assert (charge["usage_source"], charge["output_tokens"]) == ("reported", 3)


@pytest.mark.parametrize("server", [*SERVERS, "workers"])
def test_kill_9_loses_no_charge(server: str, upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=5000, interval=0.02)
    with serve(config(upstream.url, tmp_path), server) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", STREAM, key=KEY).read_event()
        books.wait_for(lambda rows: rows[0]["output_tokens"] > 0)
        proxy.kill()

    charge = books.one_ended()
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("expired", "expired", "counted")
    assert charge["output_tokens"] > 0


@pytest.mark.parametrize("server", ["workers", "gevent"])
def test_books_of_an_earlier_version_are_migrated_before_there_are_workers(
    server: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    make_old_books(f"sqlite:///{tmp_path}/usage.db")
    with running(config(upstream.url, tmp_path), tmp_path, server, workers=2) as process:
        before, _, after = process.log.partition("the ledger is brought from version 0004")
        assert ("Booting worker" in before, "Booting worker" in after) == (False, True)
        begin(process.url).close()
    assert len(books.charges()) == 1
