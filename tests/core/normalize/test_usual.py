"""Chunks in the usual writing are known by the bytes around what they say, and no other chunk is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.normalize.usual import Usual

HEAD = b'{"id":"c-1","object":"chat.completion.chunk","created":5,"model":"m",'
FIRST = {"role": "assistant", "content": ""}
LOGPROBS: list[dict[str, Any]] = [{"logprobs": None}, {}]


def chunk(delta: dict[str, Any], finish: str | None, fields: dict[str, Any], head: bytes = HEAD) -> bytes:
    choices = [{"index": 0, "delta": delta, **fields, "finish_reason": finish}]
    return head + json.dumps({"choices": choices}, separators=(",", ":"), ensure_ascii=False).encode()[1:]


def usual(first: bytes) -> Usual:
    found = Usual.of(first)
    assert found is not None
    return found


@pytest.mark.parametrize("fields", LOGPROBS, ids=["logprobs", "none"])
@pytest.mark.parametrize("delta", [FIRST, {"role": "assistant"}], ids=["empty text", "no text"])
def test_text_and_end_are_known_by_the_first_chunk(delta: dict[str, Any], fields: dict[str, Any]) -> None:
    found = usual(chunk(delta, None, fields))

    for said in (each(chunk({"content": 'Grüß "Gott"'}, None, fields)) for each in (found.event, found.shape().event)):
        assert said is not None and said.content == 'Grüß "Gott"' and said.read
        assert said.data == chunk({"content": 'Grüß "Gott"'}, None, fields)
    for reason in ("stop", "length", "tool_calls", "content_filter", "function_call"):
        assert found.finish_of(chunk({}, reason, fields)) == reason


@pytest.mark.parametrize(
    "first",
    [
        chunk({"content": ""}, None, {}),
        chunk({"content": "", "role": "assistant"}, None, {}),
        chunk({**FIRST, "refusal": None}, None, {}),
        chunk({**FIRST, "content": "Hi"}, None, {}),
        chunk(FIRST, None, {"stop_reason": None}),
        chunk(FIRST, None, {})[:-1] + b',"usage":null}',
        chunk(FIRST, None, {})[:-1] + b" }",
        HEAD + b'"choices" :[]}',
    ],
)
def test_after_a_first_chunk_in_another_writing_nothing_is_known(first: bytes) -> None:
    assert Usual.of(first) is None


def test_another_answer_s_chunks_are_not_known() -> None:
    found, other = usual(chunk(FIRST, None, {})), HEAD.replace(b"c-1", b"c-2")

    assert found.event(chunk({"content": "Hi"}, None, {}, other)) is None
    assert found.finish_of(chunk({}, "stop", {}, other)) is None


@pytest.mark.parametrize("text", ["data: {}", "a\u2028b", "a\u0085b", "data: Grüße"])
def test_text_that_hand_written_readers_would_split_is_guarded(text: str) -> None:
    found = usual(chunk(FIRST, None, {}))

    said = found.event(chunk({"content": text}, None, {}))

    assert said is not None and said.content == text
    assert said == found.shape().event(chunk({"content": text}, None, {}))
    assert b"data: " not in said.data and len(said.data.decode().splitlines()) == 1
    assert json.loads(said.data)["choices"][0]["delta"]["content"] == text


@pytest.mark.parametrize(
    "data",
    [
        chunk({"content": ""}, None, {}),
        chunk({"content": None}, None, {}),
        chunk({"content": 7}, None, {}),
        chunk({"content": "Hi"}, "stop", {}),
        chunk({"content": "Hi"}, None, {"stop_reason": None}),
        chunk({"content": "Hi", "role": "assistant"}, None, {}),
        chunk({"content": "Hi", "refusal": "no"}, None, {}),
        chunk({"content": "Hi"}, None, {}) + b" ",
        chunk({}, None, {}),
        chunk({}, None, {}).replace(b'"delta":{', b'"delta":{"content":'),
    ],
)
def test_a_chunk_that_says_anything_but_text_is_not_known(data: bytes) -> None:
    assert usual(chunk(FIRST, None, {})).event(data) is None


@pytest.mark.parametrize(
    "data",
    [
        chunk({"content": ""}, "stop", {}),
        chunk({}, "end_turn", {}),
        chunk({}, None, {}),
        chunk({}, "stop", {"stop_reason": None}),
        chunk({}, "stop", {})[:-1] + b',"id":"c-2"}',
        chunk({}, "stop", {}) + b" ",
    ],
)
def test_an_end_that_says_anything_else_is_not_known(data: bytes) -> None:
    assert usual(chunk(FIRST, None, {})).finish_of(data) is None
