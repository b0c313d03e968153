"""middleware/normalize: one clean form out, whatever the application answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.wsgi.stream import EventStream

from .apps import CHAT, error_of, post, request

STREAM = {**CHAT, "stream": True}
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\r\n\r\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def answering(*pieces: bytes, status: str = "200 OK", **headers: str) -> NormalizeMiddleware:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [(name.replace("_", "-"), value) for name, value in headers.items()])
        return list(pieces)

    return NormalizeMiddleware(app)


def test_a_stream_comes_out_canonical() -> None:
    answer = post(answering(CHUNK, END, Content_Type="text/plain"), body=STREAM)

    assert isinstance(answer.body, EventStream)
    lines = b"".join(answer.body).split(b"\n\n")
    assert json.loads(lines[0][6:])["object"] == "chat.completion.chunk"
    assert lines[-2:] == [b"data: [DONE]", b""]


def test_headers_that_describe_other_bytes_are_replaced() -> None:
    app = answering(
        *(CHUNK, END), status="206 Partial", Content_Type="text/plain", Content_Length="9", ETag="x",
        Cache_Control="public", X_Ratelimit="7", Content_Range="bytes 0-8/99", Content_Digest="sha-256=:x:",
    )  # fmt: skip
    answer = post(app, body=STREAM)

    assert answer.status == "200 OK"
    assert answer.header("Content-Range") == answer.header("Content-Digest") == ""
    assert answer.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert answer.header("Cache-Control") == "no-cache, no-transform"
    assert answer.header("X-Accel-Buffering") == "no"
    assert answer.header("Content-Length") == answer.header("ETag") == ""
    assert answer.header("X-Ratelimit") == "7"
    answer.close()


def test_a_stream_that_begins_with_an_error_has_its_status() -> None:
    answer = post(answering(b'data: {"error":{"message":"busy","code":503}}\n\n'), body=STREAM)

    assert answer.code == 503
    assert error_of(answer)["message"] == "busy"


def test_a_later_error_is_an_event_and_no_done_follows() -> None:
    answer = post(answering(CHUNK, b'data: {"error":{"message":"busy"}}\n\n'), body=STREAM)

    body = b"".join(answer.body)
    assert b'"message":"busy"' in body
    assert b"[DONE]" not in body


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b'{"detail":"no"}', b'{"error":"text"}', b"plain"])
def test_a_refusal_of_any_shape_becomes_openai_s(body: bytes) -> None:
    answer = post(answering(body, status="502 Bad Gateway", Retry_After="3"), body=STREAM)

    assert answer.code == 502
    assert answer.header("Retry-After") == "3"
    assert error_of(answer)["message"]


def test_an_application_that_yields_text_amid_its_answer_is_an_error_event() -> None:
    answer = post(answering(CHUNK, "data: no bytes\n\n"), body=STREAM)  # type: ignore[arg-type]

    last = b"".join(answer.body).split(b"\n\n")[-2]
    assert json.loads(last[6:])["error"]["code"] == "app_failed"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_an_application_that_redirects_is_told_from_one_that_answers_with_a_page(stream: bool) -> None:
    app = answering(b"<!doctype html>Redirecting", status="308 Permanent", Location="/v1/chat/completions/")

    answer = post(app, body={**CHAT, "stream": stream})

    assert answer.code == 502
    error = error_of(answer)
    assert error["code"] == "upstream_redirect"
    assert "'/v1/chat/completions/' (status 308)" in error["message"]


def test_a_json_answer_keeps_its_own_bytes_where_nothing_is_wrong() -> None:
    completion = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        "x_vendor": 1.10,
    }
    content = json.dumps(completion).encode()
    answer = post(answering(content, Content_Type="application/json"))

    assert json.loads(b"".join(answer.body)) == completion


def test_what_is_no_llm_call_passes_untouched() -> None:
    answer = request(answering(b"page", Content_Type="text/html"), "GET", "/")

    assert answer.body == [b"page"]
    assert answer.header("Content-Type") == "text/html"


def test_embeddings_that_were_asked_for_as_json_are_read_as_such_whatever_they_are_called() -> None:
    content = b'{"object":"list","data":[],"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}'
    app = answering(content, Content_Type="application/octet-stream")
    answer = post(app, "/v1/embeddings", {"model": "m", "input": "x"})

    assert answer.header("Content-Type") == "application/json"
    assert b"".join(answer.body) == content
