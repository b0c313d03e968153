"""The whole on its real servers: what a client sees, and when."""

from __future__ import annotations

import json
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.harness import (
    NODE_CLIENTS,
    PATIENCE,
    PYTHON_CLIENTS,
    SERVERS,
    RawClient,
    Upstream,
    raw,
    read_with_node,
    read_with_python,
    refuse_stream_options,
    require_tool,
    serve,
    stream,
)

from .books import CHAT, KEY, STREAM, Books, config

ASKING = {**STREAM, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("server", SERVERS)
def test_the_client_has_event_n_before_the_upstream_sends_the_next(
    server: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = stream(tokens=4, steps=True)
    with serve(config(upstream.url, tmp_path), server) as proxy, RawClient(proxy.url) as client:
        client.send("POST", "/v1/chat/completions", STREAM, key=KEY)
        exchange = upstream.wait_for_request()
        exchange.allow(1)
        client.read_head()
        seen = [client.read_event()]
        for _ in range(5):
            exchange.allow(1)
            seen.append(client.read_event())

        choices = [event.json["choices"][0] for event in seen if event]
        assert exchange.text.startswith("".join(choice["delta"].get("content", "") for choice in choices))
        assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["stop"]
        exchange.allow(10)
        assert [event.data for event in client.events()][-1] == b"[DONE]"
        assert client.ending == "clean"


@pytest.mark.parametrize("server", SERVERS)
def test_every_python_client_reads_stream_and_whole_answer(server: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=5)
    with serve(config(upstream.url, tmp_path), server) as proxy:
        for client in PYTHON_CLIENTS:
            for body in (ASKING, CHAT):
                if client == "stream" and body is CHAT:
                    continue
                reading = read_with_python(client, f"{proxy.url}/v1", body, KEY)

                assert reading.error is None
                assert reading.text == upstream.last.text
                assert reading.usage is not None
                assert reading.usage["completion_tokens"] == 5


def test_every_node_client_reads_the_stream(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=5)
    with serve(config(upstream.url, tmp_path)) as proxy:
        cases = [(client, f"{proxy.url}/v1", ASKING) for client in NODE_CLIENTS]
        for reading in read_with_node(cases, KEY):
            assert reading.error is None
            assert reading.text == upstream.last.text
            assert reading.finish_reason == "stop" or reading.finish_reason == "length"


def test_curl_reads_the_stream(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=3)
    curl = require_tool("curl")
    with serve(config(upstream.url, tmp_path)) as proxy:
        command = [curl, "-sSN", f"{proxy.url}/v1/chat/completions", "-H", f"Authorization: Bearer {KEY}",
                   "-H", "Content-Type: application/json", "-d", json.dumps(STREAM)]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True).stdout

    assert shown.startswith(b"data: {")
    assert shown.endswith(b"data: [DONE]\n\n")
    assert b"usage" not in shown


def test_the_usage_chunk_is_shown_with_its_cost_to_a_client_that_asked(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=5)
    with serve(config(upstream.url, tmp_path)) as proxy, RawClient(proxy.url) as client:
        events = list(client.post("/v1/chat/completions", ASKING, key=KEY).events())

    assert events[-1].data == b"[DONE]"
    chunk = events[-2].json
    assert chunk["choices"] == []
    exchange = upstream.last
    assert chunk["usage"]["prompt_tokens"] == exchange.input_tokens
    assert chunk["usage"]["cost"] == pytest.approx((exchange.input_tokens * 1 + 5 * 2) / 1e6)
    assert not any("usage" in event.json and event.json["usage"] for event in events[:-2])


def test_a_counted_usage_chunk_is_shown_where_the_upstream_reports_none(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=5, usage="never")
    with serve(config(upstream.url, tmp_path)) as proxy, RawClient(proxy.url) as client:
        events = list(client.post("/v1/chat/completions", ASKING, key=KEY).events())

    usage = events[-2].json["usage"]
    assert usage["completion_tokens"] > 0
    assert usage["prompt_tokens"] > 0


@pytest.mark.parametrize("server", SERVERS)
def test_usage_that_comes_last_in_a_compressed_answer_is_what_is_billed(
    server: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"%d "}}]}\n\n' % number for number in range(12)]
    events += [b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"]
    packer = zlib.compressobj(wbits=31)
    flushed = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events]
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1111,"completion_tokens":2222,"total_tokens":3333}}\n\n'
    reads = [part for each in flushed for part in (each[:-4], each[-4:])]  # the latter make nothing
    upstream.script = raw([*reads, packer.compress(usage) + packer.flush()], interval=0.01)
    with serve(config(upstream.url, tmp_path), server) as proxy, RawClient(proxy.url) as client:
        seen = list(client.post("/v1/chat/completions", ASKING, key=KEY).events())

        assert seen[-2].json["usage"]["completion_tokens"] == 2222
        charge = books.one_ended()
        assert (charge["input_tokens"], charge["output_tokens"]) == (1111, 2222)


