"""The cost that a client is shown beside its usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.receipt import beside_usage, usage_chunk, usage_in, with_cost
from sseproxy.core.usage import Usage


def test_the_cost_is_added_and_all_else_kept_as_it_came() -> None:
    answer = b'{"big":12345678901234567890.10,"usage":{"prompt_tokens":1e1},"id":"a"}'
    assert (
        with_cost(answer, 45_000)
        == b'{"big":12345678901234567890.10,"usage":{"prompt_tokens":1e1,"cost":0.000045},"id":"a"}'
    )


@pytest.mark.parametrize("answer", [b'{"id":"a"}', b'{"id":"a","usage":null}', b'{"id":"\\ud83d","usage":null}'])
def test_without_usage_an_answer_stays_as_it_is(answer: bytes) -> None:
    assert with_cost(answer, 45_000) is answer


@pytest.mark.parametrize("usage", ['"none"', "3", "[]", "[1]", "true"])
@pytest.mark.parametrize("text", ["a", "\\ud83d", "a\tb"])
def test_a_usage_that_is_no_object_stays_as_it_is(text: str, usage: str) -> None:
    answer = f'{{"text":"{text}","usage":{usage}}}'.encode()
    assert with_cost(answer, 45_000) is answer


@pytest.mark.parametrize("text", ["\\ud83d", "a\tb"])
def test_an_answer_that_is_no_strict_json_gets_its_cost_too(text: str) -> None:
    answer = f'{{"text":"{text}","usage":{{"prompt_tokens":5}}}}'
    expected = json.loads(answer, strict=False)
    expected["usage"]["cost"] = 0.000045
    assert json.loads(with_cost(answer.encode(), 45_000)) == expected


@pytest.mark.parametrize("stated", [(0, 22), (8, 1), (8, 0)])
def test_what_is_charged_stands_where_the_usage_says_less(stated: tuple[int, int]) -> None:
    answer = b'{"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":22},"id":"a"}' % stated
    counted = Usage(8, output_tokens=22)
    usage = {"prompt_tokens": 8, "completion_tokens": 22, "total_tokens": 30, "cost": 0.000045}
    assert json.loads(with_cost(answer, 45_000, counted=counted)) == {"usage": usage, "id": "a"}
    typed = b'{"usage":{"input_tokens":%d,"output_tokens":%d,"total_tokens":22}}' % stated
    usage = {"input_tokens": 8, "output_tokens": 22, "total_tokens": 30, "cost": 0.000045}
    assert json.loads(with_cost(typed, 45_000, counted=counted)) == {"usage": usage}
    vectors = b'{"usage":{"prompt_tokens":0,"total_tokens":0}}'
    assert "completion_tokens" not in json.loads(with_cost(vectors, 45_000, counted=Usage(8)))["usage"]


def test_of_a_message_what_a_cache_had_stands_beside_the_input() -> None:
    answer = b'{"type":"message","usage":{"input_tokens":0,"cache_read_input_tokens":6,"output_tokens":1}}'
    usage = {"input_tokens": 2, "cache_read_input_tokens": 6, "output_tokens": 22, "cost": 0.000045}
    charged = Usage(8, cached_input_tokens=6, output_tokens=22)
    assert json.loads(with_cost(answer, 45_000, counted=charged))["usage"] == usage


def test_a_small_cost_beside_counted_tokens_is_written_without_an_exponent() -> None:
    answer = b'{"usage":{"prompt_tokens":0,"completion_tokens":1,"total_tokens":1}}'
    assert with_cost(answer, 9_000, counted=Usage(7, output_tokens=1)).endswith(b'"cost":0.000009}}')


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize(
    "usage",
    [
        '{"prompt_tokens":5}',
        '{"prompt_tokens":5,"cost":1}',
        '{"prompt_tokens":5,"\\u0063ost":1}',
        '{ "prompt_tokens" : 5 }',
        "{}",
    ],
)
@pytest.mark.parametrize(
    "answer", ['{"usage":USAGE,"id":"a"}', '{"x_groq":{"usage":USAGE},"usage":USAGE}', '{"id":"USAGE","usage":USAGE}']
)
def test_the_cost_is_told_once_and_of_the_answer_itself(answer: str, usage: str) -> None:
    answer = answer.replace('"USAGE"', json.dumps(usage)).replace("USAGE", usage)
    expected = json.loads(answer)
    expected["usage"]["cost"] = 0.000045
    assert json.loads(with_cost(answer.encode(), 45_000), object_pairs_hook=each_once) == expected


def test_half_a_surrogate_pair_beside_the_counts_does_no_harm() -> None:
    chunk = (
        b'{"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"note":"\\ud800"}}'
    )

    told = usage_in(chunk)

    assert json.loads(told)["note"] == "\ud800"
    assert json.loads(with_cost(chunk, 5 * 10**8, told))["usage"]["cost"] == 0.5
    assert json.loads(usage_chunk(b'{"id":"1","choices":[{"delta":{"content":"\\ud800"}}]}', Usage(), 0))["id"] == "1"


def test_a_usage_chunk_that_is_made_has_the_fields_that_every_chunk_has() -> None:
    said = {"id": "1", "service_tier": "default", "system_fingerprint": "fp"}
    made = json.loads(usage_chunk(json.dumps({**said, "provider": "p", "choices": []}).encode(), Usage(), 0))
    del made["usage"]
    assert made == {**said, "choices": []}


LAST = {"id": "1", "object": "o", "created": 1, "model": "m", "choices": [{"finish_reason": "stop"}], "provider": "p"}
EMPTY = {"index": 0, "finish_reason": None}


@pytest.mark.parametrize(
    ("api", "choice"), [("chat", {**EMPTY, "delta": {}}), ("completions", {**EMPTY, "text": "", "logprobs": None})]
)
def test_what_stands_beside_the_usage_is_told_in_a_chunk_with_a_choice(api: str, choice: dict[str, Any]) -> None:
    said = {"timings": {"predicted_ms": 7}, "citations": ["u"], "system_fingerprint": "fp_1"}
    usage = {**LAST, "choices": [], "usage": {"prompt_tokens": 1}, "cost": 1, "x_groq": {}, "error": None, **said}

    chunk = beside_usage(json.dumps(usage).encode(), json.dumps(LAST).encode(), api)

    assert json.loads(chunk) == {**{name: LAST[name] for name in ("id", "object", "created", "model")},
                                 "choices": [choice], **said}  # fmt: skip


def test_nothing_new_beside_the_usage_is_no_chunk() -> None:
    last = {**LAST, "service_tier": "default", "system_fingerprint": "fp_1"}
    usage = {**last, "choices": [], "usage": {"prompt_tokens": 1}, "obfuscation": "a9Xk"}
    assert beside_usage(json.dumps(usage).encode(), json.dumps(last).encode(), "chat") == b""
