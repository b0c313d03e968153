"""What is handed on unread ends as its upstream's answer does, and where nothing of it has left yet, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import SERVERS, RawClient, Upstream, raw, serve

from .books import KEY, Books, config

PATH = "/v1/files"
UPSTREAM = {"passthrough": ["files"], "timeout": {"idle": "200ms"}}


@pytest.mark.parametrize(
    ("end", "status", "code"), [("cut", 502, "upstream_truncated"), ("hang", 504, "upstream_idle_timeout")]
)
def test_a_body_that_breaks_off_before_its_first_byte_is_refused_in_words(
    end: str, status: int, code: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = raw(b"", framing="length", end=end)
    with serve(config(upstream.url, tmp_path, upstream=UPSTREAM)) as proxy:
        with RawClient(proxy.url) as client:
            client.get(PATH, key=KEY)

            assert client.status == status
            assert json.loads(client.read_body())["error"]["code"] == code
        charge = books.one_ended()
        assert (charge["outcome"], charge["status"]) == ("upstream_failed", status)
        assert f"error={code}" in proxy.log
        assert "Traceback" not in proxy.log


@pytest.mark.parametrize("server", SERVERS)
def test_a_body_that_breaks_off_amid_is_cut_off_and_is_no_error_of_the_server_s(
    server: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = raw(b"half", end="cut")
    with serve(config(upstream.url, tmp_path, upstream=UPSTREAM), server) as proxy:
        with RawClient(proxy.url) as client:
            assert client.get(PATH, key=KEY).read_body() == b"half"
            assert client.ending == "cut"
        assert books.one_ended()["outcome"] == "upstream_failed"
        assert "Traceback" not in proxy.log


def test_an_answer_without_a_body_is_completed(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = raw(b"", framing="length")
    with serve(config(upstream.url, tmp_path, upstream=UPSTREAM)) as proxy, RawClient(proxy.url) as client:
        assert client.send("HEAD", PATH, key=KEY).read_head().status == 200
        assert books.one_ended()["outcome"] == "completed"
