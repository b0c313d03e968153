"""Answers of any size are relayed in bounded memory, and billed to the token all the same."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from sseproxy import create_app
from sseproxy.app import Proxy

from .books import PRICE, Books

ROW = b'{"object":"embedding","index":0,"embedding":[' + b"-0.0123," * 8000 + b"0]},"
END = b'{}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}'
MIB = 1024 * 1024


BARE = b"\x1f\x8b\x08\x00" * 256
"""Numbers that begin as gzip does."""
ABOUT = json.dumps({"data": [{"shape": [128]}] * 2000, "usage": {"prompt_tokens": 7, "total_tokens": 7}})


def embeddings(environ: Any, start_response: Any) -> Iterator[bytes]:
    """100 MiB, unless the request says that it breaks off, or is to be bare: vLLM 0.32's ``encoding_format: bytes``."""
    asked = environ["wsgi.input"].read()
    if b'"bytes"' in asked:
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("metadata", ABOUT)])
        yield b"" if b'"empty"' in asked else BARE
        return
    breaks = b"break" in asked
    start_response("200 OK", [("Content-Type", "application/json")])
    yield b'{"object":"list","data":['
    for number in range(100 * MIB // len(ROW)):
        if breaks and number == 100:
            raise RuntimeError("gone")
        yield ROW
    yield END


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Proxy]:
    settings = {
        "upstreams": {"main": {"wsgi": embeddings, "passthrough": ["images/generations"]}},
        "models": {"*": {"price": PRICE}},
        "auth": {"required": False},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
    }
    running = create_app(settings)
    yield running
    running.close()


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/images/generations"])
def test_a_hundred_mebibytes_take_a_few_to_relay(path: str, app: Proxy, books: Books) -> None:
    client = Client(app)
    tracemalloc.start()
    try:
        answer = client.post(path, json={"model": "m", "input": "x"}, buffered=False)
        size, last = 0, b""
        for piece in answer.response:
            size, last = size + len(piece), piece
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert answer.status_code == 200 and size > 99 * MIB and last == END
    assert peak < 8 * MIB
    row = books.one_ended()
    assert (row["state"], row["outcome"]) == ("settled", "completed")
    if path == "/v1/embeddings":
        assert (row["usage_source"], row["input_tokens"], row["cost_usd"]) == ("reported", 7, "0.000007")


def test_a_long_answer_that_breaks_off_is_no_clean_end(app: Proxy, books: Books) -> None:
    answer = Client(app).post("/v1/embeddings", json={"model": "m", "input": "break"}, buffered=False)

    with pytest.raises(RuntimeError):
        list(answer.response)
    answer.close()
    row = books.one_ended()
    assert (row["outcome"], row["usage_source"]) == ("upstream_failed", "counted")


@pytest.mark.parametrize(("given", "vectors"), [("x", BARE), ("empty", b"")])
def test_vectors_without_json_around_them_pass_and_are_billed_by_the_header_that_tells_of_them(
    given: str, vectors: bytes, app: Proxy, books: Books
) -> None:
    answer = Client(app).post("/v1/embeddings", json={"model": "m", "input": given, "encoding_format": "bytes"})

    assert (answer.status_code, answer.content_type, answer.data) == (200, "application/octet-stream", vectors)
    assert answer.headers["metadata"] == ABOUT
    row = books.one_ended()
    assert (row["outcome"], row["usage_source"], row["input_tokens"]) == ("completed", "reported", 7)
