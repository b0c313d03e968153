"""deploy/Caddyfile, run by a real Caddy before a real proxy."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from sseproxy.doctor import examine
from sseproxy.doctor.target import Target
from tests.harness import (
    PATIENCE,
    RawClient,
    Server,
    Upstream,
    free_port,
    raw,
    require_tool,
    serve,
    silent,
    start,
)

CADDYFILE = Path(__file__).parent.parent.parent / "deploy" / "Caddyfile"
KEY = "sk-alice"
WORDS = ("one ", "two ", "three ")
CHUNKS = [b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": word}}]}).encode() for word in WORDS]
WHOLE = {"messages": [{"role": "user", "content": "hi"}]}
#: Paths, what is asked there, and the media type of the answer.
STREAMS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": (WHOLE | {"stream": True}, "text/event-stream"),
    "/text": ({"message": "hi"}, "text/event-stream"),
    "/plain": ({"message": "hi"}, "text/plain"),
}


def settings(upstream: Upstream) -> dict[str, Any]:
    """With so much patience that no time limit and no keep-alive notices what Caddy does not tell."""
    patience = {"first_byte": "10m", "idle": "10m"}
    return {
        "server": {"trusted_proxy": "127.0.0.1"},
        "upstreams": {"main": {"url": upstream.url, "api_key": "sk-upstream", "timeout": patience}},
        "streams": {"keepalive": "10m"},
        "models": {"m": {"upstream": "main"}},
        "users": {"alice": {"keys": [KEY]}},
        "routes": {f"/{name}": {"model": "m", "format": name} for name in ("text", "plain")},
    }


@contextlib.contextmanager
def caddy_before(proxy: Server, directory: Path) -> Iterator[Server]:
    port = free_port()
    text = CADDYFILE.read_text("utf-8")
    for old, new in (("llm.example.com {", f"http://127.0.0.1:{port} {{"), ("127.0.0.1:8080 {", f"{proxy.url[7:]} {{")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (directory / "Caddyfile").write_text("{\n\tadmin off\n}\n" + text, "utf-8")
    command = [require_tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]
    home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    with start(command, port, directory, home) as caddy:
        yield caddy


def test_the_caddyfile_is_valid() -> None:
    command = [require_tool("caddy"), "validate", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr.lower()


def test_the_doctor_finds_nothing_behind_the_caddyfile(upstream: Upstream, tmp_path: Path) -> None:
    with serve(settings(upstream)) as proxy, caddy_before(proxy, tmp_path) as caddy:
        report = examine(Target.of(caddy.url), KEY, idle=1)
        private = requests.get(f"{caddy.url}/-/metrics", timeout=PATIENCE)

    assert report.faults == []
    assert private.status_code == 404


def test_each_piece_of_a_stream_of_any_media_type_leaves_caddy_before_the_next_one_is_there(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = raw(CHUNKS, steps=True)
    with serve(settings(upstream)) as proxy, caddy_before(proxy, tmp_path) as caddy:
        for number, (path, (body, media_type)) in enumerate(STREAMS.items(), 1):
            with RawClient(caddy.url) as client:
                client.send("POST", path, {"model": "m"} | body, key=KEY)
                exchange = upstream.wait_for_request(number)
                for word in WORDS:
                    exchange.allow()
                    if word == WORDS[0]:
                        client.read_head()
                    client.wait_for_bytes(word.strip().encode())

            assert client.headers["content-type"].startswith(media_type)


def test_caddy_tells_that_a_client_left_before_and_amid_an_answer(upstream: Upstream, tmp_path: Path) -> None:
    amid = raw(CHUNKS[:1], end="hang")
    asked = [("/v1/chat/completions", WHOLE, silent()), *((path, body, amid) for path, (body, _) in STREAMS.items())]
    with serve(settings(upstream)) as proxy, caddy_before(proxy, tmp_path) as caddy:
        for number, (path, body, script) in enumerate(asked, 1):
            upstream.script = script
            with RawClient(caddy.url) as client:
                client.send("POST", path, {"model": "m"} | body, key=KEY)
                exchange = upstream.wait_for_request(number)
                if script is amid:
                    client.read_head().wait_for_bytes(b"one")
            exchange.wait_for_peer_close()
