"""`server.trusted_proxy`: whose `X-Forwarded-*` are believed, under each server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sseproxy import create_app
from tests.harness import RawClient, Upstream, wait_until, waitress_thread

from .books import KEY, STREAM, config
from .processes import PATH, running

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FORWARDED = {
    "X-Forwarded-For": "192.0.2.66, 203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "ai.example.com",
    "X-Forwarded-Prefix": "/ai",
}


def settings(upstream: Upstream, directory: Path, proxy: str | None) -> dict[str, Any]:
    return config(upstream.url, directory, server={"trusted_proxy": proxy, "shutdown_grace": "1s"})


def location(url: str, **headers: str) -> str:
    """Where an answer says that it can be read again."""
    with RawClient(url) as client:
        client.post(PATH, STREAM, key=KEY, headers={"Prefer": "respond-async", **FORWARDED, **headers})
        assert client.status == 202
        return client.headers["location"].partition("/-/")[0]


@pytest.mark.parametrize("server", ["waitress", "gthread"])
def test_the_trusted_peer_tells_the_clients_address_and_the_prefix(
    upstream: Upstream, tmp_path: Path, server: str
) -> None:
    with running(settings(upstream, tmp_path, "127.0.0.0/8"), tmp_path, server) as process:
        assert location(process.url) == "/ai"
        wait_until(lambda: "client=203.0.113.9 " in process.log)
        assert "192.0.2.66" not in process.log


def test_from_any_other_peer_they_are_ignored(upstream: Upstream, tmp_path: Path) -> None:
    with running(settings(upstream, tmp_path, "10.0.0.1"), tmp_path, "waitress") as process:
        assert location(process.url) == ""
        wait_until(lambda: "client=127.0.0.1 method=POST" in process.log)
        assert "203.0.113.9" not in process.log


def test_it_can_be_changed_by_a_reload(upstream: Upstream, tmp_path: Path) -> None:
    app = create_app(settings(upstream, tmp_path, None))
    with waitress_thread(app, clear_untrusted_proxy_headers=False) as server:
        assert location(server.url) == ""
        app.reload(settings(upstream, tmp_path, "127.0.0.1"))
        assert location(server.url) == "/ai"
    app.close()


def test_an_upstream_in_python_sees_what_is_true(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(dict(environ))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}']

    for proxy in ("127.0.0.1", None):
        sections = config("", tmp_path, server={"trusted_proxy": proxy})
        proxied = create_app(sections | {"upstreams": {"main": {"wsgi": app}}})
        with waitress_thread(proxied, clear_untrusted_proxy_headers=False) as server, RawClient(server.url) as client:
            client.post(
                PATH, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, key=KEY, headers=FORWARDED
            )
            assert client.status == 200
        proxied.close()
    trusting, other = seen
    assert (trusting["wsgi.url_scheme"], trusting["HTTP_HOST"]) == ("https", "ai.example.com")
    assert other["wsgi.url_scheme"] == "http"
    assert not [name for name in other if "FORWARDED" in name]
