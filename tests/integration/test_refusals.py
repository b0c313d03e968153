"""What is refused is told in OpenAI's shape, sent nowhere and charged to nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import openai
import pytest

from sseproxy.ledger.ledger import open_ledger
from tests.harness import RawClient, Server, Upstream, serve

from .books import CHAT, KEY, Books, config


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
    from tests.harness import refuse

    upstream.script = refuse(429, "slow down", headers={"Retry-After": "7"})
    with RawClient(proxy.url) as client:
        client.post("/v1/chat/completions", CHAT, key=KEY)

        assert client.status == 429
        assert client.headers["retry-after"] == "7"
        assert json.loads(client.read_body())["error"]["message"] == "slow down"
    charge = books.one_ended()
    assert (charge["state"], charge["outcome"], charge["cost_usd"]) == ("released", "refused", "0")


def test_the_upstream_s_key_never_reaches_a_client(proxy: Server, upstream: Upstream) -> None:
    from tests.harness import refuse

    upstream.script = refuse(401, "Incorrect API key provided: sk-upstream. See sk-proj-****abcd.")
    with RawClient(proxy.url) as client:
        body = client.post("/v1/chat/completions", CHAT, key=KEY).read_body()

    assert b"sk-" not in body