def test_an_upstream_that_refuses_stream_options_is_asked_without_from_then_on(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = refuse_stream_options(stream(tokens=2))
    with serve(config(upstream.url, tmp_path)) as proxy:
        for _ in range(2):
            with RawClient(proxy.url) as client:
                client.post("/v1/chat/completions", STREAM, key=KEY)
                assert client.status == 200
                assert list(client.events())[-1].data == b"[DONE]"

    asked = ["stream_options" in exchange.body for exchange in upstream.exchanges]
    assert asked == [True, False, False]


def test_the_prefix_and_the_upstream_s_key_go_up_and_the_client_s_key_does_not(
    upstream: Upstream, tmp_path: Path
) -> None:
    sections = {"prompt": {"prefix": "House rules."}}
    with serve(config(upstream.url, tmp_path, **sections)) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", CHAT, key=KEY, headers={"Cookie": "session=secret"})
        client.read_body()

    exchange = upstream.last
    assert exchange.body["messages"][0] == {"role": "system", "content": "House rules."}
    assert exchange.headers["authorization"] == "Bearer sk-upstream"
    assert KEY not in str(exchange.header_list)
    assert "cookie" not in exchange.headers


def test_the_prefix_s_tokens_are_on_the_charge(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    sections = {"prompt": {"prefix": "House rules."}}
    with serve(config(upstream.url, tmp_path, **sections)) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", CHAT, key=KEY).read_body()

        assert books.one_ended()["prefix_tokens"] == 3


def test_connections_to_the_upstream_are_used_again(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=2)
    with serve(config(upstream.url, tmp_path)) as proxy:
        for _ in range(5):
            with RawClient(proxy.url) as client:
                list(client.post("/v1/chat/completions", STREAM, key=KEY).events())

    assert upstream.connections == 1


def test_a_silent_upstream_makes_keep_alives_of_one_newline(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=2, steps=True)
    sections = {"streams": {"keepalive": "1s"}}
    with serve(config(upstream.url, tmp_path, **sections)) as proxy, RawClient(proxy.url) as client:
        client.send("POST", "/v1/chat/completions", STREAM, key=KEY)
        upstream.wait_for_request().allow(1)
        client.read_head()
        client.read_event()

        client.wait_for_bytes(b": ping\n")

        assert b": ping\n" in client.chunks
        assert not any(b"ping" in chunk and b"data" in chunk for chunk in client.chunks)


@pytest.mark.parametrize(
    ("timeouts", "script", "status", "code"),
    [
        ({"first_byte": "300ms"}, stream(delay=30), 504, "upstream_first_byte_timeout"),
        ({"idle": "300ms"}, stream(tokens=5, fault="hang", after=2), 200, "upstream_idle_timeout"),
        ({"total": "300ms"}, stream(tokens=500, interval=0.05), 200, "upstream_total_timeout"),
    ],
)
def test_each_time_out_has_its_own_error(
    timeouts: dict[str, str], script: object, status: int, code: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = script  # type: ignore[assignment]
    settings = config(upstream.url, tmp_path, upstream={"timeout": timeouts})
    with serve(settings) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", STREAM, key=KEY)

        assert client.status == status
        body = client.read_body()
        assert f'"code":"{code}"'.encode() in body
        assert b"[DONE]" not in body


def test_an_address_where_nobody_listens_is_502(tmp_path: Path) -> None:
    with serve(config("http://127.0.0.1:9/v1", tmp_path)) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", CHAT, key=KEY)

        assert client.status == 502
        assert json.loads(client.read_body())["error"]["code"] == "upstream_unreachable"


def test_an_error_before_the_first_event_is_the_response_s_status(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = raw(b'data: {"error":{"message":"overloaded","code":503}}\n\n')
    with serve(config(upstream.url, tmp_path)) as proxy, RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", STREAM, key=KEY)

        assert client.status == 503
        assert json.loads(client.read_body())["error"]["message"] == "overloaded"
