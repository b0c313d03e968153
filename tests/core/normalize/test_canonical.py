"""What is recognised as canonical is what repairing would leave as it is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.chunk import read_json
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.canonical import is_canonical
from sseproxy.core.normalize.completion import read_completion, repair
from sseproxy.core.normalize.envelope import Identity
from sseproxy.core.usage import find_usage
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
    assert is_canonical(api, WHOLE[api], find_usage(WHOLE[api]))
    without = {name: value for name, value in WHOLE[api].items() if name != "usage"}
    assert is_canonical(api, without, None)


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
    if is_canonical(api, read_json(body), find_usage(read_json(body))):
        assert (bytes_, repaired, usage) == (body, read_json(body), find_usage(read_json(body)))


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (0, "id", ""), (0, "id", 1), (0, "object", "chat.completion.chunk"), (0, "created", 5.0), (0, "created", True),
        (0, "created", 2**53), (0, "model", None), (0, "usage", None), (0, "choices", {}), (0, "choices", []),
        (1, "index", "0"), (1, "delta", None), (1, "usage", None), (1, "finish_reason", None),
        (1, "finish_reason", "eos"), (1, "message", None), (2, "content", ["x"]), (2, "reasoning", "r"),
        (2, "tool_calls", []), (2, "function_call", {}), (2, "role", ""), (2, "reasoning_content", 1),
        (3, "prompt_tokens", 5.0), (3, "prompt_tokens", "5"), (3, "input_tokens", 5), (3, "total_tokens", 8),
        (4, "cached_tokens", "0"),
    ],
)  # fmt: skip
def test_what_repairing_might_change_is_not(place: int, name: str, value: Any) -> None:
    answer = changed(CHAT, [(place, name, value)])
    assert not is_canonical("chat", answer, find_usage(answer))
