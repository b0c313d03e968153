"""Every SDK reads an honest upstream rightly: what they report later about the proxy is then the proxy's doing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness import (
    NODE_CLIENTS,
    PYTHON_CLIENTS,
    Reading,
    Upstream,
    choose,
    raw,
    read_with_node,
    read_with_python,
    refuse,
    stream,
)

ASK: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "one two three"}],
    "max_tokens": 9,
    "stream": True,
    "stream_options": {"include_usage": True},
}
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}
CALL = {**ASK, "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"}
WHOLE = {name: value for name, value in ASK.items() if not name.startswith("stream")}


def check_text(reading: Reading, upstream: Upstream) -> None:
    assert reading.error is None
    assert reading.text == upstream.exchanges[0].text
    assert reading.finish_reason == "stop"
    assert reading.usage is not None
    assert (reading.usage["prompt_tokens"], reading.usage["completion_tokens"]) == (3, 9)


def check_call(reading: Reading) -> None:
    assert reading.error is None
    assert [call["name"] for call in reading.tool_calls] == ["f"]
    assert json.loads(reading.tool_calls[0]["arguments"]) == {"q": "one two three"}
    assert reading.finish_reason == "tool_calls"


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_openai_python_reads_text_and_calls(upstream: Upstream, client: str) -> None:
    check_text(read_with_python(client, upstream.url, ASK), upstream)
    check_call(read_with_python(client, upstream.url, {**CALL, "max_tokens": None}))


@pytest.mark.parametrize("client", ["create", "async"])
def test_openai_python_reads_a_whole_answer(upstream: Upstream, client: str) -> None:
    check_text(read_with_python(client, upstream.url, WHOLE), upstream)


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_openai_python_reports_a_refusal_and_a_cut(upstream: Upstream, client: str) -> None:
    upstream.scripts.extend([refuse(401, "no such key"), stream(fault="cut", after=2)])
    refused, cut = (read_with_python(client, upstream.url, ASK) for _ in range(2))

    assert refused.error is not None and refused.error["status"] == 401
    assert cut.error is not None


def test_the_node_clients_read_text_calls_and_whole_answers(upstream: Upstream) -> None:
    texts = read_with_node((client, upstream.url, ASK) for client in NODE_CLIENTS)
    calls = read_with_node((client, upstream.url, {**CALL, "max_tokens": None}) for client in NODE_CLIENTS)
    whole = read_with_node((client, upstream.url, WHOLE) for client in ("openai-node", "ai-sdk"))

    for reading in [*texts, *whole]:
        check_text(reading, upstream)
    for reading in calls:
        check_call(reading)


def test_the_node_clients_keep_the_order_of_the_cases_and_report_errors(upstream: Upstream) -> None:
    def pick(exchange: Any) -> Any:
        return {"good": stream(), "bad": refuse(429, "too fast"), "odd": raw(b"data: {\n\n")}[exchange.body["model"]]

    upstream.script = choose(pick)
    models = ["good", "bad", "odd", "good"]
    readings = read_with_node((c, upstream.url, {**ASK, "model": model}) for c in NODE_CLIENTS for model in models)

    assert [reading.error is None for reading in readings] == [True, False, False, True] * len(NODE_CLIENTS)
    assert [reading.error["status"] for reading in readings[1::4] if reading.error] == [429] * len(NODE_CLIENTS)
