"""What is refused is told in the API's own shape, sent nowhere and charged to nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import openai
import pytest

from sseproxy.ledger.ledger import open_ledger
from tests.harness import RawClient, Server, Upstream, raw, refuse, serve

from .books import CHAT, KEY, Books, config

MESSAGE = {**CHAT, "max_tokens": 5}


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Server]:
    with serve(config(upstream.url, tmp_path, server={"max_body": "2KiB"})) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "body", "key", "status"),
    [
        ("POST", "/v1/chat/completions", CHAT, None, 401),
        ("POST", "/v1/chat/completions", CHAT, "sk-wrong", 401),
        ("POST", "/v1/chat/completions", {**CHAT, "model": "unknown"}, KEY, 404),
        ("POST", "/v1/chat/completions", b"{", KEY, 400),
        ("POST", "/v1/chat/completions", {"model": "m"}, KEY, 400),
        ("POST", "/v1/chat/completions", {**CHAT, "user": "x" * 3000}, KEY, 413),
        ("POST", "/v1/images/generations", {"model": "m"}, KEY, 404),
        ("GET", "/v1/chat/completions", None, KEY, 405),
        ("GET", "/other", None, KEY, 404),
    ],
)
def test_a_refusal_has_openai_s_shape_and_leaves_no_trace(
    method: str, path: str, body: Any, key: str | None, status: int, proxy: Server, upstream: Upstream, books: Books
) -> None:
    with RawClient(proxy.url) as client:
        client.send(method, path, body, key=key).read_head()

        assert client.status == status
        error = json.loads(client.read_body())["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert client.headers["x-request-id"]
    assert upstream.exchanges == []
    assert books.charges() == []


def test_revoked_and_expired_keys_are_401_at_once(proxy: Server, tmp_path: Path, upstream: Upstream) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/usage.db")
    now = datetime.now(timezone.utc)
    key, secret = ledger.create_key("carol", now)
    _, expired = ledger.create_key("carol", now, expires_at=now - timedelta(seconds=1))

    def status(secret: str) -> int:
        with RawClient(proxy.url) as client:
            return client.post("/v1/chat/completions", CHAT, key=secret).status

    assert status(secret) == 200
    assert status(expired) == 401
    ledger.revoke_key(key.id, now)
    assert status(secret) == 401
    ledger.close()


def test_openai_python_raises_its_own_errors(proxy: Server) -> None:
    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0)

    with pytest.raises(openai.AuthenticationError):
        client("sk-wrong").chat.completions.create(**CHAT)
    with pytest.raises(openai.NotFoundError):
        client(KEY).chat.completions.create(**{**CHAT, "model": "unknown"})


def test_an_upstream_s_refusal_keeps_its_status_and_is_released(
    proxy: Server, upstream: Upstream, books: Books
) -> None:
    upstream.script = refuse(429, "slow down", headers={"Retry-After": "7"})
    with RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", CHAT, key=KEY)

        assert client.status == 429
        assert client.headers["retry-after"] == "7"
        assert json.loads(client.read_body())["error"]["message"] == "slow down"
    charge = books.one_ended()
    assert (charge["state"], charge["outcome"], charge["cost_usd"]) == ("released", "refused", "0")


@pytest.mark.parametrize(
    ("body", "key", "status", "type"),
    [
        (MESSAGE, "sk-wrong", 401, "authentication_error"),
        ({**MESSAGE, "model": "unknown"}, KEY, 404, "not_found_error"),
        ({**MESSAGE, "metadata": "x" * 3000}, KEY, 413, "request_too_large"),
        (MESSAGE, KEY, 529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["direct", "rejoinable"])
def test_a_refusal_of_messages_has_anthropic_s_shape(
    headers: dict[str, str],
    body: dict[str, Any],
    key: str,
    status: int,
    type: str,
    proxy: Server,
    upstream: Upstream,
) -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    answer = json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()
    upstream.script = refuse(529, body=answer)
    with RawClient(proxy.url) as client:
        client.post("/v1/messages", body, key=key, headers=headers)
        told = json.loads(client.read_body())

    assert client.status == status
    assert (told["type"], told["error"]["type"]) == ("error", type)
    assert told["error"]["message"]
    assert told["request_id"] == ("req_1" if status == 529 else client.headers["x-request-id"])


@pytest.mark.parametrize(("key", "status"), [(KEY, 429), ("sk-wrong", 401)])
def test_codex_reads_a_refusal_as_json_whatever_it_accepts(
    key: str, status: int, proxy: Server, upstream: Upstream
) -> None:
    upstream.script = refuse(429, "Your quota is used up.")
    body = {"model": "m", "input": "hi", "stream": True}
    with RawClient(proxy.url) as client:
        client.post("/v1/responses", body, key=key, headers={"Accept": "text/event-stream"})

        assert (client.status, client.headers["content-type"]) == (status, "application/json")
        assert json.loads(client.read_body())["error"]["message"]


def test_the_upstream_s_key_never_reaches_a_client(proxy: Server, upstream: Upstream) -> None:
    upstream.script = refuse(401, "Incorrect API key provided: sk-upstream. See sk-proj-****abcd.")
    with RawClient(proxy.url) as client:
        body = client.post("/v1/chat/completions", CHAT, key=KEY).read_body()

    assert b"sk-" not in body


def test_no_error_of_a_stream_shows_the_upstream_s_key(proxy: Server, upstream: Upstream) -> None:
    begin = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    error = b'data: {"error":{"message":"Incorrect API key provided: sk-upstream"}}\n\n'
    for body in ([error], [begin, error]):
        upstream.script = raw(body)
        with RawClient(proxy.url) as client:
            shown = client.post("/v1/chat/completions", {**CHAT, "stream": True}, key=KEY).read_body()

        assert b"Incorrect API key provided: [key]" in shown


@pytest.mark.parametrize("server", ["waitress", "gthread"])
def test_chunked_bodies_are_bounded_and_checked_as_others_are(server: str, upstream: Upstream, tmp_path: Path) -> None:
    def status(chunks: bytes) -> int:
        with RawClient(proxy.url) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            client.send_bytes(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            return client.read_head().status

    body = json.dumps(CHAT).encode()
    with serve(config(upstream.url, tmp_path, server={"max_body": "2KiB"}), server) as proxy:
        assert status(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)) == 200
        assert status(b"c00\r\n" + body.ljust(0xC00) + b"\r\n0\r\n\r\n") == 413
        assert status(b"zz\r\n\r\n") == 400


def test_a_head_request_gets_no_body(proxy: Server) -> None:
    with RawClient(proxy.url) as client:
        client.send("HEAD", "/-/health")
        client.send("GET", "/-/health")
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 2 or not answers.endswith(b"}"):
            answers += client._sock.recv(65536)

    assert answers.count(b'{"status":"ok"}') == 1


def test_a_passthrough_s_silent_client_that_leaves_ends_the_upstream(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = raw(b"x", end="hang")
    settings = config(upstream.url, tmp_path, upstream={"passthrough": ["audio/speech"]})
    with serve(settings) as proxy:
        with RawClient(proxy.url) as client:
            client.post("/v1/audio/speech", {"a": 1}, key=KEY)
        upstream.wait_for_request().wait_for_peer_close()

        assert books.one_ended()["outcome"] == "client_gone"
