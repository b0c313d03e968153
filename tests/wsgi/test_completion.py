"""A document, whatever the upstream made of the wish for one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.intricate import MOST_PARTS_OF_ANSWER
from sseproxy.wsgi.client import ClientGone
from sseproxy.wsgi.completion import CompletionBody, collect

WHOLE = (
    b'{"id":"c1", "object":"chat.completion", "created":1, "model":"m", "choices":[{"index":0, "message":'
    b'{"role":"assistant","content":"Hi you","refusal":null}, "finish_reason":"stop"}], "usage":{"prompt_tokens":3,'
    b'"completion_tokens":2,"total_tokens":5}}'
)


class Body:
    """A WSGI body that tells whether it was closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces

    def close(self) -> None:
        self.closed += 1


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAM = [chunk({"role": "assistant", "content": "Hi"}), chunk({"content": " you"}), chunk({}, "stop", usage=USAGE)]
DONE = b"data: [DONE]\n\n"


def completion(pieces: Iterable[bytes], gone: bool = False) -> CompletionBody:
    return CompletionBody.of(pieces, "chat", lambda: gone, model="asked")


def held_open(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield from pieces
    for _ in range(5):
        yield b""
    pytest.fail("waited for an answer that was there")


def assert_said(body: CompletionBody) -> None:
    answer = json.loads(b"".join(body))

    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hi you"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert body.completion.content == "Hi you"
    assert body.completion.usage is not None and body.completion.usage.output_tokens == 2


def test_a_whole_answer_in_one_piece_stays_the_same_bytes_and_others_are_read_as_ever() -> None:
    assert completion([WHOLE]).completion.body is WHOLE
    assert completion([gzip.compress(WHOLE)]).completion.body == WHOLE
    assert completion([WHOLE.replace(b'"Hi you"', b'"Hi you","annotations":[]')]).completion.content == "Hi you"
    assert_said(completion([WHOLE.replace(b'"refusal":null', b'"tool_calls":null')]))


def test_a_clean_document_keeps_its_bytes() -> None:
    body = completion([WHOLE[:50], b"", WHOLE[50:]])

    assert b"".join(body) == WHOLE
    assert_said(body)


@pytest.mark.parametrize("pieces", [[b"".join(STREAM), DONE], [*STREAM, DONE], STREAM, [b": hi\n\n", b"\n", *STREAM]])
def test_a_stream_nobody_asked_for_is_gathered(pieces: list[bytes]) -> None:
    assert_said(completion(pieces))


@pytest.mark.parametrize("plain", [WHOLE, b"".join([*STREAM, DONE])])
def test_compression_is_undone_whatever_the_headers_say(plain: bytes) -> None:
    packed = gzip.compress(plain)

    assert_said(completion([packed[:1], b"", packed[1:20], packed[20:]]))


@pytest.mark.parametrize("pieces", [[WHOLE], [*STREAM, DONE], STREAM])
def test_an_upstream_that_keeps_the_connection_open_is_not_waited_for(pieces: list[bytes]) -> None:
    assert_said(completion(held_open(pieces)))


def test_tool_calls_reasoning_and_refusals_are_gathered_too() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    rest = {"index": 0, "function": {"arguments": '":1}'}}
    pieces = [
        chunk({"role": "assistant", "reasoning_content": "Hm"}),
        chunk({"reasoning_content": ", so"}),
        chunk({"refusal": "no"}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [rest]}),
        chunk({}, "tool_calls"),
    ]

    choice = json.loads(completion([*pieces, DONE]).completion.body)["choices"][0]

    assert choice["message"]["reasoning_content"] == "Hm, so"
    assert choice["message"]["refusal"] == "no"
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([*STREAM[:2], b'data: {"error":{"message":"overloaded","code":503}}\n\n'], "overloaded"),
        ([STREAM[0]], "closed the stream"),
        ([b"<html>"], "web page"),
        ([], "closed the stream"),
        ([WHOLE[:-9]], "closed the stream"),
        ([b'{"error":{"message":"no"}}'], "no"),
    ],
)
def test_what_is_no_answer_is_a_failure(pieces: list[bytes], message: str) -> None:
    body = Body(pieces)
    with pytest.raises(Failure, match=message):
        completion(body)

    assert body.closed == 1


@pytest.mark.parametrize("pieces", [[b"", WHOLE], [STREAM[0], b"", *STREAM[1:]], [WHOLE[:9], b"", WHOLE[9:]]])
def test_a_client_that_left_while_the_upstream_is_silent_ends_it(pieces: list[bytes]) -> None:
    body = Body(pieces)
    with pytest.raises(ClientGone):
        completion(body, gone=True)

    assert body.closed == 1


def test_a_body_beyond_the_limit_is_a_failure_also_when_it_came_small() -> None:
    with pytest.raises(UpstreamFailure, match="larger than 1000 bytes"):
        collect([gzip.compress(b"a" * 1001)], lambda: False, 1000)


def test_broken_compression_is_a_failure() -> None:
    packed = bytearray(gzip.compress(WHOLE))
    packed[20:24] = b"\xff\xff\xff\xff"
    with pytest.raises(UpstreamFailure):
        completion([bytes(packed)])


def test_a_document_of_more_parts_than_could_be_read_at_ease_is_no_answer() -> None:
    parts = b",".join([b"{}"] * (MOST_PARTS_OF_ANSWER + 1))

    with pytest.raises(UpstreamFailure, match="more than 2000000 objects, lists and named values at once"):
        completion([b'{"choices":[{"message":{"content":"Hi"}}],"x":[' + parts[:100], parts[100:] + b"]}"])
