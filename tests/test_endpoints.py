"""endpoints: health and usage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from sseproxy import create_app
from tests.harness import RedisServer, Upstream, stream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Iterator[Client]:
    upstream.script = stream(tokens=2)
    app = create_app(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "models": {"fast": {"model": "m"}, "d*": {}, "m": {"price": {"input": "1", "output": "2"}}},
            "users": {
                "alice": {"keys": ["sk-alice"]},
                "bob": {"keys": ["sk-bob"], "models": ["fast"]},
                "root": {"keys": ["sk-root"], "admin": True},
            },
            "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
        }
    )
    yield Client(app)
    app.close()


def get(client: Client, path: str, key: str = "") -> tuple[int, Any]:
    answer = client.get(path, headers={"Authorization": f"Bearer {key}"} if key else {})
    return answer.status_code, json.loads(answer.get_data())


def use(client: Client, key: str) -> None:
    client.post("/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {key}"}).get_data()


def test_health_and_readiness_need_no_key(client: Client) -> None:
    assert get(client, "/-/health") == (200, {"status": "ok"})
    assert get(client, "/-/ready") == (200, {"status": "ready"})


@pytest.mark.parametrize("section", ["limits", "streams"])
def test_it_is_not_ready_while_a_redis_is_away_and_says_whose(
    section: str, upstream: Upstream, redis: RedisServer
) -> None:
    stores = {section: {"store": redis.url}}
    app = create_app(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "auth": {"required": False},
            "accounting": {"ledger": "sqlite://"},
        }
        | stores
    )
    client = Client(app)
    assert get(client, "/-/ready") == (200, {"status": "ready"})
    redis.stop()
    status, answer = get(client, "/-/ready")
    app.close()

    assert (status, answer["status"]) == (503, "unavailable")
    assert section in answer["reason"].lower()


def test_where_host_names_are_listed_no_path_is_answered_by_another(upstream: Upstream) -> None:
    app = create_app(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "server": {"allowed_hosts": ["llm.example.com"]},
            "auth": {"required": False},
            "accounting": {"ledger": "sqlite://"},
        }
    )
    client = Client(app)
    for path in ("/-/metrics", "/-/chat", "/-/usage"):
        codes = [client.get(path, headers={"Host": host}).status_code for host in ("llm.example.com", "evil.net")]
        assert codes == [200, 403]
    app.close()


def test_usage_needs_a_key(client: Client) -> None:
    assert get(client, "/-/usage")[0] == 401


def test_a_user_sees_their_own_sums_only(client: Client) -> None:
    use(client, "sk-alice")
    use(client, "sk-root")

    status, answer = get(client, "/-/usage", "sk-alice")

    assert status == 200
    assert answer["user"] == "alice"
    (row,) = answer["data"]
    assert (row["model"], row["requests"], row["output_tokens"], row["pending"]) == ("m", 1, 2, 0)
    assert row["cost_usd"] == "0.000005"


def test_a_user_may_not_ask_for_another(client: Client) -> None:
    assert get(client, "/-/usage?user=root", "sk-alice")[0] == 403
    assert get(client, "/-/usage?user=alice", "sk-alice")[0] == 200


def test_an_admin_sees_all_or_one(client: Client) -> None:
    use(client, "sk-alice")
    use(client, "sk-root")

    rows = get(client, "/-/usage", "sk-root")[1]["data"]
    assert sorted(row["user"] for row in rows) == ["alice", "root"]
    (row,) = get(client, "/-/usage?user=alice&by=day", "sk-root")[1]["data"]
    assert row["requests"] == 1
    assert get(client, "/-/usage?since=2999-01-01", "sk-root")[1]["data"] == []


@pytest.mark.parametrize("query", ["by=colour", "since=yesterdayish", "until=x"])
def test_a_bad_query_is_400(query: str, client: Client) -> None:
    assert get(client, f"/-/usage?{query}", "sk-root")[0] == 400


def test_every_answer_carries_a_request_id(client: Client) -> None:
    for path in ("/-/health", "/v1/none", "/-/usage"):
        assert client.get(path).headers["X-Request-Id"]
    assert client.get("/-/health", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
