"""The controllable upstream itself: what it claims to know must be true."""

from __future__ import annotations

import time

import pytest

from tests.harness import RawClient, Upstream, choose, raw, refuse, refuse_stream_options, silent, stream

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "one two three"}], "stream": True}


def test_it_keeps_the_request_as_it_came(upstream: Upstream) -> None:
    with RawClient(upstream.url) as client:
        client.post(CHAT, ASK, key="sk-x", headers={"X-Odd": "1"}).read_body()
    exchange = upstream.wait_for_request()

    assert exchange.body == ASK
    assert exchange.headers["authorization"] == "Bearer sk-x"
    assert ("X-Odd", "1") in exchange.header_list


def test_it_counts_what_it_produced_and_whether_it_told(upstream: Upstream) -> None:
    upstream.script = stream(tokens=5)
    with RawClient(upstream.url) as client:
        events = list(client.post(CHAT, {**ASK, "stream_options": {"include_usage": True}}).events())
    told = events[-2].json["usage"]
    exchange = upstream.last

    assert exchange.wait_for_end() == "completed"
    assert (exchange.input_tokens, exchange.tokens) == (told["prompt_tokens"], told["completion_tokens"]) == (3, 5)
    assert exchange.usage_sent


def test_usage_is_not_told_unless_asked_or_always(upstream: Upstream) -> None:
    upstream.scripts.extend([stream(tokens=1), stream(tokens=1, usage="always")])
    with RawClient(upstream.url) as client:
        plain = client.post(CHAT, ASK).read_body()
        always = client.post(CHAT, ASK).read_body()

    assert b"usage" not in plain and b"usage" in always
    assert [exchange.usage_sent for exchange in upstream.exchanges] == [False, True]


def test_in_step_mode_an_event_leaves_only_when_the_test_says_so(upstream: Upstream) -> None:
    upstream.script = stream(tokens=2, steps=True)
    with RawClient(upstream.url) as client:
        client.send("POST", CHAT, ASK)
        exchange = upstream.wait_for_request()
        exchange.allow()
        client.read_head().read_event()
        with pytest.raises(TimeoutError):
            client.read_event(timeout=0.1)

        assert len(exchange.sent) == 1
        exchange.allow(10)
        assert [event.data for event in client.events()][-1] == b"[DONE]"


@pytest.mark.parametrize("script", [silent(), stream(steps=True), stream(fault="hang"), stream(interval=0.001)])
@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
def test_a_hang_up_is_noticed_while_silent_and_while_talking(upstream: Upstream, script, leave) -> None:  # type: ignore[no-untyped-def]
    upstream.script = choose(lambda exchange: script)
    with RawClient(upstream.url) as client:
        client.send("POST", CHAT, {**ASK, "max_tokens": 10000})
        exchange = upstream.wait_for_request()
        left = time.monotonic()
        leave(client)

        assert exchange.wait_for_peer_close() >= left
        assert exchange.wait_for_end() == "peer_gone"


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_broken_connection_is_seen_as_cut(upstream: Upstream, fault: str) -> None:
    upstream.script = stream(tokens=5, fault=fault, after=2)
    with RawClient(upstream.url) as client:
        events = list(client.post(CHAT, ASK).events())

        assert client.ending == "cut"
    assert len(events) <= 3
    assert upstream.last.wait_for_end() == fault
    assert upstream.last.tokens == 2


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_raw_bytes_arrive_as_they_are_in_every_framing(upstream: Upstream, framing: str) -> None:
    upstream.script = raw([b"\xff\x00", b"data"], status=418, headers={"X-A": "b"}, framing=framing)
    with RawClient(upstream.url) as client:
        body = client.post(CHAT, ASK).read_body()

        assert (client.status, client.headers["x-a"], client.ending) == (418, "b", "clean")
    assert body == b"\xff\x00data"


def test_a_connection_serves_one_request_after_the_other(upstream: Upstream) -> None:
    with RawClient(upstream.url) as client:
        for _ in range(3):
            assert client.post(CHAT, {**ASK, "stream": False}).read_body().endswith(b"}")

    assert upstream.connections == 1
    assert [exchange.connection for exchange in upstream.exchanges] == [1, 1, 1]


def test_a_refusal_can_name_stream_options(upstream: Upstream) -> None:
    upstream.script = refuse_stream_options(stream(tokens=1))
    with RawClient(upstream.url) as client:
        refused = client.post(CHAT, {**ASK, "stream_options": {"include_usage": True}})
        assert refused.status == 400 and b"stream_options" in client.read_body()

        assert client.post(CHAT, ASK).status == 200


def test_a_refusal_may_have_headers_and_any_body(upstream: Upstream) -> None:
    upstream.script = refuse(503, body=b"<html>", headers={"Retry-After": "3", "Content-Type": "text/html"})
    with RawClient(upstream.url) as client:
        assert client.post(CHAT, ASK).read_body() == b"<html>"
        assert (client.status, client.headers["retry-after"], client.headers["content-type"]) == (503, "3", "text/html")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "m", "prompt": "x"}),
        ("/v1/responses", {"model": "m", "input": "x"}),
        ("/v1/messages", {"model": "m", "messages": ASK["messages"], "max_tokens": 4}),
        ("/v1/embeddings", {"model": "m", "input": "x"}),
    ],
)
def test_it_answers_every_api(upstream: Upstream, path: str, body: dict[str, object]) -> None:
    with RawClient(upstream.url) as client:
        client.post(path, {**body, "stream": True}).read_body()
        assert client.status == 200
        client.post(path, body).read_body()
        assert client.status == 200

    assert upstream.last.wait_for_end() == "completed"


def test_a_bad_body_is_a_400_as_upstreams_do(upstream: Upstream) -> None:
    with RawClient(upstream.url) as client:
        assert client.post(CHAT, b"{").status == 400


def test_a_killed_upstream_resets_every_connection() -> None:
    with Upstream(stream(steps=True)) as upstream, RawClient(upstream.url) as client:
        client.send("POST", CHAT, ASK)
        upstream.wait_for_request().allow()
        client.read_head().read_event()
        upstream.kill()

        assert client.read_event() is None
        assert client.ending == "cut"
        with pytest.raises(ConnectionError):
            RawClient(upstream.url)


def test_a_slow_reader_holds_the_upstream_up(upstream: Upstream) -> None:
    upstream.script = raw([b"x" * 65536] * 1000)
    with RawClient(upstream.url) as client:
        client.send("POST", CHAT, ASK)
        exchange = upstream.wait_for_request()
        exchange.wait_for_sent(1)
        client.read_head()

        assert exchange.outcome == "running"
        assert len(client.read_body()) == 65536 * 1000
