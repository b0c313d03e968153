"""What a browser sees of the whole stack, over real waitress: preflights, answers, refusals, other sites' pages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest

from sseproxy import SSEProxyMiddleware
from tests.harness import RawClient, Server, Upstream, raw, serve, stream, waitress_thread

from .books import CHAT, KEY, STREAM, Books, config

APP = "https://app.example.com"
EVIL = "https://evil.net"
PATH = "/v1/chat/completions"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
CORS = {"origins": [APP]}
#: As llama.cpp's server answers: whoever asks may read, with credentials.
OPEN = {"Access-Control-Allow-Origin": APP, "Access-Control-Allow-Credentials": "true", "Vary": "Accept"}


def ask(server: Server, method: str, path: str, body: Any = None, key: str | None = None, **headers: Any) -> RawClient:
    """One request, its answer read to the end; a field that came twice is an error, as in a browser."""
    client = RawClient(server.url)
    with client:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        client.send(method, path, body, key=key, headers={"Connection": "close", **fields}).read_head()
        client.body = client.read_body()  # type: ignore[attr-defined]
    return client


def allowed(client: RawClient) -> tuple[str | None, str | None]:
    return client.headers.get("access-control-allow-origin"), client.headers.get("access-control-allow-credentials")


def test_a_page_of_an_allowed_origin_asks_reads_and_reads_refusals(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    with serve(config(upstream.url, tmp_path, cors=CORS)) as proxy:
        preflight = ask(proxy, "OPTIONS", PATH, Origin=APP, **PREFLIGHT)
        assert (preflight.status, allowed(preflight)) == (204, (APP, None))
        assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
        assert upstream.exchanges == []

        for body in (STREAM, CHAT):
            answer = ask(proxy, "POST", PATH, body, KEY, Origin=APP, **FOREIGN)
            assert (answer.status, allowed(answer)) == (200, (APP, None))
            assert "Origin" in answer.headers["vary"]
        refusals = {
            401: ask(proxy, "POST", PATH, CHAT, Origin=APP),
            400: ask(proxy, "POST", PATH, b"{", KEY, Origin=APP),
            404: ask(proxy, "POST", "/v1/unknown", CHAT, KEY, Origin=APP),
            405: ask(proxy, "GET", PATH, None, KEY, Origin=APP),
        }
        assert {status: (each.status, allowed(each)) for status, each in refusals.items()} == {
            status: (status, (APP, None)) for status in refusals
        }
        assert ask(proxy, "GET", "/-/usage", None, KEY, Origin=APP, **FOREIGN).status == 200


def test_a_page_of_another_site_is_refused_before_anything_is_sent_or_charged(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    routes = {"/ask": {"model": "m", "methods": ["GET"], "input": {"message": "content"}, "auth": False}}
    with serve(config(upstream.url, tmp_path, cors=CORS, auth={"required": False}, routes=routes)) as proxy:
        preflight = ask(proxy, "OPTIONS", PATH, Origin=EVIL, **PREFLIGHT)
        assert (preflight.status, allowed(preflight)) == (403, (None, None))
        for path, key in ((PATH, None), (PATH, KEY), ("/-/usage", KEY)):
            answer = ask(proxy, "POST", path, STREAM, key, Origin=EVIL, **FOREIGN)
            assert (answer.status, allowed(answer)) == (403, (None, None))
            assert json.loads(answer.body)["error"]["code"] == "origin_not_allowed"  # type: ignore[attr-defined]
        image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert ask(proxy, "GET", "/ask?content=hi", **image).status == 403
        assert ask(proxy, "OPTIONS", "/ask", Origin=APP, **PREFLIGHT).status == 204
        assert ask(proxy, "GET", "/-/health", None, Origin=EVIL, **FOREIGN).status == 200

    assert upstream.exchanges == []
    assert books.charges() == []


def test_over_plain_http_too_a_page_of_another_host_is_refused_before_anything_is_sent_or_charged(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    routes = {"/ask": {"model": "m", "input": {"message": "content"}, "auth": False}}
    settings = config(upstream.url, tmp_path, cors=CORS, routes=routes, server={"trusted_proxy": "127.0.0.1"})
    with serve(settings) as proxy:
        for origin in (EVIL, "null"):
            assert ask(proxy, "GET", "/ask?content=hi", Origin=origin).status == 403
            assert ask(proxy, "POST", "/ask", {"content": "hi"}, Origin=origin).status == 403
        assert upstream.exchanges == []
        assert books.charges() == []

        behind = {"X-Forwarded-Host": "ai.example.net", "X-Forwarded-Proto": "https"}
        for headers in ({}, {"Origin": proxy.url}, {"Origin": APP}, {**behind, "Origin": "https://ai.example.net"}):
            assert ask(proxy, "POST", PATH, CHAT, KEY, **headers).status == 200
        assert ask(proxy, "POST", "/ask", {"content": "hi"}, **behind, Origin=proxy.url).status == 403
    assert len(upstream.exchanges) == 4


@pytest.mark.parametrize("cors", [{}, CORS])
def test_what_an_upstream_says_of_cors_reaches_nobody_and_the_page_s_origin_not_the_upstream(
    cors: dict[str, Any], upstream: Upstream, tmp_path: Path
) -> None:
    upstream.scripts.append(stream(headers={"Content-Type": "text/event-stream", **OPEN}))
    upstream.scripts.append(raw(b'{"error": "no"}', status=400, headers=OPEN, framing="length"))
    with serve(config(upstream.url, tmp_path, cors=cors)) as proxy:
        for status in (200, 400):
            answer = ask(
                proxy, "POST", PATH, STREAM, KEY, Origin=APP, Referer=f"{APP}/page", Sec_Fetch_Site="same-site"
            )
            assert (answer.status, allowed(answer)) == (status, (APP if cors else None, None))

    sent = {name for exchange in upstream.exchanges for name in exchange.headers}
    assert sent & {"origin", "referer", "sec-fetch-site"} == set()


def open_app() -> flask.Flask:
    """An application with CORS of its own, on every path."""
    app = flask.Flask(__name__)

    @app.route(PATH, methods=["POST"])
    def chat() -> Any:
        message = {"role": "assistant", "content": "hi"}
        return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    @app.route("/page")
    def page() -> str:
        return "a page"

    @app.after_request
    def allow(response: flask.Response) -> flask.Response:
        response.headers["Access-Control-Allow-Origin"] = "https://theirs.example"
        return response

    return app


def wrapping(directory: Path, **sections: Any) -> dict[str, Any]:
    settings = config("http://unused.invalid/v1", directory, **sections)
    del settings["upstreams"]
    return settings


def test_around_an_application_only_our_paths_are_ours(tmp_path: Path) -> None:
    wrapped = SSEProxyMiddleware(open_app(), wrapping(tmp_path, cors=CORS))
    with waitress_thread(wrapped) as server:
        ours = ask(server, "OPTIONS", PATH, Origin=APP, **PREFLIGHT)
        assert (ours.status, allowed(ours)) == (204, (APP, None))
        assert allowed(ask(server, "POST", PATH, CHAT, KEY, Origin=APP)) == (APP, None)
        assert ask(server, "POST", PATH, CHAT, KEY, Origin=EVIL, **FOREIGN).status == 403

        plain = ask(server, "OPTIONS", PATH, Origin=APP)
        assert (plain.status, {*plain.headers["allow"].split(", ")}) == (200, {"POST", "OPTIONS"})
        for answer in (
            ask(server, "OPTIONS", "/page", Origin=APP, **PREFLIGHT),
            ask(server, "GET", "/page", Origin=APP, **FOREIGN),
        ):
            assert (answer.status, allowed(answer)) == (200, ("https://theirs.example", None))
            assert "vary" not in answer.headers
    wrapped.close()


def test_around_an_application_without_origins_its_own_cors_stays(tmp_path: Path) -> None:
    wrapped = SSEProxyMiddleware(open_app(), wrapping(tmp_path))
    with waitress_thread(wrapped) as server:
        for answer in (
            ask(server, "OPTIONS", PATH, Origin=APP, **PREFLIGHT),
            ask(server, "POST", PATH, CHAT, KEY, Origin="https://theirs.example", **FOREIGN),
        ):
            assert (answer.status, allowed(answer)) == (200, ("https://theirs.example", None))
        assert ask(server, "GET", "/-/usage", None, KEY, Origin=EVIL, **FOREIGN).status == 403
    wrapped.close()


def test_an_application_that_is_mounted_at_v1_has_cors_of_its_own_too(tmp_path: Path) -> None:
    app = SSEProxyMiddleware(open_app(), wrapping(tmp_path))

    def mounted(environ: Any, start_response: Any) -> Any:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/v1", environ["PATH_INFO"].removeprefix("/v1")
        return app(environ, start_response)

    with contextlib.closing(app), waitress_thread(mounted) as server:
        answer = ask(server, "POST", PATH, CHAT, KEY, Origin="https://theirs.example", **FOREIGN)
        assert answer.status != 403


class Theirs:
    """An application whose CORS lets one origin read, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.asked.append({**environ, "content": environ["wsgi.input"].read()})
        if environ["PATH_INFO"] == "/fails":
            raise KeyError("no such view")
        if environ["PATH_INFO"] == "/api/private" and environ["REQUEST_METHOD"] == "POST":
            start_response("409 CONFLICT", [("Content-Type", "text/plain")])
            return [b"private"]
        fields = [("Access-Control-Allow-Origin", APP), ("Access-Control-Allow-Credentials", "true")]
        start_response("200 OK", fields if environ["HTTP_ORIGIN"] == APP else [])
        return [b"never sent"]


