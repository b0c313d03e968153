"""listing: what a caller may ask for, from the configuration and from upstreams of every temper."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from sseproxy import create_app
from sseproxy.app import Proxy
from tests.harness import PATIENCE, Upstream, stream

Start = Callable[[Callable[..., Any]], Client]
ROWS = b'{"data":[{"id":"demo"},{"id":"demo-large"},{"id":7},"x",{"id":"other"}]}'


def get(client: Client, path: str, key: str = "sk-alice") -> tuple[int, Any]:
    answer = client.get(path, headers={"Authorization": f"Bearer {key}"})
    return answer.status_code, json.loads(answer.get_data())


def names(client: Client, key: str = "sk-alice") -> list[str]:
    return [row["id"] for row in get(client, "/v1/models", key)[1]["data"]]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], Proxy]]:
    """Makes a proxy in front of one upstream."""
    made: list[Proxy] = []

    def make(upstream: dict[str, Any]) -> Proxy:
        settings = {
            "upstreams": {"main": upstream},
            "models": {"fast": {"model": "m"}, "d*": {}, "m": {"price": {"input": "1", "output": "2"}}},
            "users": {"alice": {"keys": ["sk-alice"]}, "bob": {"keys": ["sk-bob"], "models": ["fast"]}},
            "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
        }
        made.append(create_app(settings))
        return made[-1]

    yield make
    for app in made:
        app.close()


@pytest.fixture
def client(upstream: Upstream, proxy: Callable[[dict[str, Any]], Proxy]) -> Client:
    upstream.script = stream(tokens=2)
    return Client(proxy({"url": upstream.url}))


@pytest.fixture
def start(proxy: Callable[[dict[str, Any]], Proxy]) -> Start:
    """Makes a client of a proxy in front of an application of this process."""
    return lambda app: Client(proxy({"wsgi": app}))


def test_models_are_the_configured_names_and_what_patterns_admit(client: Client) -> None:
    assert names(client) == ["fast", "m", "demo", "demo-large"]  # the upstream lists demo and demo-large


def test_what_each_upstream_of_a_pattern_lists_is_listed_once(upstream: Upstream, tmp_path: Path) -> None:
    def other(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [ROWS]

    settings = {
        "upstreams": {"main": {"url": upstream.url}, "spare": {"wsgi": other}},
        "models": {"fast": {"upstream": ["main", "spare"], "model": "m"}, "*": {"upstream": ["main", "spare"]}},
        "users": {"alice": {"keys": ["sk-alice"]}},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
    }
    app = create_app(settings)
    try:
        assert names(Client(app)) == ["fast", "demo", "demo-large", "other"]
    finally:
        app.close()


def test_a_user_sees_only_the_models_they_may_use(client: Client) -> None:
    assert names(client, "sk-bob") == ["fast"]
    assert get(client, "/v1/models/fast", "sk-bob")[0] == 200
    assert get(client, "/v1/models/m", "sk-bob")[0] == 404


def test_a_name_that_no_list_has_and_a_pattern_admits_is_asked_of_its_upstream(start: Start) -> None:
    asked: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        asked.append(path)
        alias = path in ("/v1/models/demo-latest", "/v1/models/../files/demo")
        start_response("200 OK" if alias or path == "/v1/models" else "404 Not Found", [])
        return [b'{"id":"demo-2026-11-01","object":"model"}' if alias else ROWS]

    client = start(app)

    assert get(client, "/v1/models/demo-latest") == (200, {"id": "demo-2026-11-01", "object": "model"})
    assert get(client, "/v1/models/demo-none")[0] == 404
    asked.clear()
    assert get(client, "/v1/models/demo-latest", "sk-bob")[0] == 404
    assert get(client, "/v1/models/other")[0] == 404  # no pattern admits it
    assert get(client, "/v1/models/d/../../files/demo")[0] == 404
    assert asked == []


def test_an_upstream_is_asked_for_a_name_no_longer_than_the_client_is_there(start: Start) -> None:
    left = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        is_list = environ["PATH_INFO"] == "/v1/models"
        start_response("200 OK", [])
        if not is_list:
            left.set()
            yield from [b"", b""]  # it is silent
        yield ROWS if is_list else b'{"id":"demo-new"}'

    headers = {"Authorization": "Bearer sk-alice"}
    told = {"waitress.client_disconnected": left.is_set}
    assert start(app).get("/v1/models/demo-new", headers=headers, environ_overrides=told).status_code == 499


def test_a_name_that_stands_for_another_is_found_by_its_own(tmp_path: Path) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK" if environ["PATH_INFO"] == "/v1/models/m" else "404 Not Found", [])
        return [b'{"id":"m"}']

    settings = {
        "upstreams": {"main": {"wsgi": app}},
        "models": {"fast-*": {"model": "m", "price": {"input": "1", "output": "2"}}},
        "users": {"alice": {"keys": ["sk-alice"]}},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
    }
    made = create_app(settings)
    try:
        row = get(Client(made), "/v1/models/fast-1")[1]
    finally:
        made.close()
    assert row == {"id": "fast-1", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}


def test_rows_tell_the_price_per_token_where_one_is_known(client: Client) -> None:
    rows = {row["id"]: row for row in get(client, "/v1/models")[1]["data"]}

    assert rows["m"]["pricing"] == {"prompt": "0.000001", "completion": "0.000002"}
    assert "pricing" not in rows["fast"]  # nobody knows what its model costs
    assert get(client, "/v1/models/m")[1] == rows["m"]


def test_an_upstream_without_a_list_hides_no_configured_name(client: Client, upstream: Upstream) -> None:
    upstream.kill()

    assert names(client) == ["fast", "m"]


def test_rows_without_a_name_or_that_no_pattern_admits_are_left_out(start: Start) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [ROWS]

    assert names(start(app)) == ["fast", "m", "demo", "demo-large"]


def test_head_is_answered_as_get_without_a_body(client: Client) -> None:
    headers = {"Authorization": "Bearer sk-alice"}
    whole, head = (client.open("/v1/models", method=method, headers=headers) for method in ("GET", "HEAD"))

    assert (head.status_code, head.get_data()) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]
    assert client.head("/v1/models/none", headers=headers).status_code == 404
    assert client.head("/v1/models").status_code == 401


def test_while_one_request_waits_for_a_hung_upstream_the_others_are_answered(start: Start) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        asked.set()
        assert go_on.wait(PATIENCE)
        start_response("200 OK", [])
        return [ROWS]

    client = start(app)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(names, client)
        assert asked.wait(PATIENCE)
        try:
            assert [names(client) for _ in range(3)] == [["fast", "m"]] * 3
        finally:
            go_on.set()
        assert waiting.result(PATIENCE) == ["fast", "m", "demo", "demo-large"]
    assert names(client) == ["fast", "m", "demo", "demo-large"]


def _raise(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise KeyError("HTTP_COOKIE")


def _raise_in_the_body(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"{"
    raise OSError("gone")


def _answer_with(body: bytes) -> Callable[[Any, Any], Iterable[bytes]]:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [body]

    return app


@pytest.mark.parametrize("app", [_raise, _raise_in_the_body, _answer_with(b"<html>")])
def test_an_application_that_fails_has_no_rows_and_a_line_in_the_log(
    app: Callable[..., Any], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    assert names(start(app)) == ["fast", "m"]
    assert "upstream 'main' gave no good answer to GET /v1/models: " in caplog.text


@pytest.mark.parametrize("body", [b"[]", b'{"data":3}', b'{"data":{"id":"demo"}}', b"null"])
def test_an_answer_that_is_no_list_has_no_rows(body: bytes, start: Start) -> None:
    assert names(start(_answer_with(body))) == ["fast", "m"]
