"""What is recognised as canonical is what repairing would leave as it is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sseproxy.core.chunk import read_json
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.canonical import read_canonical
from sseproxy.core.normalize.completion import read_completion, repair
from sseproxy.core.normalize.envelope import Identity
from sseproxy.core.usage import find_usage, read_usage
from tests.fuzz import KEYS, LEAVES

CHAT: dict[str, Any] = {
    "id": "a",
    "object": "chat.completion",
    "created": 5,
    "model": "m",
    "system_fingerprint": None,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "x", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
}
TEXT: dict[str, Any] = {
    "id": "a",
    "object": "text_completion",
    "created": 5,
    "model": "m",
    "choices": [{"text": "x", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
WHOLE = {"chat": CHAT, "completions": TEXT}

values = st.sampled_from(LEAVES) | st.dictionaries(st.sampled_from(KEYS), st.sampled_from(LEAVES), max_size=2)
MORE = ("reasoning_text", "thinking", "total_cost", "estimated_cost", "native_finish_reason", "base_resp", "done")
changes = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*KEYS, *MORE]), values), max_size=2)


def changed(answer: dict[str, Any], edits: list[tuple[int, str, Any]]) -> dict[str, Any]:
    """The answer with fields set in some of its objects."""
    answer = copy.deepcopy(answer)
    choice = answer["choices"][0]
    usage = answer["usage"]
    objects = [answer, choice, choice.get("message", choice), usage, usage.get("prompt_tokens_details", usage), answer]
    for place, name, value in edits:
        objects[place][name] = copy.deepcopy(value)
    return answer


@pytest.mark.parametrize("api", WHOLE)
def test_an_answer_as_openai_gives_it_is_canonical(api: str) -> None:
    body = json.dumps(WHOLE[api], indent=2).encode()
    completion = read_canonical(api, body)

    assert completion is not None
    assert completion.body is body
    assert (completion.content, completion.hidden) == ("x", "")
    assert (completion.usage, completion.finish) == (read_usage(WHOLE[api]), WHOLE[api]["choices"][0]["finish_reason"])


@given(api=st.sampled_from(sorted(WHOLE)), edits=changes)
def test_repairing_a_canonical_answer_changes_nothing(api: str, edits: list[tuple[int, str, Any]]) -> None:
    answer = changed(WHOLE[api], edits)
    body = json.dumps(answer).encode()
    try:
        completion = read_completion(api, body, model="m", make_id=lambda: "i", now=lambda: 1)
    except Failure:
        return
    identity = Identity(api, "m", make_id=lambda: "i", now=lambda: 1)
    repaired, bytes_, usage = repair(api, read_json(body), body, identity)
    assert completion.body == bytes_
    if read_canonical(api, body) is not None:
        assert (bytes_, repaired, usage) == (body, read_json(body), find_usage(read_json(body)))
        assert read_json(completion.told) == usage
        assert read_completion(api, body, answer=read_json(body)) == replace(completion, told=b"")


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (0, "id", ""), (0, "id", 1), (0, "object", "chat.completion.chunk"), (0, "created", 5.0), (0, "created", True),
        (0, "created", 2**53), (0, "model", None), (0, "usage", None), (0, "choices", {}), (0, "choices", []),
        (1, "index", "0"), (1, "delta", None), (1, "usage", None), (1, "finish_reason", None),
        (1, "finish_reason", "eos"), (1, "message", None), (2, "content", ["x"]), (2, "reasoning", "r"),
        (2, "thinking_blocks", [{"thinking": "r"}]), (2, "executed_tools", [{"arguments": "a"}]),
        (1, "reasoning", "r"), (1, "reasoning_content", "r"),
         (2, "usage", {}), (2, "finish_reason", "stop"),
        (2, "tool_calls", []), (2, "function_call", {}), (2, "role", ""), (2, "reasoning_content", 1),
        (3, "prompt_tokens", 5.0), (3, "prompt_tokens", "5"), (3, "input_tokens", 5), (3, "total_tokens", 8),
        (4, "cached_tokens", "0"), (0, "x_groq", {"id": "r", "error": "e"}),
    ],
)  # fmt: skip
def test_what_repairing_might_change_is_not(place: int, name: str, value: Any) -> None:
    assert read_canonical("chat", json.dumps(changed(CHAT, [(place, name, value)])).encode()) is None


@pytest.mark.parametrize("damage", [b"\xff", b"\x01", b'","error":{"message":"m"},"a":"', b'","cost":1,"a":"'])
def test_fields_that_nobody_asks_for_are_looked_at_too(damage: bytes) -> None:
    body = json.dumps({"a": "a", **CHAT}).encode()

    assert read_canonical("chat", body) is not None
    assert read_canonical("chat", body.replace(b'"a"', b'"a' + damage + b'"', 1)) is None


def test_no_other_api_has_a_canonical_answer() -> None:
    assert read_canonical("embeddings", json.dumps(CHAT).encode()) is None


def test_texts_of_all_choices_are_what_was_said_and_what_was_billed_unseen() -> None:
    audio = {"id": "a", "transcript": "t", "data": "AAAA", "expires_at": 1}
    said = {"role": "assistant", "content": "y", "refusal": "r", "reasoning_content": "h", "audio": audio}
    answer = {**CHAT, "choices": [*CHAT["choices"], {"index": 1, "message": said, "finish_reason": "stop"}]}
    completion = read_canonical("chat", json.dumps(answer).encode())

    assert completion is not None
    assert replace(completion, told=b"") == read_completion("chat", json.dumps(answer).encode(), answer=answer)
    assert (completion.content, completion.hidden) == ("xy", "hrt")