@pytest.fixture
def theirs() -> Theirs:
    return Theirs()


@pytest.fixture
def wrapped(theirs: Theirs, tmp_path: Path) -> Iterator[Server]:
    mapped = {"paths": ["/fails", "/api/*"], "text": "answer", "default_model": "m"}
    app = SSEProxyMiddleware(theirs, wrapping(tmp_path, wrap=mapped))
    with contextlib.closing(app), waitress_thread(app) as server:
        yield server


def test_an_application_s_own_cors_is_that_of_refusals_which_it_never_sees_too(wrapped: Server, theirs: Theirs) -> None:
    refusals = [
        ask(wrapped, "POST", PATH, CHAT, Origin=APP, **FOREIGN),
        ask(wrapped, "POST", PATH, STREAM, "sk-wrong", Origin=APP, Accept="text/event-stream", Cookie="a=b"),
        ask(wrapped, "POST", PATH, b"{", KEY, Origin=APP, **FOREIGN),
        ask(wrapped, "GET", PATH, None, KEY, Origin=APP),
        ask(wrapped, "POST", "/api/own", CHAT, Origin=APP, **FOREIGN),
    ]

    assert [each.status for each in refusals] == [401, 401, 400, 405, 401]
    for each in refusals:
        assert (allowed(each), each.headers["vary"]) == ((APP, "true"), "Origin")
        assert "X-Request-Id" in each.headers["access-control-expose-headers"]
    for each in theirs.asked:
        assert (each["REQUEST_METHOD"], each["content"]) == ("OPTIONS", b"")
        assert not {"HTTP_AUTHORIZATION", "HTTP_COOKIE", "CONTENT_LENGTH"} & each.keys()
    methods = [each["HTTP_ACCESS_CONTROL_REQUEST_METHOD"] for each in theirs.asked]
    assert methods == ["POST", "POST", "POST", "GET", "POST"]


