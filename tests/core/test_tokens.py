"""What of a request counts as input."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sseproxy.core.chat import Api
from sseproxy.core.texts import Texts
from sseproxy.core.tokens import texts_of
from sseproxy.tokenizer import Tokenizer

APIS: tuple[Api, ...] = ("chat", "completions", "responses", "messages", "embeddings")
TOKENIZER = Tokenizer()


def count(api: Api, model: str, **fields: Any) -> int:
    texts = texts_of(api, {"model": model, **fields})
    return texts.count(lambda text: TOKENIZER.count(text, model))


#: The example of OpenAI's cookbook and its verified figures.
COOKBOOK = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant"
        " that translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth"
        " to touch base on opportunities for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        },
    },
}


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4", 129), ("gpt-3.5-turbo", 129), ("gpt-4o-mini", 124)])
def test_messages_count_as_the_vendor_counts_them(model: str, tokens: int) -> None:
    assert count("chat", model, messages=COOKBOOK) == tokens


def test_tools_count_as_the_vendor_counts_them() -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
        {"role": "user", "content": "What's the weather like in San Francisco?"},
    ]

    assert count("chat", "gpt-4o", messages=messages, tools=[WEATHER]) == 101


def test_fields_may_still_be_encoded() -> None:
    encoded = {"messages": msgspec.Raw(msgspec.json.encode(COOKBOOK)), "model": msgspec.Raw(b'"gpt-4"')}

    assert texts_of("chat", encoded) == texts_of("chat", {"messages": COOKBOOK, "model": "gpt-4"})


def test_parts_and_calls_count_as_text() -> None:
    texts = texts_of(
        "chat",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
                {"role": "assistant", "tool_calls": [{"function": {"name": "three", "arguments": "four"}}]},
                {"role": "tool", "tool_call_id": "x", "content": "five"},
            ]
        },
    )

    assert texts.pieces == ["one", "two", "three", "four", "five"]


def test_a_schema_that_the_answer_must_follow_counts() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}

    assert texts_of("chat", {"messages": [], "response_format": form}).pieces == ["answer", '{"type":"object"}']


@pytest.mark.parametrize(
    ("prompt", "pieces", "overhead"),
    [
        ("one", ["one"], 0),
        (["one", "two"], ["one", "two"], 0),
        ([1, 2, 3], [], 3),
        ([[1, 2], [3]], [], 3),
        (None, [], 0),
    ],
)
def test_prompts_come_as_text_or_as_token_ids(prompt: object, pieces: list[str], overhead: int) -> None:
    for texts in (texts_of("completions", {"prompt": prompt}), texts_of("embeddings", {"input": prompt})):
        assert (texts.pieces, texts.overhead) == (pieces, overhead)


def test_responses_count_instructions_and_input() -> None:
    assert texts_of("responses", {"instructions": "one", "input": "two"}).pieces == ["one", "two"]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"type": "function_call", "name": "two", "arguments": "three"},
        {"type": "function_call_output", "output": "four"},
    ]
    assert texts_of("responses", {"input": items}).pieces == ["one", "two", "three", "four"]


def test_messages_count_system_and_tools() -> None:
    fields = {
        "system": [{"type": "text", "text": "one"}],
        "messages": [
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": [{"type": "tool_use", "name": "three", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "four"}]}]},
        ],
        "tools": [{"name": "five", "description": "six", "input_schema": {}}],
    }

    texts = texts_of("messages", fields)

    assert texts.pieces == ["one", "two", "three", '{"a":1}', "four", "five", "six", "{}"]
    assert texts.overhead > 346


def test_an_images_bytes_are_no_text() -> None:
    data = base64.b64encode(b"GIF89a" + bytes([10, 0, 10, 0])).decode()
    part = {"type": "image_url", "image_url": {"url": "data:image/gif;base64," + data, "detail": "low"}}
    claude = {"type": "image", "source": {"type": "base64", "data": data}}

    for api in APIS:
        texts = texts_of(api, {"messages": [{"role": "user", "content": [part, claude]}]})
        assert texts.pieces == []
    assert texts_of("chat", {"messages": [{"content": [part]}]}).overhead == 3 + 4 + 85
    assert texts_of("messages", {"messages": [{"content": [claude]}]}).overhead == 3 + 4 + 1


def in_message(*parts: Any, **message: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts), **message}]}


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        ("messages", in_message({"type": "document", "source": {"type": "text", "data": "one"}})),
        (
            "messages",
            in_message(
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "one"}]}}
            ),
        ),
        (
            "messages",
            in_message(
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": [
                        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "one"}}
                    ],
                }
            ),
        ),
        ("messages", in_message({"type": "thinking", "thinking": "one", "signature": "s"})),
        ("messages", {"tools": [{"input_examples": ["one"]}]}),
        ("chat", in_message({"type": "file", "file": {"file_id": "f", "file_data": "data:text/csv;base64,b25l"}})),
        ("chat", {"tools": [{"type": "custom", "custom": {"description": "one"}}]}),
        ("chat", in_message(tool_calls=[{"id": "1", "type": "custom", "custom": {"input": "one"}}])),
        ("chat", in_message(reasoning_content="one")),
        ("chat", {"prediction": {"type": "content", "content": "one"}}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "b25l"}]}]}),
        ("responses", {"input": [{"type": "custom_tool_call", "call_id": "1", "input": "one"}]}),
        ("responses", {"input": [{"type": "mcp_call", "id": "1", "arguments": "", "output": "one"}]}),
        ("responses", {"input": [{"type": "code_interpreter_call", "container_id": "c", "code": "one"}]}),
        ("responses", {"input": [{"type": "shell_call_output", "output": [{"stdout": "one", "stderr": ""}]}]}),
        ("responses", {"tools": [{"type": "custom", "description": "one"}]}),
        ("responses", {"prompt": {"id": "p", "variables": {"id": "one"}}}),
        ("responses", {"instructions": [{"role": "developer", "content": "one"}]}),
        ("embeddings", {"input": [{"text": "one"}]}),
        ("embeddings", in_message("one")),
    ],
)
def test_whatever_a_text_stands_in_it_counts(api: Api, fields: dict[str, Any]) -> None:
    assert texts_of(api, fields).pieces == ["one"]


def test_a_server_s_tool_is_called_as_any_other() -> None:
    part = {"type": "server_tool_use", "id": "1", "name": "search", "input": {"url": "one"}}

    assert texts_of("messages", in_message(part)).pieces == ["search", '{"url":"one"}']


@pytest.mark.parametrize("label", ["id", "type", "call_id", "url", "signature"])
def test_a_long_text_hides_behind_no_name(label: str) -> None:
    long = "word " * 1000

    for part in (
        {label: long},
        {"type": "new", "": "", "new": {label: long}},
        {"type": "text", "text": None, "new": {label: long}},
    ):
        assert texts_of("chat", in_message(part)).pieces == [long]
    assert texts_of("chat", in_message({label: "short"})).pieces == []


def test_a_text_in_a_request_too_deep_to_be_read_counts() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    body = f'[{{"role":"user","content":"one two","deep":{deep}}}]'.encode()

    for api in ("chat", "messages"):
        assert texts_of(api, {"messages": msgspec.Raw(body)}).count(len) > len(body)


PDF = base64.b64encode(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"\x8f" * 7985).decode()


@pytest.mark.parametrize(
    ("api", "part"),
    [
        ("messages", {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}),
        ("chat", {"type": "file", "file": {"file_data": "data:application/pdf;base64," + PDF}}),
        ("responses", {"type": "input_file", "file_data": PDF}),
    ],
)
def test_a_file_that_is_no_text_counts_by_its_size(api: Api, part: dict[str, Any]) -> None:
    fields = {"input": [{"role": "user", "content": [part]}]} if api == "responses" else in_message(part)

    assert texts_of(api, fields) == Texts([], 3 + 4 + 1000)


@pytest.mark.parametrize(("kind", "tokens"), [("wav", 10), ("mp3", 75)])
def test_a_recording_counts_by_its_size(kind: str, tokens: int) -> None:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"\x80" * 30_000).decode(), "format": kind}}

    assert texts_of("chat", in_message(part)) == Texts([], 3 + 4 + tokens)


def test_a_picture_counts_as_one_wherever_it_stands() -> None:
    gif = base64.b64encode(b"GIF89a" + bytes([10, 0, 10, 0])).decode()
    shown = texts_of(
        "responses", {"input": [{"content": [{"type": "input_image", "image_url": f"data:;base64,{gif}"}]}]}
    )

    for item in (
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": f"data:;base64,{gif}"}},
        {"type": "image_generation_call", "id": "1", "result": gif},
        {"type": "message", "content": [{"type": "input_file", "file_data": f"data:image/gif;base64,{gif}"}]},
    ):
        assert texts_of("responses", {"input": [item]}) == shown


def test_what_a_schema_says_in_any_other_way_counts() -> None:
    parameters = {
        "type": "object",
        "$defs": {"city": {"enum": ["one"]}},
        "properties": {"place": {"type": "array", "title": "Place", "items": {"enum": ["two"]}}},
    }
    tool = {"type": "function", "name": "x", "parameters": parameters}

    assert texts_of("responses", {"tools": [tool]}).pieces == [
        "x:", '{"$defs":{"city":{"enum":["one"]}}}', "place:array:", '{"enum":["two"]}',
    ]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "content",
                    "image_url",
                    "url",
                    "source",
                    "data",
                    "function",
                    "name",
                    "arguments",
                    "tools",
                    "custom",
                    "file_data",
                    "encrypted_content",
                ]
                + ["parameters", "properties", "enum", "items", "input", "output", "role", "tool_calls", "schema"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
NAMES = ["model", "messages", "prompt", "input", "instructions", "system", "tools", "functions", "text", "suffix"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(APIS), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_request_is_too_strange_to_be_counted(api: Api, fields: dict[str, Any]) -> None:
    assert texts_of(api, fields).count(len) >= 0


PARTS = st.sampled_from(["role", "content", "name", "refusal", "tool_calls"])


@given(st.lists(st.dictionaries(PARTS, st.none() | st.integers() | st.text() | st.lists(st.text())) | st.text()))
def test_messages_count_alike_encoded_and_decoded(messages: list[Any]) -> None:
    encoded = {"messages": msgspec.Raw(msgspec.json.encode(messages))}

    assert texts_of("chat", encoded) == texts_of("chat", {"messages": messages})


@pytest.mark.parametrize("api", APIS)
def test_a_deep_request_is_counted(api: Api) -> None:
    deep = b'{"content":[' * 50_000 + b"]}" * 50_000
    fields = {name: msgspec.Raw(b"[" + deep + b"]") for name in NAMES}

    assert texts_of(api, fields).count(len) >= 0


def test_a_deep_tool_is_counted() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": {"type": "array", "items": schema}}}

    texts = texts_of("responses", {"tools": [{"type": "function", "name": "x", "parameters": schema}]})

    assert texts.count(len) > 0
