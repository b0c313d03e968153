"""pages: the chat page as it is served, alone, below a mount point and around another application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sseproxy import SSEProxyMiddleware, create_app
from sseproxy.app import Proxy
from sseproxy.web.pages import FILES

STATIC = Path(__file__).parent.parent.parent / "sseproxy" / "web" / "static"
KEY, UPSTREAM_KEY = "sk-alice-0123456789", "sk-upstream-0123456789"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": "http://127.0.0.1:9/v1", "api_key": UPSTREAM_KEY}},
        "models": {"secret-model": {}},
        "users": {"alice": {"keys": [KEY]}},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
    }


@pytest.fixture
def app(settings: dict[str, Any]) -> Iterator[Proxy]:
    app = create_app(settings)
    yield app
    app.close()


@pytest.fixture
def client(app: Proxy) -> Client:
    return Client(app)


@pytest.mark.parametrize(("path", "name"), FILES.items())
def test_every_file_of_the_page_is_served_without_a_key(path: str, name: str, client: Client) -> None:
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.get_data() == (STATIC / name).read_bytes()
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    assert answer.headers["Content-Type"] == f"{types[name.rpartition('.')[2]]}; charset=utf-8"


def test_every_file_there_is_belongs_to_a_path() -> None:
    assert sorted(FILES.values()) == sorted(path.name for path in STATIC.iterdir())


@pytest.mark.parametrize("path", FILES)
def test_a_browser_runs_nothing_but_the_pages_own_files_and_sends_nothing_elsewhere(path: str, client: Client) -> None:
    headers = client.get(path).headers

    directives = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_page_has_no_script_or_style_of_its_own_inline() -> None:
    page = (STATIC / "chat.html").read_text("utf-8")

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page) == []


def test_the_page_finds_its_files_and_the_api_below_any_mount_point(app: Proxy) -> None:
    mounted = Client(DispatcherMiddleware(Response("site"), {"/llm": app}))
    page = mounted.get("/llm/-/chat").get_data(as_text=True)

    names = re.findall(r'(?:href|src)="([^":]+)"', page)
    assert sorted(names) == ["chat.css", "chat.js", "page.css"]
    assert [mounted.get(f"/llm/-/{name}").status_code for name in names] == [200] * 3
    # An absolute path in a script would lead out of the mount point.
    assert not any(re.findall(r"""["'`]/(?:v1|-)""", path.read_text("utf-8")) for path in STATIC.glob("*.js"))


def test_the_wrapped_application_does_not_see_the_page(settings: dict[str, Any]) -> None:
    wrapper = SSEProxyMiddleware(Response("the application's own"), settings)
    try:
        client = Client(wrapper)
        assert client.get("/-/chat").mimetype == "text/html"
        assert client.get("/-/chat.js").mimetype == "text/javascript"
        assert client.get("/-/chatter").get_data() == b"the application's own"
    finally:
        wrapper.close()


def test_head_is_answered_as_get_without_a_body(client: Client) -> None:
    whole, head = client.get("/-/chat"), client.head("/-/chat")

    assert (head.status_code, head.get_data()) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]
    assert head.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_page_is_only_read(method: str, client: Client) -> None:
    answer = client.open("/-/chat", method=method)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.get_json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_that_is_known_already_is_not_sent_again(method: str, client: Client) -> None:
    etag = client.get("/-/chat").headers["ETag"]

    answer = client.open("/-/chat", method=method, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (answer.status_code, answer.get_data()) == (304, b"")
    assert answer.headers["ETag"] == etag
    assert "Content-Security-Policy" in answer.headers
    assert client.get("/-/chat", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_browser_asks_each_time_whether_its_copy_is_current(client: Client) -> None:
    assert {client.get(path).headers["Cache-Control"] for path in FILES} == {"no-cache"}


def test_the_page_holds_nothing_of_the_configuration(client: Client) -> None:
    for path in FILES:
        answer = client.get(path)
        told = answer.get_data(as_text=True) + str(answer.headers)
        assert not any(secret in told for secret in (KEY, UPSTREAM_KEY, "secret-model", "alice", "sk-demo"))
