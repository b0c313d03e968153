"""Answers that survive their connection: joined, re-joined, stopped, forgotten; generated once and charged once."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sseproxy.app import SSEProxyMiddleware, create_app
from sseproxy.streams.memory import MemoryStreams
from tests.harness import (
    PATIENCE,
    SERVERS,
    RawClient,
    RawEvent,
    Upstream,
    raw,
    refuse,
    serve,
    silent,
    stream,
    wait_until,
    waitress_thread,
)

from .books import AT_ONCE, CHAT, KEY, STREAM, Books, config

PATH = "/v1/chat/completions"
EVENTS = {"Accept": "text/event-stream"}
IN_A_BROWSER = {**EVENTS, "Sec-Fetch-Site": "same-origin"}
LATER = {"Prefer": "respond-async"}


@pytest.fixture
def proxied(upstream: Upstream, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that serves a proxy in this process, with these sections."""
    closing: list[Callable[[], object]] = []

    def start(**sections: Any) -> str:
        users = {"alice": {"keys": [KEY]}, "bob": {"keys": ["sk-bob"], **sections.pop("bob", {})}}
        app = create_app(config(upstream.url, tmp_path, **{"users": users, **sections}))
        manager = waitress_thread(app)
        server = manager.__enter__()
        closing.append(lambda: manager.__exit__(None, None, None))
        closing.append(app.close)
        return server.url

    yield start
    for close in reversed(closing):
        close()


def post(url: str, body: Any = STREAM, key: str = KEY, **headers: str) -> tuple[RawClient, list[RawEvent]]:
    """A whole exchange: the client, for its status and headers, and the events."""
    with RawClient(url) as raw:
        raw.post(PATH, body, key=key, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return raw, list(raw.events())


def text_of(events: list[RawEvent]) -> str:
    chunks = [json.loads(event.data) for event in events if event.data != b"[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def test_events_have_ids_for_a_client_that_reads_event_streams_and_for_no_other(
    upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=3)
    url = proxied()
    plain, events = post(url)
    assert [event.id for event in events] == [None] * len(events)
    assert "content-location" not in plain.headers
    named, events = post(url, **EVENTS)
    stream_id = named.headers["content-location"].removeprefix("/-/streams/")
    assert [event.id for event in events] == [f"{stream_id}:{number}" for number in range(1, len(events) + 1)]
    assert all(event.raw.endswith(b"\nid: %b\n\n" % str(event.id).encode()) for event in events)
    assert b"retry" not in b"".join(event.raw for event in events)
    with RawClient(url) as raw:
        events = list(raw.get(named.headers["content-location"], headers=EVENTS).events())
    assert b"\nretry: 1000\nid: " in events[0].raw
    assert b"retry" not in b"".join(event.raw for event in events[1:])


SAFARI = {
    "User-Agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.5 Safari/605.1.15",
    "Cache-Control": "no-cache",
}
CHROMIUM = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
    "Cache-Control": "no-cache",
}
PACKAGE = {"User-Agent": SAFARI["User-Agent"]}
"""As fetch-event-source asks, which takes an event without data for an empty one."""
REACT_NATIVE = {**SAFARI, "X-Requested-With": "XMLHttpRequest"}
"""As react-native-sse asks from a page, which takes the name of an event without data for that of the next one."""


