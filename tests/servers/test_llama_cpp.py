"""llama-cpp-python's server (0.3.36): no usage in a stream, both fields of a tool call, keys, embeddings, logprobs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from sseproxy.tokenizer import Tokenizer
from tests.harness import PYTHON_CLIENTS, RawClient, read_with_python
from tests.integration.books import KEY as CLIENT_KEY

from .desk import CHAT, Desk, tokens_of

TALE = "Once upon a time some dragon (🐉) drank tea.\nThe end."
CITY = {"type": "object", "properties": {"city": {"enum": ["Kyoto"]}}, "required": ["city"]}
WEATHER = {
    "model": "tools",
    "messages": [{"role": "user", "content": "Kyoto?"}],
    "temperature": 0,
    "max_tokens": 60,
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": CITY}}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
}
"""Its grammar makes any model call the tool."""


def body(content: str = "Tell me a tale.", **fields: Any) -> dict[str, Any]:
    return {"model": "tale", "messages": [{"role": "user", "content": content}], "temperature": 0, **fields}


REQUESTS = {
    "a tale": body(),
    "cut by max_tokens": body(max_tokens=6),
    "cut by a stop sequence": body(stop=["dragon"]),
    "two choices, of which it makes one": body(n=2, max_tokens=6),
    "a tool call": WEATHER,
}


@pytest.mark.parametrize("request_body", REQUESTS.values(), ids=REQUESTS)
def test_a_whole_answer_is_the_server_s_and_its_charge_what_the_server_reports(
    request_body: dict[str, Any], llama: Desk
) -> None:
    direct = llama.ask_directly(request_body)

    answer, charge = llama.charged(request_body)

    assert (answer.status, direct.status) == (200, 200)
    assert (answer.text, answer.calls, answer.finish) == (direct.text, direct.calls, direct.finish)
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "completed", "reported")
    assert tokens_of(charge) == direct.tokens
    assert Decimal(charge["cost_usd"]) == Decimal(direct.tokens[0] + 2 * direct.tokens[1]) / 1_000_000


@pytest.mark.parametrize("request_body", REQUESTS.values(), ids=REQUESTS)
def test_a_stream_is_the_server_s_and_its_charge_is_counted_from_what_it_says(
    request_body: dict[str, Any], llama: Desk
) -> None:
    request_body = {**request_body, "stream": True, "stream_options": {"include_usage": True}}
    direct = llama.ask_directly(request_body)

    answer, charge = llama.charged(request_body)

    assert (answer.text, answer.calls, answer.finish) == (direct.text, direct.calls, direct.finish)
    assert answer.done
    assert direct.usage is None
    assert (charge["outcome"], charge["usage_source"]) == ("completed", "counted")
    told = answer.text + "".join(name + json.dumps(arguments) for name, arguments in answer.calls)
    assert charge["output_tokens"] == pytest.approx(Tokenizer().count(told, request_body["model"]), abs=2)
    assert tokens_of(charge) == answer.tokens
    assert charge["input_tokens"] > 0


def test_the_tale_and_the_call_are_there(llama: Desk) -> None:
    told, called = llama.ask(body(stream=True)), llama.ask({**WEATHER, "stream": True})

    assert (told.text, told.finish) == (TALE, "stop")
    assert (called.calls, called.finish) == ([("weather", {"city": "Kyoto"})], "tool_calls")
    # What the server says a second time in the older field would hide the call from openai-node's helper.
    assert not any("function_call" in choice["delta"] for chunk in called.body for choice in chunk["choices"])


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_openai_python_reads_it_all(client: str, llama: Desk) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    told = read_with_python(client, f"{llama.url}/v1", body(**options), CLIENT_KEY)
    called = read_with_python(client, f"{llama.url}/v1", {**WEATHER, **options}, CLIENT_KEY)

    assert (told.error, told.text, told.finish_reason) == (None, TALE, "stop")
    assert told.usage is not None
    assert told.usage["completion_tokens"] > 0
    assert called.error is None
    assert [(call["name"], json.loads(call["arguments"])) for call in called.tool_calls] == [
        ("weather", {"city": "Kyoto"})
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_log_probabilities_pass(stream: bool, llama: Desk) -> None:
    request = body(logprobs=True, top_logprobs=2, max_tokens=3, stream=stream)

    answers = (llama.ask(request), llama.ask_directly(request))

    def of(answer: Any) -> list[Any]:
        chunks = answer.body if stream else [answer.body]
        told = [choice.get("logprobs") for chunk in chunks for choice in chunk["choices"]]
        return [entry for logprobs in told if logprobs for entry in logprobs["content"]]

    assert of(answers[0]) == of(answers[1])
    assert [entry["token"] for entry in of(answers[0])] == ["Once", " upon", " a"]


def test_legacy_completions(llama: Desk) -> None:
    request = {"model": "tale", "prompt": "<|assistant|>", "temperature": 0, "max_tokens": 40}
    direct = llama.ask_directly(request, "/v1/completions")

    answer, charge = llama.charged(request, "/v1/completions")
    streamed = llama.ask({**request, "stream": True}, "/v1/completions")

    assert (answer.text, answer.finish) == (TALE, "stop")
    assert tokens_of(charge) == direct.tokens
    assert (streamed.text, streamed.finish, streamed.done) == (TALE, "stop", True)


def test_embeddings_are_the_server_s_and_charged_as_it_reports(llama: Desk) -> None:
    request = {"model": "vectors", "input": ["Tell me", "a tale"]}
    direct = llama.ask_directly(request, "/v1/embeddings")

    answer, charge = llama.charged(request, "/v1/embeddings")

    assert answer.body["data"] == direct.body["data"]
    assert len(answer.body["data"]) == 2
    assert tokens_of(charge) == direct.tokens
    assert direct.tokens[0] > 0
    assert charge["usage_source"] == "reported"


def test_a_client_that_leaves_ends_the_generation_and_pays_for_what_it_saw(llama: Desk) -> None:
    read = ""
    with llama.new_charge() as charges, RawClient(llama.url) as client:
        client.post(CHAT, body("forever", max_tokens=4000, stream=True), key=CLIENT_KEY)
        while len(read) < 50:
            event = client.read_event()
            assert event is not None
            read += event.json["choices"][0]["delta"].get("content", "")
    assert llama.ask_directly(body()).text == TALE  # it generates one answer at a time

    charge = charges[0]
    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "counted")
    assert Tokenizer().count(read, "tale") <= charge["output_tokens"] < 4000
    assert "Disconnected from client" in llama.server.process.log


def test_a_prompt_beyond_the_context_is_refused_whole_and_an_error_streamed(llama: Desk) -> None:
    request = body("very long " * 900, max_tokens=2)
    direct, direct_stream = llama.ask_directly(request), llama.ask_directly({**request, "stream": True})

    answer, charge = llama.charged(request)
    streamed, stream_charge = llama.charged({**request, "stream": True})

    assert (answer.status, answer.body["error"]["code"]) == (400, "context_length_exceeded")
    assert answer.body["error"]["message"] == direct.body["error"]["message"]
    assert (direct_stream.status, direct_stream.body) == (200, [])  # what clients would take for an empty answer
    assert (streamed.status, streamed.body["error"]["code"]) == (502, "upstream_truncated")
    assert (charge["state"], stream_charge["state"]) == ("released", "released")


@pytest.mark.parametrize(
    ("fields", "status"), [({"max_tokens": "many"}, 500), ({"messages": []}, 500), ({"temperature": {}}, 500)]
)
def test_a_refusal_keeps_its_status_and_its_words_and_costs_nothing(
    fields: dict[str, Any], status: int, llama: Desk
) -> None:
    direct = llama.ask_directly({**body(), **fields})

    answer, charge = llama.charged({**body(), **fields})

    assert (answer.status, direct.status) == (status, status)
    assert answer.body["error"]["message"] == direct.body["error"]["message"]
    assert (charge["state"], *tokens_of(charge)) == ("released", 0, 0)


def test_its_models_are_listed_beside_the_configured_ones(llama: Desk) -> None:
    with openai.OpenAI(base_url=f"{llama.url}/v1", api_key=CLIENT_KEY, max_retries=0) as client:
        names = {model.id for model in client.models.list()}

    assert {"tale", "tools", "vectors", "tale-chat", "tale-tools", "tale-vectors"} <= names


def test_the_client_s_key_is_not_the_server_s(llama: Desk) -> None:
    with RawClient(llama.server.url) as client:
        assert client.post(CHAT, body(), key=CLIENT_KEY).status == 401
    assert llama.ask(body()).status == 200
