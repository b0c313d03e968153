"""The last chunk of a canonical stream: read once, for the meter and for who is shown what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.normalize.usage_alone import read_usage_alone
from sseproxy.core.usage import Usage

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CHUNK: dict[str, Any] = {
    "id": "a",
    "object": "chat.completion.chunk",
    "created": 5,
    "model": "m",
    "service_tier": "default",
    "choices": [],
    "usage": USAGE,
}
OWN = {"id": "a", "object": "chat.completion.chunk", "created": 5, "model": "m"}


@pytest.mark.parametrize("padding", [{}, {"obfuscation": "x"}])
def test_usage_stands_at_the_end_and_is_told_as_it_stands_there(padding: dict[str, str]) -> None:
    first = {name: CHUNK[name] for name in sorted(CHUNK, reverse=True)}

    event = read_usage_alone(json.dumps({**first, **padding}).encode(), OWN, fold=True)

    assert event is not None
    assert event.data.endswith(b',"usage":' + event.told + b"}")
    assert json.loads(event.data) == CHUNK
    assert (json.loads(event.told), event.usage) == (USAGE, Usage(input_tokens=5, output_tokens=2))


def test_usage_that_is_put_right_is_told_as_it_is_then() -> None:
    event = read_usage_alone(json.dumps({**CHUNK, "usage": {"input_tokens": 5}}).encode(), OWN, fold=True)

    assert event is not None
    assert json.loads(event.told) == json.loads(event.data)["usage"]
    assert json.loads(event.told)["prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "b"), ("id", None), ("model", "other"),
        ("object", "chat.completion"), ("choices", [{}]), ("choices", None),
        ("usage", None), ("usage", {}), ("usage", [5]), ("x_groq", {}),
    ],
)  # fmt: skip
def test_any_other_chunk_is_not_read(name: str, value: Any) -> None:
    assert read_usage_alone(json.dumps({**CHUNK, name: value}).encode(), OWN, fold=True) is None


def test_its_time_is_that_of_the_answer() -> None:
    event = read_usage_alone(json.dumps({**CHUNK, "created": 6}).encode(), OWN, fold=True)

    assert event is not None and json.loads(event.data) == CHUNK


@pytest.mark.parametrize("data", [b"[DONE]", b"", b"{", b"5", b"[]", json.dumps(CHUNK).encode()[:-1]])
def test_what_is_no_chunk_is_not_read(data: bytes) -> None:
    assert read_usage_alone(data, OWN, fold=True) is None
