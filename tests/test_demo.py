"""The embedded demo: OpenAI's shapes, deterministic text and counts, faults on request."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client, EnvironBuilder, TestResponse

from sseproxy.demo import app
from sseproxy.demo.essay import NATURAL_LENGTH, pieces_of, write_essay, write_pieces
from tests.harness import PYTHON_CLIENTS, RawClient, read_with_python, waitress_thread

FAST = {"interval_ms": 0}
ASK = {"model": "m", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "limit": {"type": "integer"},
                "exact": {"type": "boolean"},
                "unit": {"enum": ["km", "mi"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
}


def post(path: str, body: Any, **demo: Any) -> TestResponse:
    return Client(app).post(path, json={**body, "demo": {**FAST, **demo}})


def chat(demo: dict[str, Any] | None = None, **body: Any) -> TestResponse:
    return post("/v1/chat/completions", {**ASK, **body}, **(demo or {}))


def events_of(response: TestResponse) -> list[Any]:
    """The JSON of every event; ``[DONE]`` as it is."""
    blocks = response.get_data(as_text=True).split("\n\n")
    assert blocks.pop() == ""
    payloads = [block.split("data: ", 1)[1] for block in blocks]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def stream(demo: dict[str, Any] | None = None, **body: Any) -> list[Any]:
    return events_of(chat(demo, stream=True, **body))


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks if chunk != "[DONE]" for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == index)


def test_the_same_request_gets_the_same_text_streamed_or_not() -> None:
    whole = chat().json["choices"][0]["message"]["content"]

    assert text_of(stream()) == whole == chat().json["choices"][0]["message"]["content"]


def test_the_essay_mentions_what_the_user_and_the_system_said() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *ASK["messages"]]
    text = chat(messages=messages).json["choices"][0]["message"]["content"]

    assert "Why is the sky blue?" in text and "Be brief." in text


def test_every_token_is_an_event_of_its_own_and_is_counted() -> None:
    *chunks, usage, done = stream(stream_options={"include_usage": True})
    written = [chunk for chunk in chunks if chunk["choices"][0]["delta"].get("content")]

    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(written) == len(pieces_of(text_of(chunks)))
    assert usage["usage"]["prompt_tokens"] == 5
    assert usage["usage"]["total_tokens"] == 5 + len(written)
    assert all(chunk["usage"] is None for chunk in chunks)


def test_usage_does_not_occur_in_a_stream_that_did_not_ask_for_it() -> None:
    assert not any("usage" in chunk for chunk in stream())


def test_an_essay_of_natural_length_takes_about_ten_seconds_to_type_out() -> None:
    length = len(pieces_of(write_essay("Why is the sky blue?", "")))

    assert NATURAL_LENGTH * 0.7 < length <= NATURAL_LENGTH


def test_pieces_joined_are_the_text_and_hold_at_most_seven_visible_characters() -> None:
    text = write_essay("naïve “quotes” 🎉🎉 and\nlines", "x")
    pieces = pieces_of(text)

    assert "".join(pieces) == text
    assert all(1 <= len(piece.strip()) <= 7 for piece in pieces)


@pytest.mark.parametrize("length", [0, 1, 7, 5000])
def test_a_length_asked_for_is_kept_to_the_token(length: int) -> None:
    assert len(write_pieces("word", "", 0, length)) == length
    assert chat({"tokens": length}).json["usage"]["completion_tokens"] == length


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer_and_says_so(field: str) -> None:
    answer = chat(**{field: 3}).json

    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_stop_sequence_ends_the_text_before_it() -> None:
    answer = chat(stop=["blue"]).json["choices"][0]

    assert answer["message"]["content"].endswith("the sky")
    assert answer["finish_reason"] == "stop"


def test_several_choices_differ_and_are_interleaved_and_counted_together() -> None:
    *chunks, usage, _ = stream({"tokens": 4}, n=3, stream_options={"include_usage": True})

    assert len({text_of(chunks, index) for index in range(3)}) == 3
    assert usage["usage"]["completion_tokens"] == 12
    assert [chunk["choices"][0]["index"] for chunk in chunks[:6]] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look_up"}}])
def test_a_required_tool_is_called_with_arguments_that_fit_its_schema(choice: Any) -> None:
    answer = chat(tools=[TOOL], tool_choice=choice).json["choices"][0]
    call = answer["message"]["tool_calls"][0]["function"]

    assert answer["finish_reason"] == "tool_calls" and answer["message"]["content"] is None
    assert call["name"] == "look_up"
    assert json.loads(call["arguments"]) == {
        "query": "Why is the sky blue?",
        "limit": 5,
        "exact": True,
        "unit": "km",
        "tags": ["Why is the sky blue?"],
    }


def test_a_streamed_tool_call_comes_in_pieces_that_join_to_the_whole() -> None:
    deltas = [c["choices"][0]["delta"] for c in stream(tools=[TOOL], tool_choice="required") if c != "[DONE]"]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    whole = chat(tools=[TOOL], tool_choice="required").json
    arguments = "".join(call["function"]["arguments"] for call in calls)

    assert arguments == whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert len(calls) == whole["usage"]["completion_tokens"]
    assert [("id" in call, "name" in call["function"]) for call in calls[:2]] == [(True, True), (False, False)]


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_tool_that_need_not_be_called_is_not(choice: str | None) -> None:
    assert chat(tools=[TOOL], tool_choice=choice).json["choices"][0]["finish_reason"] == "stop"


def test_completions_answer_a_prompt() -> None:
    body = {"model": "m", "prompt": "one two three"}
    whole = post("/v1/completions", body).json
    chunks = events_of(post("/v1/completions", {**body, "stream": True}))

    assert whole["usage"]["prompt_tokens"] == 3
    assert "".join(c["choices"][0]["text"] for c in chunks[:-1]) == whole["choices"][0]["text"]
    assert chunks[-1] == "[DONE]"


def test_a_response_streams_typed_events_that_end_with_the_whole() -> None:
    body = {"model": "m", "input": "hi there", "instructions": "be kind"}
    whole = post("/v1/responses", body).json
    events = events_of(post("/v1/responses", {**body, "stream": True}))
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")

    assert text == whole["output"][0]["content"][0]["text"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"] == whole["usage"]
    assert whole["usage"]["input_tokens"] == 4


def test_a_response_that_was_cut_is_incomplete() -> None:
    body = {"model": "m", "input": "hi", "max_output_tokens": 2, "stream": True}

    assert events_of(post("/v1/responses", body))[-1]["type"] == "response.incomplete"


def test_a_message_streams_typed_events_with_anthropics_usage() -> None:
    body = {"model": "m", "messages": ASK["messages"], "max_tokens": 1000, "system": "be kind"}
    whole = post("/v1/messages", body).json
    events = events_of(post("/v1/messages", {**body, "stream": True}))
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")

    assert text == whole["content"][0]["text"]
    assert events[0]["message"]["usage"]["input_tokens"] == whole["usage"]["input_tokens"] == 7
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert events[-1]["type"] == "message_stop"


def test_embeddings_are_unit_vectors_as_numbers_or_packed() -> None:
    body = {"model": "m", "input": ["one two", "three"], "dimensions": 48}
    plain = post("/v1/embeddings", body).json
    packed = post("/v1/embeddings", {**body, "encoding_format": "base64"}).json
    vector = plain["data"][0]["embedding"]
    unpacked = struct.unpack("<48f", base64.b64decode(packed["data"][0]["embedding"]))

    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert sum(value * value for value in vector) == pytest.approx(1)
    assert list(unpacked) == pytest.approx(vector, abs=1e-6)


def test_models_are_listed_and_found() -> None:
    listed = Client(app).get("/v1/models").json
    found = Client(app).get("/v1/models/demo").json

    assert found in listed["data"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b"[]", None),
        (b"\xff", None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": 3, "messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": ["x"]}', "messages[0]"),
        (b'{"model": "m", "messages": [{"role": []}]}', "messages[0]"),
        (b'{"model": "m", "messages": [{}], "max_tokens": 0}', "max_tokens"),
        (b'{"model": "m", "messages": [{}], "n": true}', "n"),
        (b'{"model": "m", "messages": [{}], "stop": 3}', "stop"),
        (b'{"model": "m", "messages": [{}], "tools": 3}', "tools"),
        (b'{"model": "m", "messages": [{}], "tool_choice": "required"}', "tool_choice"),
        (b'{"model": "m", "messages": [{}], "tool_choice": {"function": 1}}', "tool_choice"),
        (b'{"model": "m", "messages": [{}], "stream_options": {"include_usage": true}}', "stream_options"),
        (b'{"model": "m", "messages": [{}], "stream": true, "stream_options": 3}', "stream_options"),
        (b'{"model": "m", "messages": [{}], "demo": 3}', "demo"),
        (b'{"model": "m", "messages": [{}], "demo": {"fault": "boom"}}', "demo.fault"),
        (b'{"model": "m", "messages": [{}], "demo": {"fault": []}}', "demo.fault"),
        (b'{"model": "m", "messages": [{}], "demo": {"speed": 3}}', "demo.speed"),
        (b'{"model": "m", "messages": [{}], "demo": {"after": -1}}', "demo.after"),
        (b'{"model": "m", "messages": [{}], "demo": {"status": 200}}', "demo.status"),
        (b'{"model": "m", "messages": [{}], "demo": {"message": 1}}', "demo.message"),
    ],
)
def test_a_bad_body_is_refused_in_openais_shape(body: bytes, param: str | None) -> None:
    response = Client(app).post("/v1/chat/completions", data=body)

    assert response.status_code == 400
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    assert response.json["error"]["type"] == "invalid_request_error"
    assert response.json["error"]["param"] == param


def test_a_bad_message_is_refused_in_anthropics_shape() -> None:
    response = post("/v1/messages", {"model": "m", "messages": ASK["messages"]})

    assert response.status_code == 400
    assert response.json["error"]["type"] == "invalid_request_error"
    assert response.json["type"] == "error"


def test_half_a_surrogate_pair_does_not_break_the_answer() -> None:
    body = (
        b'{"model": "\\ud800", "messages": [{"content": "\\udc00 word"}], "stream": true, "demo": {"interval_ms": 0}}'
    )
    response = Client(app).post("/v1/chat/completions", data=body)

    assert events_of(response)[-1] == "[DONE]"


@pytest.mark.parametrize("path", ["/", "/v1/audio/speech", "/v1/chat/completions/"])
def test_an_unknown_path_is_404(path: str) -> None:
    assert Client(app).post(path, json=ASK).status_code == 404


def test_a_wrong_method_is_405() -> None:
    assert Client(app).get("/v1/chat/completions").status_code == 405
    assert Client(app).post("/v1/models").status_code == 405


def test_the_fault_status_refuses_with_that_status_and_retry_after() -> None:
    response = chat({"fault": "status", "status": 429, "message": "slow down", "retry_after": 7})

    assert response.status_code == 429
    assert response.headers["Retry-After"] == "7"
    assert response.json["error"] == {
        "message": "slow down",
        "type": "rate_limit_error",
        "param": None,
        "code": "demo_fault",
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", ASK),
        ("/v1/completions", {"model": "m", "prompt": "x"}),
        ("/v1/responses", {"model": "m", "input": "x"}),
        ("/v1/messages", {**ASK, "max_tokens": 100}),
    ],
)
def test_the_fault_error_ends_a_stream_with_an_error_event(path: str, body: dict[str, Any]) -> None:
    *before, last = events_of(post(path, {**body, "stream": True}, fault="error", after=2))

    assert "demo was asked to fail" in json.dumps(last)
    assert last.get("type") == "error" or set(last) == {"error"}
    assert "[DONE]" not in before


def test_the_fault_error_without_a_stream_is_a_500() -> None:
    assert chat({"fault": "error"}).status_code == 500


def test_the_fault_no_usage_never_tells_it() -> None:
    assert "usage" not in chat({"fault": "no_usage"}).json
    assert not any("usage" in c for c in stream({"fault": "no_usage"}, stream_options={"include_usage": True}))


def test_the_fault_no_done_ends_without_the_mark() -> None:
    assert stream({"fault": "no_done"})[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_fault_cut_breaks_the_stream_after_so_many_tokens() -> None:
    body = app_body({**ASK, "stream": True, "demo": {**FAST, "fault": "cut", "after": 2}})
    received = [next(body) for _ in range(3)]

    assert text_of([json.loads(event[6:]) for event in received]) == "Let us"
    with pytest.raises(ConnectionResetError):
        next(body)


def test_the_fault_hang_says_nothing_more_and_can_be_closed() -> None:
    body = app_body({**ASK, "stream": True, "demo": {**FAST, "fault": "hang", "after": 1}})
    received = [next(body) for _ in range(4)]

    assert [bool(piece) for piece in received] == [True, True, False, False]
    body.close()


def app_body(request: dict[str, Any]) -> Any:
    """The body as the app returns it, not yet read."""
    built = EnvironBuilder("/v1/chat/completions", method="POST", json=request).get_environ()
    return iter(app(built, lambda status, headers, exc_info=None: lambda data: None))


@pytest.mark.parametrize("stream", [True, False])
def test_it_keeps_to_pep_3333(stream: bool) -> None:
    body = {**ASK, "stream": stream, "demo": FAST}
    response = Client(validator(app)).post("/v1/chat/completions", json=body)

    assert response.status_code == 200 and response.data
    response.close()


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_openai_python_reads_it_over_a_real_server(client: str) -> None:
    body = {**ASK, "stream": True, "stream_options": {"include_usage": True}, "demo": FAST}
    with waitress_thread(app) as server:
        reading = read_with_python(client, server.url + "/v1", body)

    assert reading.error is None
    assert reading.text == write_essay("Why is the sky blue?", "")
    assert reading.usage is not None and reading.usage["prompt_tokens"] == 5


def test_a_cut_is_seen_as_a_cut_over_a_real_server() -> None:
    with waitress_thread(app) as server, RawClient(server.url) as client:
        client.post("/v1/chat/completions", {**ASK, "stream": True, "demo": {**FAST, "fault": "cut", "after": 2}})
        events = list(client.events())

    assert len(events) == 3
    assert client.ending == "cut"
