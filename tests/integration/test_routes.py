"""Routes over a real server: pages' own input becomes a chat request upstream, and one charge under its pattern."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

import pytest
import requests
from werkzeug.test import Client, create_environ

from sseproxy import create_app
from sseproxy.ledger.ledger import open_ledger
from tests.harness import PATIENCE, RawClient, Server, Upstream, stream, wait_until, waitress_thread

from .books import KEY, PRICE, Books, config
from .conftest import Enclose
from .test_wrap import flask_app, wrapping

ROUTES: dict[str, Any] = {
    "/chat": {},
    "/open": {"auth": False, "model": "m"},
    "/gpt/<kind>": {
        "methods": ["POST"],
        "model": "fast",
        "prompt": {"prefix": "Be kind.", "client_system": "drop"},
        "input": {"message": "content", "messages": "history"},
    },
    "/say/<q>": {"model": "m", "input": {"message": "q"}},
    "/plain": {"model": "m", "format": "plain"},
    "/envelope": {"model": "m", "format": {"type": "envelope", "event": "delta"}},
    "/other": {"model": "other"},
    "/again/<cid>": {"auth": False, "input": {"path": "cid"}},
}
MODELS = {"m*": {"price": PRICE}, "fast": {"model": "m-fast", "price": PRICE}, "other": {"price": PRICE}}
FORM = "application/x-www-form-urlencoded"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Server]:
    upstream.script = stream(tokens=3)
    users = {"alice": {"keys": [KEY]}, "bob": {"keys": ["sk-bob"], "models": ["m"]}}
    settings = config(
        upstream.url,
        tmp_path,
        routes=ROUTES,
        models=MODELS,
        users=users,
        prompt={"prefix": "House rules.", "users": {"anonymous": {"prefix": ""}}},
        server={"max_body": "2KiB"},
    )
    app = create_app(settings)
    with waitress_thread(app) as running:
        yield running
    app.close()


def sent_messages(upstream: Upstream) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in upstream.last.body["messages"]]


@pytest.mark.parametrize(
    "form",
    [
        {"method": "POST", "json": {"message": "hi", "model": "m"}},
        {"method": "POST", "data": {"message": "hi", "model": "m"}},
        {"method": "POST", "files": {"message": (None, "hi"), "model": (None, "m")}},
        {"method": "GET", "params": {"message": "hi", "model": "m"}},
    ],
    ids=["json", "urlencoded", "multipart", "query"],
)
def test_a_page_s_message_is_answered_in_events_and_charged_once(
    form: dict[str, Any], proxy: Server, upstream: Upstream, books: Books
) -> None:
    answer = requests.request(url=f"{proxy.url}/chat", headers=BEARER, timeout=PATIENCE, **form)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in answer.text
    assert sent_messages(upstream) == [("system", "House rules."), ("user", "hi")]
    assert (upstream.last.method, upstream.last.path) == ("POST", "/v1/chat/completions")
    assert upstream.last.body["stream"] is True
    charge = books.one_ended()
    assert (charge["route"], charge["model"], charge["user"]) == ("/chat", "m", "alice")
    assert (charge["state"], charge["outcome"], charge["output_tokens"]) == ("settled", "completed", 3)


def test_history_prefix_and_model_of_a_route(proxy: Server, upstream: Upstream, books: Books) -> None:
    history = [
        {"role": "system", "content": "Be rude."},
        {"role": "user", "content": "one", "id": 1},
        {"role": "assistant", "content": "two"},
    ]
    for form in ({"json": {"history": history, "content": "three", "model": "m-dear"}},
                 {"data": {"history": json.dumps(history), "content": "three"}}):  # fmt: skip
        assert requests.post(f"{proxy.url}/gpt/summary", headers=BEARER, timeout=PATIENCE, **form).status_code == 200

        turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
        assert sent_messages(upstream) == [("system", "Be kind."), *turns]
        assert upstream.last.body["model"] == "m-fast"
    charges = books.wait_for(lambda rows: [row["state"] for row in rows] == ["settled"] * 2)
    assert {(row["route"], row["model"]) for row in charges} == {("/gpt/<kind>", "fast")}
    assert all(row["prefix_tokens"] > 0 for row in charges)


def test_usage_by_route_has_a_row_for_each_pattern(proxy: Server, tmp_path: Path, books: Books) -> None:
    for word in ("one", "two", "three"):
        requests.get(f"{proxy.url}/say/{word}", headers=BEARER, timeout=PATIENCE)
    requests.get(f"{proxy.url}/chat?message=hi&model=m", headers=BEARER, timeout=PATIENCE)
    books.wait_for(lambda rows: [row["state"] for row in rows] == ["settled"] * 4)

    ledger = open_ledger(f"sqlite:///{tmp_path}/usage.db")
    rows = {row["route"]: row["requests"] for row in ledger.usage("route")}
    ledger.close()

    assert rows == {"/say/<q>": 3, "/chat": 1}


def test_nothing_of_the_query_reaches_upstream_or_log(
    proxy: Server, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        requests.get(f"{proxy.url}/chat?message=SECRETQUERY&model=m", headers=BEARER, timeout=PATIENCE)
        requests.get(f"{proxy.url}/say/SECRETPATH", headers=BEARER, timeout=PATIENCE)
        requests.get(f"{proxy.url}/say/SECRETPATH", timeout=PATIENCE)
        # A line is written when the answer has left.
        wait_until(lambda: len(access_lines(caplog)) == 3, state=lambda: caplog.text)

    assert all("SECRET" not in exchange.path for exchange in upstream.exchanges)
    assert not any("SECRET" in str(exchange.header_list) for exchange in upstream.exchanges)
    paths = [line.split("path=")[1].split()[0] for line in access_lines(caplog)]
    assert sorted(paths) == ["/chat", "/say/<q>", "/say/<q>"]
    assert "SECRET" not in caplog.text


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sseproxy.access"]


def test_a_route_without_auth_is_anonymous_s_and_every_other_asks_for_a_key(
    proxy: Server, upstream: Upstream, books: Books
) -> None:
    def status(path: str, **headers: str) -> int:
        return requests.get(f"{proxy.url}{path}?message=hi&model=m", headers=headers, timeout=PATIENCE).status_code

    assert status("/chat") == 401
    assert status("/open", Authorization="Bearer sk-wrong") == 401
    assert upstream.exchanges == []
    assert status("/open") == 200
    assert sent_messages(upstream) == [("user", "hi")]
    charge = books.one_ended()
    assert (charge["user"], charge["key"], charge["route"]) == ("anonymous", None, "/open")
    assert status("/open", **BEARER) == 200
    assert books.wait_for(lambda rows: len(rows) == 2)
    assert {row["user"] for row in books.charges()} == {"anonymous", "alice"}


@pytest.mark.parametrize(
    ("path", "method", "body", "content_type", "status", "param"),
    [
        ("/chat", "GET", None, "", 400, "model"),
        ("/chat?model=m", "GET", None, "", 400, "message"),
        ("/gpt/x", "POST", b"{}", "application/json", 400, "content"),
        ("/gpt/x", "POST", b'{"content":5}', "application/json", 400, "content"),
        ("/gpt/x", "POST", b'{"content":"a","history":[{}]}', "application/json", 400, "history[0].role"),
        ("/gpt/x", "POST", b"content=a&history=%5B", FORM, 400, "history"),
        ("/gpt/x", "POST", b"content=a&content=b", FORM, 400, "content"),
        ("/gpt/x", "POST", b"content=%FF", FORM, 400, None),
        ("/gpt/x", "POST", b"{", "application/json", 400, None),
        ("/gpt/x", "POST", b"hello", "text/plain", 415, None),
        ("/gpt/x", "POST", b"content=" + b"x" * 3000, FORM, 413, None),
        ("/gpt/x?content=a", "GET", None, "", 405, None),
        ("/gpt/x?content=a", "HEAD", None, "", 405, None),
        ("/chat", "DELETE", None, "", 405, None),
        ("/chat/", "GET", None, "", 404, None),
        ("/other?message=a", "GET", None, "", 404, "model"),
        ("/again/" + "0" * 32, "GET", None, "", 404, None),
    ],
)
def test_a_refusal_names_the_field_and_leaves_no_trace(
    path: str,
    method: str,
    body: bytes | None,
    content_type: str,
    status: int,
    param: str | None,
    proxy: Server,
    upstream: Upstream,
    books: Books,
) -> None:
    headers = {"Authorization": "Bearer sk-bob"} | ({"Content-Type": content_type} if content_type else {})

    answer = requests.request(method, f"{proxy.url}{path}", data=body, headers=headers, timeout=PATIENCE)

    assert answer.status_code == status
    if method != "HEAD":
        assert answer.json()["error"]["param"] == param
    if status == 405:
        assert "POST" in answer.headers["Allow"]
    assert upstream.exchanges == []
    assert books.charges() == []


def test_a_route_answers_in_its_own_format(proxy: Server, upstream: Upstream, books: Books) -> None:
    answer = requests.post(f"{proxy.url}/plain", json={"message": "hi"}, headers=BEARER, timeout=PATIENCE)

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == upstream.last.text
    assert books.one_ended()["outcome"] == "completed"


@pytest.mark.parametrize("names", [True, False])
def test_a_format_s_event_names_are_for_clients_that_read_event_streams(
    names: bool, proxy: Server, upstream: Upstream
) -> None:
    accept = {"Accept": "text/event-stream"} if names else {"Idempotency-Key": "k"}
    with RawClient(proxy.url) as client:
        client.post("/envelope", {"message": "hi"}, key=KEY, headers=accept)
        events = list(client.events())

    assert {event.type for event in events} == {"delta" if names else ""}
    assert "".join(event.json["message"] for event in events[:-1]) == upstream.last.text
    assert json.loads(events[-1].json["data"]) == {"assistantContent": upstream.last.text}


def test_an_event_source_reads_a_route_by_get(proxy: Server) -> None:
    with RawClient(proxy.url) as client:
        client.get(f"/open?{urlencode({'message': 'hi'})}", headers={"Accept": "text/event-stream"})
        events = list(client.events())

        assert client.status == 200
    assert events[-1].data == b"[DONE]"
    assert "".join(event.json["choices"][0]["delta"].get("content") or "" for event in events[:-1])


def test_a_stream_is_read_again_by_the_path_that_names_it_and_by_its_own_without_a_key(
    proxy: Server, upstream: Upstream, books: Books
) -> None:
    headers = {**BEARER, "Prefer": "respond-async"}
    asked = requests.post(f"{proxy.url}/say/hello", headers=headers, timeout=PATIENCE)
    assert asked.status_code == 202
    location = asked.headers["Location"]

    again = requests.get(f"{proxy.url}/again/{location.rpartition('/')[2]}", timeout=PATIENCE)
    own = requests.get(f"{proxy.url}{location}", timeout=PATIENCE)

    assert (again.status_code, own.status_code) == (200, 200)
    assert again.text == own.text
    assert again.text.endswith("data: [DONE]\n\n")
    assert len(upstream.exchanges) == 1
    assert books.one_ended()["route"] == "/say/<q>"


def test_the_list_of_models_and_the_usage_are_as_ever(proxy: Server) -> None:
    assert requests.get(f"{proxy.url}/v1/models", headers=BEARER, timeout=PATIENCE).status_code == 200
    assert requests.get(f"{proxy.url}/-/usage?by=route", headers=BEARER, timeout=PATIENCE).status_code == 200
    assert requests.get(f"{proxy.url}/-/usage", timeout=PATIENCE).status_code == 401


def test_a_wrapped_app_answers_routes_by_its_chat_view(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    routes = {"/ask/<q>": {"model": "m", "prompt": {"prefix": "Word by word"}, "input": {"message": "q"}}}
    client = Client(enclose(flask_app(), wrapping(tmp_path, routes=routes)))

    answer = client.get("/ask/hi?x=1", headers=BEARER)
    text = answer.get_data(as_text=True)

    said = [json.loads(line[6:])["choices"][0]["delta"] for line in text.split("\n") if line.startswith("data: {")]
    assert "".join(delta.get("content") or "" for delta in said) == " Word by word"
    assert books.one_ended()["route"] == "/ask/<q>"
    assert client.get("/page").get_data() == b"a page"
    assert client.get("/ask/hi/").status_code == 404
    assert client.get("/ask/hi").status_code == 401
    assert client.options("/ask/hi").status_code == 404


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "options",
    [
        {"query_string": "message=hi&model=m"},
        {"query_string": "model=m"},
        {"method": "POST", "json": {"message": "hi", "model": "m"}},
        {"method": "POST", "data": {"message": "hi", "model": "m"}},
    ],
)
def test_a_route_keeps_to_pep_3333(
    options: dict[str, Any], upstream: Upstream, tmp_path: Path, enclose: Enclose
) -> None:
    upstream.script = stream(tokens=3)
    wrapped = enclose(validator(flask_app()), wrapping(tmp_path, routes={"/chat": {}}))  # type: ignore[arg-type]
    with closing(create_app(config(upstream.url, tmp_path, routes=ROUTES, models=MODELS))) as proxy:
        for app in (proxy, wrapped):
            environ = create_environ("/chat", headers=BEARER, **options)
            pieces = validator(app)(environ, lambda status, headers, exc_info=None: lambda data: None)  # type: ignore[arg-type]
            list(pieces)
            pieces.close()  # type: ignore[attr-defined]
