"""Limits on real servers: in one process, in several on one Redis, and whatever ends a stream."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sseproxy.middleware.redis_slots import LEASE
from tests.harness import SERVERS, RawClient, RedisServer, Server, Upstream, serve, stream, wait_until

from .books import CHAT, KEY, STREAM, Books, config

PATH = "/v1/chat/completions"


def limited(upstream: Upstream, directory: Path, store: str = "memory://", **limits: Any) -> dict[str, Any]:
    users = {"alice": {"keys": [KEY], "limits": limits}}
    return config(upstream.url, directory, users=users, limits={"store": store})


def status(proxy: Server, body: dict[str, Any]) -> int:
    with RawClient(proxy.url) as client:
        client.post(PATH, body, key=KEY).read_body()
        return client.status


def wait_for_a_place(proxy: Server) -> None:
    wait_until(lambda: status(proxy, STREAM) == 200)


def let_leases_run_out(redis: RedisServer) -> None:
    """As if the time of one lease had passed in which nobody renewed it."""
    from redis import Redis

    with Redis.from_url(redis.url) as store:
        ((place, ends),) = store.zrange("sseproxy:streams:alice", 0, -1, withscores=True)
        assert ends <= (time.time() + LEASE) * 1000
        store.zincrby("sseproxy:streams:alice", -1000 * LEASE, place)


def test_what_is_refused_reaches_no_upstream_and_no_book(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    with serve(limited(upstream, tmp_path, requests="2/minute", tokens="100000/hour")) as proxy:
        assert [status(proxy, CHAT) for _ in range(2)] == [200, 200]
        with RawClient(proxy.url) as client:
            client.post(PATH, CHAT, key=KEY)

            assert client.status == 429
            assert json.loads(client.read_body())["error"]["code"] == "rate_limit_exceeded"
            assert 0 < int(client.headers["retry-after"]) <= 60
            assert client.headers["x-ratelimit-remaining-requests"] == "0"
            assert client.headers["x-ratelimit-limit-tokens"] == "100000"
        with RawClient(proxy.url) as client:
            told = json.loads(client.get("/-/usage", key=KEY).read_body())["limits"]

    used = sum(row["input_tokens"] + row["output_tokens"] for row in books.charges())
    assert len(upstream.exchanges) == len(books.charges()) == 2
    assert told["requests"]["remaining"] == 0
    assert told["tokens"]["remaining"] == 100_000 - used


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("ending", ["completed", "client_gone", "upstream_failed"])
def test_a_stream_s_place_is_free_again_whatever_ended_it(
    server: str, ending: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.scripts.append(
        stream(tokens=3)
        if ending == "completed"
        else stream(tokens=9, fault="cut", after=4)
        if ending == "upstream_failed"
        else stream(tokens=5000, interval=0.02)
    )
    upstream.script = stream(tokens=2)
    with serve(limited(upstream, tmp_path, streams=1), server) as proxy:
        with RawClient(proxy.url) as client:
            client.post(PATH, STREAM, key=KEY)
            client.read_event()
            if ending == "client_gone":
                assert status(proxy, STREAM) == 429
            else:
                client.read_body()
        wait_for_a_place(proxy)
        assert status(proxy, CHAT) == 200

    assert books.charges()[0]["outcome"] == ending


def test_two_processes_share_their_limits_in_redis(upstream: Upstream, tmp_path: Path, redis: RedisServer) -> None:
    upstream.script = stream(tokens=2)
    settings = limited(upstream, tmp_path, redis.url, requests="5/minute")
    with serve(settings) as one, serve(settings) as two:
        codes = [status(proxy, CHAT) for proxy in (one, two) * 4]

    assert codes == [200] * 5 + [429] * 3


def test_a_killed_process_s_streams_are_free_when_its_lease_is_over(
    upstream: Upstream, tmp_path: Path, redis: RedisServer
) -> None:
    upstream.scripts.append(stream(tokens=5000, interval=0.02))
    upstream.script = stream(tokens=2)
    settings = limited(upstream, tmp_path, redis.url, streams=1)
    with serve(settings) as survivor:
        with serve(settings) as victim, RawClient(victim.url) as client:
            client.post(PATH, STREAM, key=KEY)
            client.read_event()
            victim.kill()
            assert status(survivor, STREAM) == 429
        let_leases_run_out(redis)
        wait_for_a_place(survivor)


def test_without_its_redis_the_proxy_serves_and_is_not_ready(
    upstream: Upstream, tmp_path: Path, redis: RedisServer
) -> None:
    upstream.script = stream(tokens=2)
    with serve(limited(upstream, tmp_path, redis.url, requests="1/minute")) as proxy:
        redis.stop()
        with RawClient(proxy.url) as client:
            assert client.get("/-/ready").status == 503
            assert "limits" in json.loads(client.read_body())["reason"]
        assert [status(proxy, CHAT) for _ in range(2)] == [200, 200]
