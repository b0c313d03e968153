"""The database goes away and comes back under a running proxy: refused or served, the books are right afterwards."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from sseproxy import create_app
from sseproxy.ledger import engine
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import LedgerUnavailable
from tests.harness import RawClient, Server, Upstream, stream, waitress_thread

from .books import KEY, STREAM, Books, config
from .processes import running

PATH = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer gives up on a locked database at once."""
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)


@contextmanager
def proxy_for(upstream: Upstream, tmp_path: Path, on_ledger_down: str, **sections: Any) -> Iterator[Server]:
    settings = config(upstream.url, tmp_path, **sections)
    settings["accounting"] |= {"on_ledger_down": on_ledger_down, "journal": f"{tmp_path}/usage.journal"}
    app = create_app(settings)
    try:
        with waitress_thread(app) as server:
            yield server
    finally:
        app.close()


@contextmanager
def locked(tmp_path: Path) -> Iterator[None]:
    """Nobody can write to the ledger, nor read it."""
    holder = sqlite3.connect(f"{tmp_path}/usage.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def ask(server: Server, body: dict[str, Any] = STREAM, key: str = KEY) -> tuple[int, bytes]:
    with RawClient(server.url) as client:
        return client.post(PATH, body, key=key).status, client.read_body()


def readiness(server: Server) -> int:
    with RawClient(server.url) as client:
        return client.get("/-/ready").status


def test_requests_are_refused_while_the_ledger_is_away(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    with proxy_for(upstream, tmp_path, "refuse") as server:
        with locked(tmp_path), RawClient(server.url) as client:
            client.post(PATH, STREAM, key=KEY)
            body = client.read_body()
            assert readiness(server) == 503

        assert readiness(server) == 200
        assert (client.status, client.headers["retry-after"]) == (503, "5")
        assert json.loads(body)["error"]["code"] == "ledger_unavailable"
        assert upstream.exchanges == []
        assert ask(server)[0] == 200
    assert [row["outcome"] for row in books.charges()] == ["completed"]


def test_a_stream_that_ends_while_the_ledger_is_away_is_settled_later(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=3, steps=True)
    with proxy_for(upstream, tmp_path, "refuse") as server, RawClient(server.url) as client:
        client.send("POST", PATH, STREAM, key=KEY)
        exchange = upstream.wait_for_request()
        with locked(tmp_path):
            exchange.allow(100)
            client.read_head()
            assert client.read_body().endswith(b"data: [DONE]\n\n")
        assert (tmp_path / "usage.journal").stat().st_size > 0

        charge = books.one_ended()

    assert (charge["state"], charge["outcome"], charge["output_tokens"]) == ("settled", "completed", 3)
    assert (tmp_path / "usage.journal").read_bytes() == b""


def test_requests_are_served_while_the_ledger_is_away_and_booked_later(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=3)
    with proxy_for(upstream, tmp_path, "serve") as server:
        with locked(tmp_path):
            assert [ask(server)[0] for _ in range(5)] == [200] * 5
            assert readiness(server) == 200
        charges = books.wait_for(lambda rows: len(rows) == 5 and all(row["state"] == "settled" for row in rows))

    assert {(row["outcome"], row["usage_source"], row["output_tokens"]) for row in charges} == {
        ("completed", "reported", 3)
    }


def test_a_token_lets_in_while_the_ledger_that_keeps_keys_is_away(upstream: Upstream, tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    with proxy_for(upstream, tmp_path, "serve", auth={"jwt": {"secret": secret}}) as server, locked(tmp_path):
        assert ask(server)[0] == 200, "this one found out that the ledger is away"
        assert ask(server, key=jwt.encode({"sub": "bob"}, secret))[0] == 200


def test_what_is_left_in_the_journal_is_the_next_start_s(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=3)
    with locked_for_a_whole_life(tmp_path), proxy_for(upstream, tmp_path, "serve") as server:
        assert ask(server)[0] == 200

    with proxy_for(upstream, tmp_path, "refuse"):
        assert books.one_ended()["state"] == "settled"


def test_gunicorn_begins_to_serve_though_books_cannot_be_opened(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "usage.db").write_bytes(b"This is a text, and a long one at that. " * 100)
    settings = config(upstream.url, tmp_path)
    settings["accounting"] |= {"on_ledger_down": "serve", "journal": f"{tmp_path}/usage.journal"}
    with running(settings, tmp_path, "workers") as server:
        assert (readiness(server), ask(server)[0]) == (200, 200)


@contextmanager
def locked_for_a_whole_life(tmp_path: Path) -> Iterator[None]:
    open_ledger(f"sqlite:///{tmp_path}/usage.db").close()
    with locked(tmp_path):
        yield


@pytest.mark.parametrize("on_ledger_down", ["refuse", "serve"])
def test_a_key_that_nobody_can_look_up_now_is_503_and_not_401(
    on_ledger_down: str, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise LedgerUnavailable

    with proxy_for(upstream, tmp_path, on_ledger_down) as server:
        monkeypatch.setattr(SQLLedger, "find_key", away)

        assert ask(server)[0] == 200