def test_who_may_not_read_answers_of_an_application_may_not_read_refusals_either(
    wrapped: Server, theirs: Theirs
) -> None:
    refused = ask(wrapped, "POST", PATH, CHAT, Origin=EVIL, **FOREIGN)
    assert (refused.status, allowed(refused)) == (401, (None, None))
    failing = ask(wrapped, "POST", "/fails", CHAT, Origin=APP, **FOREIGN)
    assert (failing.status, allowed(failing)) == (401, (None, None))


def test_what_the_application_itself_refuses_has_the_fields_that_it_gives(wrapped: Server, theirs: Theirs) -> None:
    refused = ask(wrapped, "POST", "/api/private", CHAT, KEY, Origin=APP, **FOREIGN)

    assert (refused.status, allowed(refused)) == (409, (None, None))
    assert [each["REQUEST_METHOD"] for each in theirs.asked] == ["POST"]


def test_an_application_is_asked_of_pages_elsewhere_and_of_its_own_paths_alone(wrapped: Server, theirs: Theirs) -> None:
    for headers in ({}, {"Origin": wrapped.url}, {"Origin": "https://here.example", "Sec-Fetch-Site": "same-origin"}):
        assert ask(wrapped, "POST", PATH, CHAT, **headers).status == 401
    refused = ask(wrapped, "GET", "/-/usage", Origin=APP, Sec_Fetch_Site="same-site")
    assert (refused.status, allowed(refused)) == (401, (None, None))
    assert theirs.asked == []
