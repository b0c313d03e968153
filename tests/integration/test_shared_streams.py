"""Answers that are read in another process than the one that generates them, and what is said when that one is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from sseproxy.app import SSEProxyMiddleware, create_app
from sseproxy.streams.redis import RedisStreams
from sseproxy.streams.remote import key_of
from tests.harness import RawClient, RedisServer, Upstream, silent, stream, wait_until, waitress_thread

from .books import CHAT, KEY, STREAM, config

PATH = "/v1/chat/completions"
EVENTS = {"Accept": "text/event-stream"}
LATER = {"Prefer": "respond-async"}


class Machine:
    """A proxy, and its store of streams."""

    def __init__(self, app: Any, url: str) -> None:
        self.url = url
        self.streams: RedisStreams = app._lasting.streams

    def die(self) -> None:
        """As a killed process: nothing is renewed any more, and its leases run out."""
        self.streams._stopping.set()
        assert self.streams._watcher is not None
        self.streams._watcher.join()
        for live in self.streams._local.running():
            self.streams._redis.delete(key_of(live.id, "alive"))

    def is_read_elsewhere(self) -> bool:
        """Whether somebody reads what runs here by way of another one."""
        running = self.streams._local.running()
        return any(self.streams._redis.exists(key_of(live.id, "read")) for live in running)


Start = Callable[..., tuple[Machine, Machine]]


@pytest.fixture
def machines(upstream: Upstream, redis: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """A function that starts two proxies that share their streams, with these settings of them."""
    with ExitStack() as stack:

        def start(**settings: str) -> tuple[Machine, Machine]:
            sections = {"users": {"alice": {"keys": [KEY]}}, "streams": {"store": redis.url, **settings}}
            apps = [create_app(config(upstream.url, tmp_path, **sections)) for _ in range(2)]
            servers = [stack.enter_context(waitress_thread(stack.enter_context(closing(app)))) for app in apps]
            first, second = (Machine(app, server.url) for app, server in zip(apps, servers, strict=True))
            return first, second

        yield start


def begin(machine: Machine) -> str:
    """An answer that is generated there; its address."""
    with RawClient(machine.url) as raw:
        return raw.post(PATH, STREAM, key=KEY, headers=LATER).headers["location"]


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["json", "stream"])
def test_whoever_waits_under_a_key_is_answered_anew_when_the_process_that_was_to_answer_dies(
    body: dict[str, Any], upstream: Upstream, machines: Start
) -> None:
    upstream.script = silent()
    dying, other = machines()
    headers = {"Idempotency-Key": "k"}
    with RawClient(dying.url) as first, RawClient(other.url) as second:
        first.send("POST", PATH, body, key=KEY, headers=headers)
        upstream.wait_for_request()
        second.send("POST", PATH, body, key=KEY, headers=headers)
        wait_until(dying.is_read_elsewhere)
        upstream.script = stream(tokens=2)
        dying.die()
        assert second.read_head().status == 200
        assert b"finish_reason" in second.read_body()
    assert len(upstream.exchanges) == 2


def test_whoever_waits_at_an_address_is_told_that_the_process_that_was_to_answer_died(
    upstream: Upstream, machines: Start
) -> None:
    upstream.script = silent()
    dying, other = machines()
    location = begin(dying)
    with RawClient(other.url) as raw:
        raw.send("GET", location)
        wait_until(dying.is_read_elsewhere)
        dying.die()
        assert raw.read_head().status == 503
        assert raw.headers["retry-after"] == "1"
        assert json.loads(raw.read_body())["error"]["code"] == "stream_lost"
    assert len(upstream.exchanges) == 1


def test_whoever_comes_for_the_rest_has_a_head_before_the_process_that_was_to_answer_dies(
    upstream: Upstream, machines: Start
) -> None:
    upstream.script = stream(fault="hang")
    dying, other = machines(keepalive="10m")
    with RawClient(dying.url) as first, RawClient(other.url) as raw:
        event = first.post(PATH, STREAM, key=KEY, headers=EVENTS).read_event()
        assert event is not None
        path, last = first.headers["content-location"], {**EVENTS, "Last-Event-ID": str(event.id)}
        assert raw.get(path, headers=last).status == 200
        dying.die()
        assert b"data" not in raw.read_body()
        assert raw.ending == "cut"
        with RawClient(other.url) as again:
            assert again.get(path, headers=last).status == 404
    assert len(upstream.exchanges) == 1


def test_a_place_that_was_lost_or_never_was_is_refused_in_every_process(upstream: Upstream, machines: Start) -> None:
    upstream.script = stream(tokens=3)
    own, other = machines()
    location = begin(own)
    with RawClient(own.url) as raw:
        events = list(raw.get(location, headers=EVENTS).events())
    stream_id = location.removeprefix("/-/streams/")
    for machine in (own, other):
        with RawClient(machine.url) as raw:
            raw.get(location, headers={**EVENTS, "Last-Event-ID": f"{stream_id}:{len(events) + 1}"})
            assert raw.status == 410
            assert b"stream_position_lost" in raw.read_body()


def test_what_is_for_the_visitor_who_asked_alone_never_gets_to_redis(redis: RedisServer, tmp_path: Path) -> None:
    def wrapped(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("X-Sid", "session=a"), ("Vary", "Cookie")])
        return [b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n']

    app = SSEProxyMiddleware(wrapped, config("http://unused.invalid/v1", tmp_path, streams={"store": redis.url}))
    with closing(app), waitress_thread(app) as server, RawClient(server.url) as raw:
        assert raw.post(PATH, STREAM, key=KEY, headers=EVENTS).headers["x-sid"] == "session=a"
        stream_id = raw.headers["content-location"].removeprefix("/-/streams/")
        kept = app._lasting.streams._redis.hget(key_of(stream_id, "meta"), "head")  # type: ignore[attr-defined]
    assert b"Vary" in kept
    assert b"session" not in kept
