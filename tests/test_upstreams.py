"""upstreams: what the section means to the applications that are made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from sseproxy import create_app
from sseproxy.app import Proxy
from sseproxy.config import Config
from sseproxy.upstreams import make_redactor, passthrough_paths
from tests.harness import Upstream, choose, raw, refuse, refuse_stream_options, stream

CHAT = {"model": "fast", "messages": [{"role": "user", "content": "hi"}]}
Make = Callable[..., Client]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Proxy] = []

    def make(**upstreams: Any) -> Client:
        settings = {
            "upstreams": upstreams,
            "models": {"fast": {"model": "gpt-4o-mini", "upstream": list(upstreams)}},
            "auth": {"required": False},
            "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
        }
        made.append(create_app(settings))
        return Client(made[-1])

    yield make
    for app in made:
        app.close()


def test_azure_gets_its_path_its_version_and_its_key(upstream: Upstream, make: Make) -> None:
    client = make(main={"url": upstream.url.removesuffix("/v1"), "flavor": "azure", "api_key": "azure-key-of-20-chars"})
    client.post("/v1/chat/completions", json=CHAT).get_data()

    assert upstream.last.path == "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
    assert upstream.last.headers["api-key"] == "azure-key-of-20-chars"


def test_each_upstream_learns_by_itself_what_it_refuses(upstream: Upstream, make: Make) -> None:
    with Upstream(stream(tokens=1)) as spare:
        client = make(main={"url": upstream.url, "retries": 0}, spare={"url": spare.url})
        upstream.script = refuse_stream_options(stream(tokens=1))
        for _ in range(2):
            assert client.post("/v1/chat/completions", json={**CHAT, "stream": True}).status_code == 200
        upstream.kill()
        assert client.post("/v1/chat/completions", json={**CHAT, "stream": True}).status_code == 200

    assert ["stream_options" in exchange.body for exchange in upstream.exchanges] == [True, False, False]
    assert ["stream_options" in exchange.body for exchange in spare.exchanges] == [True]


def test_a_request_that_is_refused_without_the_option_too_says_nothing_of_the_model(
    upstream: Upstream, make: Make
) -> None:
    client = make(main={"url": upstream.url, "retries": 0})
    upstream.script = choose(
        lambda exchange: refuse(400, f"Not a number: {exchange.body}") if "seed" in exchange.body else stream(tokens=1)
    )
    for options in ({"seed": "include_usage"}, {"seed": "stream_options"}, {}):
        status = client.post("/v1/chat/completions", json={**CHAT, **options, "stream": True}).status_code
        assert status == (400 if options else 200)

    assert ["stream_options" in exchange.body for exchange in upstream.exchanges] == [True, False, True, False, True]


def test_every_secret_of_an_upstream_is_known_to_what_cuts_them_out() -> None:
    section = {
        "url": "https://x/v1",
        "api_key": "key-of-some-length",
        "headers": {"x": "header-of-some-length"},
        "proxy": "http://me:password-of-some-length@proxy:3128",
    }
    redact = make_redactor(Config.load({"upstreams": {"a": section}}))

    assert redact("key-of-some-length, header-of-some-length, password-of-some-length") == "[key], [key], [key]"


def test_no_header_of_another_upstream_cuts_up_what_this_one_says(upstream: Upstream, make: Make) -> None:
    other = {"url": "https://x/v1", "headers": {"X-Flag": "true", "X-Title": "Acme error", "X-Auth": "true"}}
    error = {"message": "too long", "retryable": True}
    client = make(main={"url": upstream.url, "headers": other["headers"]}, other=other)

    upstream.script = refuse(400, body=json.dumps({"error": error}).encode())
    told = client.post("/v1/chat/completions", json=CHAT).get_json()["error"]
    assert (told["message"], told["retryable"]) == ("too long", True)

    begun = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    upstream.script = raw([begun, b'data: {"error":' + json.dumps(error).encode() + b"}\n\n"])
    last = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).get_data().split(b"\n\n")[-2]
    told = json.loads(last.removeprefix(b"data: "))["error"]
    assert (told["message"], told["retryable"]) == ("too long", True)


def test_the_first_upstream_that_names_a_path_serves_it() -> None:
    a, b = ({"url": f"https://{name}/v1", "passthrough": ["files"]} for name in "ab")

    assert passthrough_paths(Config.load({"upstreams": {"a": a, "b": b}})) == {"/v1/files": "a"}