class EventSource:
    """A browser's: its messages. What is not whole when a connection breaks stays in WebKit (its EventSource.cpp)."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.last_id = self._id = self._rest = self._data = self._name = b""

    def feed(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if not line:
                self._dispatch()
            elif field == b"data":
                self._data += value + b"\n"
            elif field == b"event":
                self._name = value
            elif field == b"id":
                self._id = value

    def _dispatch(self) -> None:
        if self._data:
            self.last_id = self._id
            self.messages += [self._data[:-1]] if self._name in (b"", b"message") else []
        self._data = self._name = b""


def test_half_an_event_that_webkit_keeps_behind_a_cut_is_no_part_of_the_next(
    upstream: Upstream, proxied: Callable[..., str]
) -> None:
    text = {"choices": [{"index": 0, "delta": {"content": "two\nlines "}, "finish_reason": None}]}
    upstream.script = raw([b"data: %b\n\n" % json.dumps(text).encode()] * 3 + [b"data: [DONE]\n\n"])
    routes = {"/ask": {"model": "m", "input": {"message": "q"}, "format": "text", "auth": False}}
    url = proxied(routes=routes)
    with RawClient(url) as client:
        whole = list(client.get("/ask?q=Hello", headers={**EVENTS, **SAFARI}).events())
    with RawClient(url) as client:
        anew = client.get("/ask?q=Hello", headers={**EVENTS, **SAFARI}).read_body()
    with RawClient(url) as client:
        again = {**EVENTS, **SAFARI, "Last-Event-ID": whole[0].id or ""}
        rest = client.get("/ask?q=Hello", headers=again).read_body()

    first = anew[: anew.index(b":1\n\n") + 4]  # with what goes before it
    for before, half, after in [(b"", first, anew), (whole[0].raw, whole[1].raw, rest)]:
        for cut in range(len(half)):
            source = EventSource()
            for piece in (before, half[:cut], after):
                source.feed(piece)
            assert source.messages == [event.data for event in whole], half[:cut]
            assert source.last_id.endswith(b":%d" % len(whole))


@pytest.mark.parametrize("who", [CHROMIUM, PACKAGE, REACT_NATIVE, {}])
def test_who_keeps_no_half_of_an_event_gets_events_alone(
    who: dict[str, str], upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=4)
    url = proxied()
    first, events = post(url, **EVENTS)
    with RawClient(url) as client:
        again = {**EVENTS, **who, "Last-Event-ID": events[0].id or ""}
        assert client.get(first.headers["content-location"], headers=again).read_body().startswith(b"data: ")


@pytest.mark.parametrize("place", [0, 1, 3, 5])
def test_a_reader_that_comes_back_gets_what_follows_its_last_event(
    upstream: Upstream, proxied: Callable[..., str], books: Books, place: int
) -> None:
    upstream.script = stream(tokens=4)
    url = proxied()
    first, events = post(url, **EVENTS)
    again = {**EVENTS, "Last-Event-ID": events[place].id or ""}
    with RawClient(url) as raw:
        raw.get(first.headers["content-location"], headers=again)
        assert [event.data for event in raw.events()] == [event.data for event in events[place + 1 :]]
    _, rest = post(url, **again)
    assert [event.data for event in rest] == [event.data for event in events[place + 1 :]]
    assert len(upstream.exchanges) == len(books.charges()) == 1


TYPED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"model": "m", "input": "Hello", "stream": True}),
    ("/v1/messages", {**STREAM, "max_tokens": 5}),
]


@pytest.mark.parametrize(("path", "body"), TYPED)
def test_to_hang_up_is_to_stop_for_a_client_of_a_typed_api_that_accepts_events_and_cannot_come_back(
    path: str, body: dict[str, Any], upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = stream(tokens=50, steps=True)
    with RawClient(proxied(streams={"keep_alone": "10m"})) as raw:
        raw.send("POST", path, body, key=KEY, headers=EVENTS)
        exchange = upstream.wait_for_request()
        exchange.allow(4)
        event = raw.read_head().read_event()
        assert event is not None and event.id is None
        assert "content-location" not in raw.headers
    exchange.wait_for_peer_close(AT_ONCE)
    assert books.one_ended()["outcome"] == "client_gone"


@pytest.mark.parametrize(("path", "body"), TYPED)
@pytest.mark.parametrize("header", [{"Sec-Fetch-Site": "same-origin"}, {"Idempotency-Key": "k"}])
def test_a_page_or_who_names_the_request_comes_back_to_a_typed_stream(
    header: dict[str, str], path: str, body: dict[str, Any], upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=3)
    url = proxied()
    with RawClient(url) as raw:
        events = list(raw.post(path, body, key=KEY, headers={**EVENTS, **header}).events())
    with RawClient(url) as raw:
        last = {**EVENTS, "Last-Event-ID": events[1].id or ""}
        assert [event.data for event in raw.post(path, body, key=KEY, headers=last).events()] == [
            event.data for event in events[2:]
        ]
    assert len(upstream.exchanges) == 1


def test_a_reader_that_has_all_is_told_so_in_the_way_that_ends_it(
    upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=2)
    url = proxied()
    first, events = post(url, **EVENTS)
    again = {**EVENTS, "Last-Event-ID": events[-1].id or ""}
    with RawClient(url) as raw:
        assert raw.get(first.headers["content-location"], headers=again).status == 204
    reposted, rest = post(url, **again)
    assert (reposted.status, rest) == (200, [])
    assert reposted.headers["content-type"].startswith("text/event-stream")


def test_the_answer_goes_on_while_its_client_is_away_and_several_read_it_at_once(
    upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = stream(tokens=6, steps=True)
    url = proxied()
    with RawClient(url) as raw:
        raw.send("POST", PATH, STREAM, key=KEY, headers=EVENTS)
        exchange = upstream.wait_for_request()
        exchange.allow(3)
        raw.read_head()
        seen = [raw.read_event(), raw.read_event()]
        raw.reset()
    exchange.allow(20)
    location = raw.headers["content-location"]
    results: dict[int, list[RawEvent]] = {}

    def read(number: int) -> None:
        headers = {**EVENTS, "Last-Event-ID": seen[1].id if number else ""}  # type: ignore[union-attr,dict-item]
        with RawClient(url) as reader:
            results[number] = list(reader.get(location, headers=headers).events())

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = [event.data for event in results[0]]
    assert text_of(results[0]) == exchange.text
    assert all([event.data for event in results[number]] == whole[2:] for number in (1, 2, 3))
    assert books.one_ended()["outcome"] == "completed"


def test_the_same_key_and_body_join_and_another_body_is_refused(
    upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = stream(tokens=4)
    url = proxied()
    _, events = post(url, Idempotency_Key="k")
    _, again = post(url, Idempotency_Key="k")
    assert [event.raw for event in again] == [event.raw for event in events]
    other, _ = post(url, {**STREAM, "temperature": 1}, Idempotency_Key="k")
    assert other.status == 422
    _, bobs = post(url, key="sk-bob", Idempotency_Key="k")
    assert text_of(bobs) == text_of(events)
    assert len(upstream.exchanges) == len(books.charges()) == 2


def test_a_json_answer_is_generated_once_for_its_key(
    upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    url = proxied()
    bodies = []
    for _ in range(2):
        with RawClient(url) as raw:
            bodies.append(raw.post(PATH, CHAT, key=KEY, headers={"Idempotency-Key": "k"}).read_body())
            assert raw.headers["content-type"] == "application/json"
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["object"] == "chat.completion"
    assert len(upstream.exchanges) == len(books.charges()) == 1


def test_a_refused_request_may_be_tried_again_under_its_key(upstream: Upstream, proxied: Callable[..., str]) -> None:
    url = proxied(upstream={"retries": 0})
    upstream.script = refuse(500, "bad day")
    refused, _ = post(url, Idempotency_Key="k")
    assert refused.status == 500
    upstream.script = stream(tokens=2)
    answered, events = post(url, Idempotency_Key="k")
    assert (answered.status, events[-1].data) == (200, b"[DONE]")


@pytest.mark.parametrize("key", ["x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(proxied: Callable[..., str], key: str, upstream: Upstream) -> None:
    refused, _ = post(proxied(), Idempotency_Key=key)
    assert refused.status == 400
    assert upstream.exchanges == []


def test_an_address_comes_at_once_and_needs_no_key_to_be_read(
    upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = stream(tokens=3, steps=True)
    url = proxied()
    with RawClient(url) as raw:
        raw.post(PATH, STREAM, key=KEY, headers=LATER)
        assert raw.status == 202
        location = raw.headers["location"]
        assert json.loads(raw.read_body())["url"] == location
    upstream.wait_for_request().allow(20)
    with RawClient(url) as raw:
        assert text_of(list(raw.get(location, headers=EVENTS).events())) == upstream.last.text
    assert books.one_ended()["outcome"] == "completed"


@pytest.mark.parametrize(("user", "status"), [("sk-bob", 429), ("sk-nobody", 401)])
def test_what_is_refused_before_it_is_sent_gets_no_address(
    upstream: Upstream, proxied: Callable[..., str], user: str, status: int
) -> None:
    url = proxied(bob={"budget": {"usd": "0.000001", "per": "total"}})
    refused, _ = post(url, key=user, **LATER)
    assert refused.status == status
    assert upstream.exchanges == []


def test_a_failure_is_told_with_its_status_to_whoever_comes_for_the_answer(
    upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = refuse(400, "no such parameter")
    url = proxied()
    accepted, _ = post(url, **LATER)
    assert accepted.status == 202
    for headers, kind in ((EVENTS, "text/event-stream"), ({}, "application/json")):
        with RawClient(url) as raw:
            raw.get(accepted.headers["location"], headers=headers)
            assert (raw.status, raw.headers["content-type"].split(";")[0]) == (400, kind)
            assert b"no such parameter" in raw.read_body()


def test_unknown_foreign_and_malformed_ids_look_the_same(upstream: Upstream, proxied: Callable[..., str]) -> None:
    upstream.script = stream(tokens=1)
    url = proxied()
    first, _ = post(url, **EVENTS)
    answers = set()
    for path in (first.headers["content-location"], f"/-/streams/{'0' * 32}", "/-/streams/x", "/-/streams/"):
        for method in ("GET", "DELETE"):
            with RawClient(url) as raw:
                raw.send(method, path, key="sk-bob").read_head()
                answers.add((raw.status, raw.read_body()))
    assert {status for status, _ in answers} == {404}
    assert len(answers) == 1


def test_wrong_credentials_are_refused_even_with_the_right_id(upstream: Upstream, proxied: Callable[..., str]) -> None:
    upstream.script = stream(tokens=1)
    url = proxied()
    first, _ = post(url, **EVENTS)
    with RawClient(url) as raw:
        assert raw.get(first.headers["content-location"], key="sk-wrong").status == 401


@pytest.mark.parametrize("path", [PATH, "/v1/responses", "/v1/messages"])
def test_delete_hangs_up_on_the_upstream_and_tells_every_reader(
    path: str, upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = stream(tokens=50, steps=True)
    url = proxied()
    with RawClient(url) as raw:
        raw.send("POST", path, {**STREAM, "input": "hi", "max_tokens": 50}, key=KEY, headers=IN_A_BROWSER)
        exchange = upstream.wait_for_request()
        exchange.allow(8)
        raw.read_head()
        while b"delta" not in raw.read_event().data:  # type: ignore[union-attr]
            pass
        with RawClient(url) as other:
            assert other.send("DELETE", raw.headers["content-location"], key=KEY).read_head().status == 204
        exchange.wait_for_peer_close(AT_ONCE)
        events = list(raw.events())
        assert events[-1].json["error"]["code"] == "stream_stopped"
        assert not any(b"upstream_truncated" in event.data for event in events)
    assert books.one_ended()["outcome"] == "client_gone"


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["json", "stream"])
def test_delete_with_the_idempotency_key_stops_an_answer_that_has_not_begun(
    body: dict[str, Any], upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = silent()
    url = proxied()
    name = {"Idempotency-Key": "one"}

    def delete(key: str, headers: dict[str, str]) -> int:
        with RawClient(url) as raw:
            return raw.send("DELETE", "/-/streams/", key=key, headers=headers).read_head().status

    with RawClient(url) as raw:
        raw.send("POST", PATH, body, key=KEY, headers=name)
        exchange = upstream.wait_for_request()
        assert [delete("sk-bob", name), delete(KEY, {"Idempotency-Key": "two"}), delete(KEY, {})] == [404] * 3
        assert delete(KEY, name) == 204
        exchange.wait_for_peer_close(AT_ONCE)
    assert books.one_ended()["outcome"] in ("client_gone", "refused")


def test_an_answer_that_nobody_reads_is_cancelled_after_its_time(
    upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = stream(tokens=50, steps=True)
    url = proxied(streams={"keep_alone": "1s"})
    with RawClient(url) as raw:
        raw.send("POST", PATH, STREAM, key=KEY, headers=EVENTS)
        exchange = upstream.wait_for_request()
        exchange.allow(4)
        raw.read_head().read_event()
    exchange.wait_for_peer_close()
    charge = books.one_ended()
    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "counted")


def test_one_line_is_logged_for_an_answer_that_outlived_its_client(
    upstream: Upstream, proxied: Callable[..., str], books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sseproxy.access")
    upstream.script = stream(tokens=3)
    with RawClient(proxied()) as raw:
        raw.post(PATH, STREAM, key=KEY, headers={**LATER, "X-Request-Id": "mine"})
        raw.read_body()
    books.one_ended()

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "sseproxy.access"]

    wait_until(lambda: lines() != [])
    assert len(lines()) == 1
    assert "id=mine" in lines()[0]
    assert "outcome=completed" in lines()[0]


def test_a_limit_on_streams_counts_an_answer_as_long_as_it_is_generated(
    upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=3, steps=True)
    url = proxied(bob={"limits": {"streams": 1}})
    accepted, _ = post(url, key="sk-bob", **LATER)
    refused, _ = post(url, key="sk-bob", **LATER)
    assert (accepted.status, refused.status) == (202, 429)
    upstream.wait_for_request().allow(20)


def test_an_answer_whose_client_left_while_it_waited_for_a_thread_is_not_begun(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=1, steps=True)
    with serve(config(upstream.url, tmp_path), "gthread", threads=1) as proxy, RawClient(proxy.url) as first:
        first.send("POST", PATH, STREAM, key=KEY)
        running = upstream.wait_for_request()
        for headers in ({}, {"Idempotency-Key": "k"}, LATER, EVENTS):
            with RawClient(proxy.url) as raw:
                raw.send("POST", PATH, STREAM, key=KEY, headers=headers)
        with RawClient(proxy.url) as last:
            last.send("POST", PATH, STREAM, key=KEY, headers={"Idempotency-Key": "k"})
            running.allow(20)
            upstream.wait_for_request(2).allow(20)
            assert text_of(list(last.read_head().events())) == upstream.last.text
    assert len(upstream.exchanges) == 2
    assert [charge["state"] for charge in books.charges()].count("settled") == 2


def test_an_eventsource_that_lost_its_connection_before_its_first_event_does_not_pay_twice(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=3, steps=True)
    routes = {"/ask": {"model": "m", "input": {"message": "q"}, "auth": False}}
    app = create_app(config(upstream.url, tmp_path, routes=routes))
    with contextlib.closing(app), waitress_thread(app) as server:

        def ask() -> RawClient:
            return RawClient(server.url).send("GET", "/ask?q=Hello", headers=EVENTS)

        with ask() as raw:
            exchange = upstream.wait_for_request()
            raw.reset()
        live = app._lasting.streams
        assert isinstance(live, MemoryStreams)
        wait_until(lambda: live.running()[0].is_unheard())
        with ask() as raw:
            wait_until(lambda: not live.running()[0].is_unheard())
            exchange.allow(20)
            assert text_of(list(raw.read_head().events())) == exchange.text
        with ask() as raw:
            upstream.wait_for_request(2).allow(20)
            assert list(raw.read_head().events()), "asked anew, it is answered anew"
    assert len(upstream.exchanges) == len(books.charges()) == 2


@pytest.mark.parametrize("server", SERVERS)
def test_a_waiting_client_is_kept_awake_before_the_upstream_says_anything(
    server: str, upstream: Upstream, tmp_path: Path
) -> None:
    def answer_when_told(exchange: Any) -> None:
        exchange.step()
        stream(tokens=2)(exchange)

    upstream.script = answer_when_told
    settings = config(upstream.url, tmp_path, streams={"keepalive": "1s"})
    with serve(settings, server) as proxy, RawClient(proxy.url) as plain, RawClient(proxy.url) as named:
        plain.send("POST", PATH, STREAM, key=KEY)
        named.send("POST", PATH, STREAM, key=KEY, headers=EVENTS)
        for raw in (plain, named):
            assert raw.read_head().status == 200
        for exchange in upstream.exchanges:
            assert exchange.text == ""
            exchange.allow()
        texts = []
        for raw in (plain, named):
            events = list(raw.events())
            assert raw.comments
            assert events[-1].data == b"[DONE]"
            texts.append(text_of(events))
    assert texts == [exchange.text for exchange in upstream.exchanges]
    assert all(texts)


def test_a_failure_after_the_first_keep_alive_is_an_error_event(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    def late(exchange: Any) -> None:
        exchange.pause(2.5)
        refuse(400, "no such parameter")(exchange)

    upstream.script = late
    settings = config(upstream.url, tmp_path, streams={"keepalive": "1s"})
    with serve(settings, "waitress") as proxy, RawClient(proxy.url) as plain, RawClient(proxy.url) as named:
        plain.send("POST", PATH, STREAM, key=KEY)
        named.send("POST", PATH, STREAM, key=KEY, headers=EVENTS)
        for raw in (plain, named):
            assert raw.read_head().status == 200
            (event,) = raw.events()
            assert "no such parameter" in json.loads(event.data)["error"]["message"]
            assert raw.ending == "clean"
    assert {charge["state"] for charge in books.charges()} == {"released"}


def test_the_id_of_a_stream_is_not_logged(
    upstream: Upstream, proxied: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    upstream.script = stream(tokens=1)
    url = proxied()
    first, events = post(url, **EVENTS)
    location = first.headers["content-location"]
    with RawClient(url) as raw:
        raw.get(location, headers={**EVENTS, "Last-Event-ID": events[0].id or ""}).read_body()
    assert location.removeprefix("/-/streams/") not in caplog.text


def test_an_application_in_this_process_is_closed_in_its_own_thread_when_its_answer_is_stopped(
    tmp_path: Path, books: Books
) -> None:
    closed: list[str] = []
    go_on = threading.Semaphore(2)

    def answer() -> Iterator[bytes]:
        running = threading.current_thread().name
        try:
            while True:
                go_on.acquire()
                yield b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
        finally:
            closed.append("own" if threading.current_thread().name == running else "another")

    def wrapped(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return answer()

    app = SSEProxyMiddleware(wrapped, config("http://unused.invalid/v1", tmp_path))
    with waitress_thread(app) as server, RawClient(server.url) as raw:
        raw.post(PATH, STREAM, key=KEY, headers=EVENTS)
        with RawClient(server.url) as other:
            assert other.send("DELETE", raw.headers["content-location"]).read_head().status == 204
        go_on.release()
        assert json.loads(list(raw.events())[-1].data)["error"]["code"] == "stream_stopped"
    assert books.one_ended()["outcome"] == "client_gone"
    assert closed == ["own"]
    app.close()


def of_the_visitor(raw: RawClient) -> list[str | None]:
    """What an application said to the visitor who asked it, and what it said of its answer."""
    return [raw.headers.get(name) for name in ("set-cookie", "x-user-id", "content-language")]


@pytest.mark.parametrize("status", ["200 OK", "403 FORBIDDEN"])
@pytest.mark.parametrize("asked", [EVENTS, {"Idempotency-Key": "k"}], ids=["events", "key"])
def test_only_the_connection_that_began_an_answer_gets_what_is_for_its_visitor_alone(
    asked: dict[str, str], status: str, tmp_path: Path
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def wrapped(environ: Any, start_response: Any) -> list[bytes]:
        arrived.set()
        go_on.wait(PATIENCE)
        own = [("Set-Cookie", "session=alice"), ("X-User-Id", "secret"), ("Content-Language", "kept")]
        start_response(status, [("Content-Type", "text/event-stream"), *own])
        return [b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n']

    app = SSEProxyMiddleware(wrapped, config("http://unused.invalid/v1", tmp_path))
    with contextlib.closing(app), waitress_thread(app) as server, RawClient(server.url) as first:
        first.send("POST", PATH, STREAM, key=KEY, headers=asked)
        assert arrived.wait(PATIENCE)
        (live,) = app._lasting.streams.running()  # type: ignore[attr-defined]
        with RawClient(server.url) as second, RawClient(server.url) as third:
            second.send("GET", f"/-/streams/{live.id}")
            wait_until(lambda: len(live._readers) == 2)
            go_on.set()
            assert of_the_visitor(first.read_head()) == ["session=alice", "secret", "kept"]
            assert of_the_visitor(second.read_head()) == [None, None, "kept"]
            assert of_the_visitor(third.get(f"/-/streams/{live.id}")) == [None, None, "kept"]
            assert {first.status, second.status, third.status} == {int(status[:3])}


@pytest.mark.parametrize(
    ("asked", "tick"),
    [({}, 0.1), (EVENTS, PATIENCE), ({"Idempotency-Key": "k"}, PATIENCE)],
    ids=["plain", "events", "key"],
)
def test_a_keep_alive_that_begins_the_answer_brings_the_cookies_that_the_application_has_set(
    asked: dict[str, str], tick: float, tmp_path: Path
) -> None:
    go_on = threading.Event()

    def answer() -> Iterator[bytes]:
        while not go_on.wait(tick):
            yield b""
        yield b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    def wrapped(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return answer()

    settings = config("http://unused.invalid/v1", tmp_path, streams={"keepalive": "1s"})
    app = SSEProxyMiddleware(wrapped, settings)
    with contextlib.closing(app), waitress_thread(app) as server, RawClient(server.url) as raw:
        raw.post(PATH, STREAM, key=KEY, headers=asked)
        go_on.set()
        assert text_of(list(raw.events())) == "hi"
        assert raw.headers["set-cookie"] == "b=2"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": "m", "input": "Hello"}),
        ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}),
        ("/v1/completions", {"model": "m", "prompt": "Hello"}),
    ],
)
def test_every_api_s_answer_under_a_key_is_what_it_is_without(
    path: str, body: dict[str, Any], upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=3)
    url = proxied()
    bodies = []
    for headers in ({}, {"Idempotency-Key": "k"}, {"Idempotency-Key": "k"}):
        with RawClient(url) as raw:
            bodies.append(raw.post(path, {**body, "stream": True}, key=KEY, headers=headers).read_body())
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(upstream.exchanges) == 2


def test_a_json_answer_that_takes_its_time_is_json_for_a_client_that_could_read_events_too(
    upstream: Upstream, proxied: Callable[..., str]
) -> None:
    upstream.script = stream(tokens=2, delay=1.5)
    headers = {"Idempotency-Key": "k", "Accept": "application/json, text/event-stream"}
    with RawClient(proxied(streams={"keepalive": "1s"})) as raw:
        raw.post(PATH, CHAT, key=KEY, headers=headers)
        assert raw.headers["content-type"] == "application/json"
        assert json.loads(raw.read_body())["object"] == "chat.completion"


@pytest.mark.parametrize("prefer", ["Respond-Async", "respond-async; x=1", "wait=5, respond-async"])
def test_a_preference_is_known_in_every_spelling(prefer: str, upstream: Upstream, proxied: Callable[..., str]) -> None:
    upstream.script = stream(tokens=1)
    assert post(proxied(), Prefer=prefer)[0].status == 202


def test_an_answer_that_is_stopped_before_the_upstream_said_anything_says_so(
    upstream: Upstream, proxied: Callable[..., str], books: Books
) -> None:
    upstream.script = silent()
    url = proxied()
    accepted, _ = post(url, **LATER)
    location = accepted.headers["location"]
    exchange = upstream.wait_for_request()
    with RawClient(url) as raw, RawClient(url) as other:
        raw.send("GET", location, headers=EVENTS)
        other.send("DELETE", location).read_head()
        exchange.wait_for_peer_close(AT_ONCE)
        assert b'"stream_stopped"' in raw.read_head().read_body()
    assert books.one_ended()["outcome"] == "client_gone"


def test_an_answer_that_waits_for_a_reader_ends_when_the_time_to_go_down_is_over(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=500)
    app = create_app(config(upstream.url, tmp_path, streams={"buffer": "16KiB"}))
    with waitress_thread(app) as server, RawClient(server.url) as asking, RawClient(server.url) as reading:
        asking.post(PATH, STREAM, key=KEY, headers=LATER)
        streams = app._lasting.streams
        assert isinstance(streams, MemoryStreams)
        wait_until(lambda: not streams.running()[0].has_room())
        app.drain(0.0)
        wait_until(lambda: not app.running)
        *_, last = reading.send("GET", asking.headers["location"]).events()
        assert last.json["error"]["code"] == "server_shutting_down"
    assert books.one_ended()["outcome"] == "refused"
    app.close()
