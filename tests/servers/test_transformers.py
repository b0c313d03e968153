"""transformers serve (5.23): tool calls, reasoning, typed streams, usage in every answer, and its failures."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from sseproxy.tokenizer import Tokenizer
from tests.harness import PYTHON_CLIENTS, RawClient, read_with_python, serve
from tests.integration.books import KEY as CLIENT_KEY
from tests.integration.books import PRICE, Books

from .desk import CHAT, Desk, tokens_of

TALE = "Once upon a time some dragon (🐉) drank tea.\nThe end."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def body(content: str = "Tell me a tale.", **fields: Any) -> dict[str, Any]:
    return {"model": "tale", "messages": [{"role": "user", "content": content}], "temperature": 0, **fields}


REQUESTS = {
    "a tale": body(),
    "cut by max_tokens, in the middle of a character": body(max_tokens=9),
    "cut by a stop sequence": body(stop=["dragon"]),
    "reasoning": body("Please think."),
    "a tool call": body(tools=TOOLS),
    "a tool's answer": {
        "model": "tale",
        "messages": [
            {"role": "user", "content": "Kyoto?"},
            {"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Kyoto"}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        "tools": TOOLS,
    },
    "fields it ignores": body(n=2, logprobs=True, top_logprobs=2, user="u", max_tokens=4),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("request_body", REQUESTS.values(), ids=REQUESTS)
def test_an_answer_is_the_server_s_and_its_charge_what_the_server_reports(
    request_body: dict[str, Any], stream: bool, transformers: Desk
) -> None:
    request_body = {**request_body, "stream": stream}
    direct = transformers.ask_directly(request_body)

    answer, charge = transformers.charged(request_body)

    assert (answer.status, direct.status) == (200, 200)
    parts = ("text", "reasoning", "calls", "finish")
    assert [getattr(answer, part) for part in parts] == [getattr(direct, part) for part in parts]
    assert answer.done is stream
    assert direct.tokens[1] > 0
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "completed", "reported")
    assert tokens_of(charge) == direct.tokens
    assert Decimal(charge["cost_usd"]) == Decimal(direct.tokens[0] + 2 * direct.tokens[1]) / 1_000_000


def test_the_tale_the_thoughts_and_the_call_are_there(transformers: Desk) -> None:
    told, thought, called = (transformers.ask(REQUESTS[name]) for name in ("a tale", "reasoning", "a tool call"))

    assert (told.text, told.finish) == (TALE, "stop")
    assert (thought.reasoning, thought.text) == ("Which tale?", TALE)
    assert (called.calls, called.finish) == ([("weather", {"city": "Kyoto"})], "tool_calls")


def test_usage_is_in_a_stream_for_those_who_asked_only(transformers: Desk) -> None:
    direct = transformers.ask_directly(body(stream=True))
    asked = transformers.ask(body(stream=True, stream_options={"include_usage": True}))

    assert transformers.ask(body(stream=True)).usage is None
    assert asked.tokens == direct.tokens
    assert asked.body[-1]["choices"] == []


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_openai_python_reads_it_all(client: str, transformers: Desk) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    told = read_with_python(client, f"{transformers.url}/v1", body("think", **options), CLIENT_KEY)
    called = read_with_python(client, f"{transformers.url}/v1", body(tools=TOOLS, **options), CLIENT_KEY)

    assert (told.error, told.text, told.reasoning, told.finish_reason) == (None, TALE, "Which tale?", "stop")
    direct = transformers.ask_directly(body("think"))
    assert told.usage is not None
    assert (told.usage["prompt_tokens"], told.usage["completion_tokens"]) == direct.tokens
    assert [(call["name"], json.loads(call["arguments"])) for call in called.tool_calls] == [
        ("weather", {"city": "Kyoto"})
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_legacy_completions(stream: bool, transformers: Desk) -> None:
    request = {"model": "tale", "prompt": "<|assistant|>", "temperature": 0, "stream": stream}
    direct = transformers.ask_directly(request, "/v1/completions")

    answer, charge = transformers.charged(request, "/v1/completions")

    assert (answer.text, answer.finish, answer.done) == (TALE, "stop", stream)
    assert tokens_of(charge) == direct.tokens == (1, 22)


def test_responses_streamed_and_whole(transformers: Desk) -> None:
    with openai.OpenAI(base_url=f"{transformers.url}/v1", api_key=CLIENT_KEY, max_retries=0) as client:
        with transformers.new_charge() as charges:
            whole = client.responses.create(model="tale", input="Tell me a tale.")
        with transformers.new_charge() as streamed_charges:
            events = list(client.responses.create(model="tale", input="Tell me a tale.", stream=True))

    last = events[-1]
    assert last.type == "response.completed"
    for response, charge in ((whole, charges[0]), (last.response, streamed_charges[0])):
        assert response.output_text == TALE
        assert response.usage is not None
        assert tokens_of(charge) == (response.usage.input_tokens, response.usage.output_tokens) == (24, 22)
        assert charge["usage_source"] == "reported"


def test_a_client_that_leaves_ends_the_generation_and_pays_for_what_it_saw(transformers: Desk) -> None:
    read = ""
    with transformers.new_charge() as charges, RawClient(transformers.url) as client:
        client.post(CHAT, body("forever", max_tokens=50_000, stream=True), key=CLIENT_KEY)
        while len(read) < 50:
            event = client.read_event()
            assert event is not None
            read += event.json["choices"][0]["delta"].get("content", "")
    # It generates one answer at a time: this one would wait for the 50,000 tokens, several minutes.
    assert transformers.ask_directly(body()).text == TALE

    charge = charges[0]
    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "counted")
    assert charge["input_tokens"] > 0
    assert Tokenizer().count(read, "tale") <= charge["output_tokens"] < 5000


def test_drained_the_charge_of_a_client_that_left_is_the_server_s_own(transformers: Desk, tmp_path: Path) -> None:
    request = body("forever", max_tokens=60, stream=True)
    direct = transformers.ask_directly(request)
    settings = {
        "upstreams": {"real": {"url": transformers.server.url}},
        "models": {"tale": {"model": transformers.server.models["tale"], "price": PRICE}},
        "users": {"alice": {"keys": [CLIENT_KEY]}},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "client_gone": "drain", "drain_limit": "20s"},
    }
    with serve(settings, directory=tmp_path) as proxy:
        with RawClient(proxy.url) as client:
            client.post(CHAT, request, key=CLIENT_KEY).read_event()
        charge = Books(tmp_path).one_ended()

    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "reported")
    assert tokens_of(charge) == direct.tokens
    assert direct.tokens[1] == 60


def test_requests_at_once_each_have_their_answer_and_charge(transformers: Desk) -> None:
    lengths = [3, 5, 7, 11, 13, 17]
    before = len(transformers.books.charges())
    with ThreadPoolExecutor(len(lengths)) as pool:
        answers = list(pool.map(lambda most: transformers.ask(body(max_tokens=most, stream=True)), lengths))

    rows = transformers.books.wait_for(
        lambda rows: len(rows) == before + 6 and all(row["state"] == "settled" for row in rows)
    )
    assert all(TALE.startswith(answer.text) for answer in answers)
    newest = sorted(rows, key=lambda row: row["started_at"])[-6:]
    assert sorted(row["output_tokens"] for row in newest) == lengths


def test_a_prompt_beyond_the_context_is_answered_as_the_server_does(transformers: Desk) -> None:
    request = body("very long " * 900, max_tokens=2)
    direct = transformers.ask_directly(request)

    answer, charge = transformers.charged(request)

    assert (answer.status, answer.text) == (direct.status, direct.text) == (200, "Once upon")
    assert tokens_of(charge) == direct.tokens
    assert direct.tokens[0] > 4096


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"foo": 1}, 422, "Unexpected fields in the request: {'foo'}"),
        ({"model": "another"}, 400, "Server is pinned to"),
        ({"max_tokens": "many"}, 500, "Internal Server Error"),
        ({"messages": []}, 500, "Internal Server Error"),
    ],
)
def test_a_refusal_keeps_its_status_and_its_words_and_costs_nothing(
    fields: dict[str, Any], status: int, told: str, stream: bool, transformers: Desk
) -> None:
    request = {**body(stream=stream), **fields}
    assert transformers.ask_directly(request).status == status

    answer, charge = transformers.charged(request)

    assert answer.status == status
    assert told in answer.body["error"]["message"]
    assert (charge["state"], Decimal(charge["cost_usd"]), *tokens_of(charge)) == ("released", 0, 0, 0)


def test_what_it_does_not_have_is_a_404_of_openai_s_shape(transformers: Desk) -> None:
    answer = transformers.ask({"model": "tale", "input": "a"}, "/v1/embeddings")

    assert (answer.status, answer.body["error"]["message"]) == (404, "Not Found")


def test_json_that_is_none_never_reaches_it(transformers: Desk) -> None:
    before = transformers.server.process.log.count("POST")

    assert transformers.ask(b'{"model": "tale", ').status == 400
    assert transformers.server.process.log.count("POST") == before


def test_its_broken_list_of_models_costs_its_own_rows_only(transformers: Desk) -> None:
    with RawClient(transformers.server.url) as client:
        assert client.get("/v1/models").status == 500
    with RawClient(transformers.url) as client:
        client.get("/v1/models", key=CLIENT_KEY)
        names = {row["id"] for row in json.loads(client.read_body())["data"]}

    assert client.status == 200
    assert "tale" in names
    assert any(name.startswith("demo") for name in names)
