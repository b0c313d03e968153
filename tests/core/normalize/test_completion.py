"""Answers in one document: gathered from streams, or read and repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.chat import Api
from sseproxy.core.failure import Failure
from sseproxy.core.normalize import completion_of, events_of, normalize, read_completion
from sseproxy.core.sse import FLUSH, Event
from sseproxy.core.usage import Usage
from tests.core.normalize.making import raw_events
from tests.wire.cases import load_cases

ENVELOPE = {"id": "a", "object": "chat.completion.chunk", "created": 5, "model": "m"}
WHOLE: dict[str, Any] = {
    "id": "a",
    "object": "chat.completion",
    "created": 5,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


def gather(api: Api, *bodies: dict[str, Any], done: bool = True) -> Any:
    raw = [Event(json.dumps(body).encode()) for body in bodies] + ([Event(b"[DONE]")] if done else [])
    return json.loads(completion_of(normalize(iter(raw), api=api, choices=2), api))


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **choice: Any) -> dict[str, Any]:
    return {**ENVELOPE, "choices": [{"index": index, "delta": delta, "finish_reason": finish, **choice}]}


def test_text_reasoning_refusal_and_logprobs_are_joined() -> None:
    token = {"token": "a", "logprob": -1}
    answer = gather(
        "chat",
        chunk({"content": "a", "reasoning": "r"}, logprobs={"content": [token]}),
        chunk({"content": "b", "reasoning": "s", "refusal": "no"}, logprobs={"content": [token]}),
        chunk({"refusal": "!", "annotations": [1]}),
        chunk({"annotations": [2], "extra_content": {"k": 1}}, "stop", stop_reason=3),
        {**ENVELOPE, "choices": [], "usage": WHOLE["usage"], "service_tier": "flex"},
    )
    assert answer["object"] == "chat.completion"
    assert answer["usage"] == WHOLE["usage"] and answer["service_tier"] == "flex"
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant", "content": "ab", "reasoning": "rs", "reasoning_content": "rs", "refusal": "no!",
        "annotations": [1, 2], "extra_content": {"k": 1},
    }  # fmt: skip
    assert choice["logprobs"] == {"content": [token, token]}
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", 3)


def test_tool_calls_are_joined_without_an_index() -> None:
    calls = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}, "extra_content": 1},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": "}"}},
    ]
    answer = gather("chat", *[chunk({"tool_calls": [call]}) for call in calls], chunk({}, "tool_calls"))
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "extra_content": 1, "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


@pytest.mark.parametrize("field", ["message", "delta"])
@pytest.mark.parametrize("content", ["Hi", [{"type": "text", "text": "Hi"}]])
def test_a_chat_answer_to_a_legacy_request_has_its_text(field: str, content: Any) -> None:
    choice = {"index": 0, field: {"role": "assistant", "content": content}, "finish_reason": "stop"}
    completion = read_completion("completions", json.dumps({**WHOLE, "choices": [choice]}).encode())
    answer = json.loads(completion.body)
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "Hi", "finish_reason": "stop"}]
    assert (completion.content, completion.hidden) == ("Hi", "")


def test_the_text_of_a_legacy_answer_is_a_string_and_told_once() -> None:
    choices = [{"index": 0, "text": "Hi", "message": {"content": "Hi"}}, {"index": 1, "text": None}]
    completion = read_completion("completions", json.dumps({**WHOLE, "choices": choices}).encode())
    assert [choice["text"] for choice in json.loads(completion.body)["choices"]] == ["Hi", ""]
    assert completion.content == "Hi"


@pytest.mark.parametrize("choice", [{"text": "Hi"}, {"text": "Hi", "message": {"content": "Hi"}}])
def test_the_text_of_a_chat_answer_counts_once_though_it_stands_in_the_legacy_field(choice: dict[str, Any]) -> None:
    completion = read_completion("chat", json.dumps({**WHOLE, "choices": [{"index": 0, **choice}]}).encode())
    assert (completion.content, completion.hidden) == ("Hi", "")


@pytest.mark.parametrize("choice", [{"text": "a", "reasoning": "r"}, {"message": {"content": "a", "thinking": "r"}}])
def test_the_reasoning_of_a_legacy_answer_is_kept_and_counts(choice: dict[str, Any]) -> None:
    completion = read_completion("completions", json.dumps({**WHOLE, "choices": [{"index": 0, **choice}]}).encode())
    (said,) = json.loads(completion.body)["choices"]
    assert (said["text"], said["reasoning"]) == ("a", "r")
    assert (completion.content, completion.hidden) == ("a", "r")


def test_the_reasoning_of_a_legacy_stream_is_kept_and_counts() -> None:
    parts = [{"choices": [{"index": 0, **said}]} for said in ({"text": "", "reasoning": "r"}, {"reasoning": "s"})]
    parts += [chunk({"reasoning_content": "t"}), {"choices": [{"index": 0, "text": "a"}]}]
    raw = [Event(json.dumps(part).encode()) for part in parts] + [Event(b"[DONE]")]
    events = list(normalize(iter(raw), api="completions"))
    assert "".join(event.hidden for event in events) == "rst"
    (choice,) = json.loads(completion_of(iter(events), "completions"))["choices"]
    assert (choice["text"], choice["reasoning"]) == ("a", "rst")


def test_a_tool_that_the_vendor_ran_counts_once_in_a_stream_that_is_gathered() -> None:
    called = {"index": 0, "type": "search", "arguments": "q"}
    tools = [{"executed_tools": [called]}, {"executed_tools": [{**called, "output": "o"}]}, {"content": "a"}]
    completion = read_completion("chat", json.dumps(gather("chat", *map(chunk, tools))).encode())
    assert (completion.content, completion.hidden) == ("a", "q")


def test_choices_come_in_order() -> None:
    parts = [chunk({"content": text}, index=index) for text, index in (("b", 1), ("a", 0), ("B", 1))]
    answer = gather("chat", *parts)
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "bB"]


def test_legacy_text_is_joined() -> None:
    parts = [{"choices": [{"text": text, "index": 0, "finish_reason": None}]} for text in "ab"]
    (choice,) = gather("completions", *parts)["choices"]
    assert choice == {"index": 0, "text": "ab", "finish_reason": "stop", "logprobs": None}


def test_a_legacy_function_call_is_joined() -> None:
    parts = [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})]
    message = gather("chat", *parts)["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
def test_a_stream_that_breaks_off_raises(api: Api) -> None:
    with pytest.raises(Failure, match="before the answer was complete"):
        gather(api, {**chunk({"content": "a"}), "type": "x"}, done=False)
    with pytest.raises(Failure):
        completion_of(iter([]), api)


def test_an_answer_without_end_is_bounded() -> None:
    with pytest.raises(Failure, match="more than 100 bytes"):
        completion_of(
            normalize(iter([Event(json.dumps(chunk({"content": "a"})).encode())] * 9), api="chat"), "chat", limit=100
        )


def test_a_response_is_what_its_last_event_says() -> None:
    item = {"type": "response.output_item.done", "output_index": 0, "item": {"id": "i"}}
    end = {"type": "response.completed", "response": {"id": "r", "output": []}}
    assert gather("responses", item, end) == {"id": "r", "output": [{"id": "i"}]}
    end["response"] = {"id": "r", "output": [1]}
    assert gather("responses", item, end) == {"id": "r", "output": [1]}


def test_a_message_is_put_together_from_its_blocks() -> None:
    message = gather(
        "messages",
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"c": 1}}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )  # fmt: skip
    assert message == {
        "id": "m",
        "content": [
            {"type": "thinking", "thinking": "a", "signature": "s"},
            {"type": "text", "text": "x", "citations": [{"c": 1}]},
            {"type": "tool_use", "name": "f", "input": {"a": 1}},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 9},
        "stop_reason": "tool_use",
    }


def test_an_answer_that_needs_no_repair_keeps_its_bytes() -> None:
    body = json.dumps(WHOLE, indent=3).encode()
    completion = read_completion("chat", body)
    assert completion.body is body
    assert (completion.content, completion.usage, completion.finish) == ("x", Usage(5, 0, 0, 2), "stop")


@pytest.mark.parametrize(
    ("message", "repaired"),
    [
        ({"content": "x"}, {"content": "x", "role": "assistant"}),
        ({"role": "assistant", "content": [{"type": "text", "text": "x"}]}, {"role": "assistant", "content": "x"}),
        (
            {"role": "assistant", "content": None, "reasoning": "r"},
            {"role": "assistant", "content": None, "reasoning": "r", "reasoning_content": "r"},
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"k": 1}}}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"k":1}'}}],
            },
        ),
    ],
)
def test_a_message_is_repaired(message: dict[str, Any], repaired: dict[str, Any]) -> None:
    answer = {"choices": [{"message": message}]}
    completion = read_completion("chat", json.dumps(answer).encode(), model="m", make_id=lambda: "i", now=lambda: 1)
    body = json.loads(completion.body)
    assert body["choices"][0]["message"] == repaired
    assert {name: body[name] for name in ENVELOPE} == {
        "id": "chatcmpl-i", "object": "chat.completion", "created": 1, "model": "m",
    }  # fmt: skip
    assert body["choices"][0]["finish_reason"] == ("tool_calls" if "tool_calls" in repaired else "stop")


def test_a_finish_and_usage_inside_the_message_are_read() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    message = {"role": "assistant", "content": "x", "finish_reason": "length", "usage": usage}

    completion = read_completion("chat", json.dumps({"choices": [{"message": message}]}).encode())

    answer = json.loads(completion.body)
    assert completion.usage == Usage(1, 0, 0, 2) and answer["usage"] == usage
    (choice,) = answer["choices"]
    assert choice == {"message": {"role": "assistant", "content": "x"}, "finish_reason": "length", "index": 0}


def test_an_ollama_answer_is_repaired() -> None:
    body = {"model": "m", "message": {"content": "x"}, "done": True, "prompt_eval_count": 5, "eval_count": 2}
    completion = read_completion("chat", json.dumps(body).encode())
    assert json.loads(completion.body)["choices"][0]["message"] == {"content": "x", "role": "assistant"}
    assert completion.usage == Usage(5, 0, 0, 2)


@pytest.mark.parametrize(
    ("api", "body", "content", "hidden", "usage", "finish"),
    [
        ("completions", {"choices": [{"text": "x", "finish_reason": "eos"}]}, "x", "", None, "stop"),
        ("embeddings", {"data": [], "usage": {"prompt_tokens": 4, "total_tokens": 4}}, "", "", Usage(4), None),
        (
            "messages",
            {
                "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "name": "f", "input": {}}],
                "stop_reason": "tool_use",
                "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3},
            },
            "x",
            "f{}",
            Usage(7, 2, 0, 3),
            "tool_calls",
        ),
        (
            "responses",
            {
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "x"}]},
                    {"type": "function_call", "name": "f", "arguments": "{}"},
                ],
                "status": "completed",
                "usage": {"input_tokens": 5, "output_tokens": 3},
            },
            "x",
            "rf{}",
            Usage(5, 0, 0, 3),
            "tool_calls",
        ),
    ],
)
def test_other_apis_are_read(
    api: str, body: dict[str, Any], content: str, hidden: str, usage: Usage | None, finish: str | None
) -> None:
    completion = read_completion(api, json.dumps(body).encode())
    assert (completion.content, completion.hidden, completion.usage) == (content, hidden, usage)
    assert completion.finish == finish


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b"null", b'{"choices":[]}', b'{"choices":5}', b'{"error":"e"}', b"<html>"]
)
def test_what_is_no_answer_raises(api: str, body: bytes) -> None:
    with pytest.raises(Failure):
        read_completion(api, body)


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.name)
def test_every_recorded_stream_gives_one_answer_or_its_error(case: Any) -> None:
    expect = case.facts["expect"]
    events = normalize(raw_events(case, [case.body]), api=case.api, choices=case.choices)
    if expect["error"]:
        with pytest.raises(Failure):
            completion_of(events, case.api)
        return
    completion = read_completion(case.api, completion_of(events, case.api))
    if "dialect" not in case.facts:
        texts = expect.get("texts", {"0": expect["text"]})
        assert completion.content == "".join(texts.values())


def test_a_cancelled_response_is_an_answer() -> None:
    response = {"id": "r", "object": "response", "status": "cancelled", "output": []}

    assert gather("responses", {"type": "response.cancelled", "response": response}, done=False) == response


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_an_answer_that_does_not_name_its_object_is_streamed_whole(end: bytes) -> None:
    body = b'{"choices":[{"message":{"role":"assistant","content":"whole"}}]}' + end

    *_, finish, done = (event for event in normalize(events_of([body]), api="chat") if event is not FLUSH)

    assert (finish.finish, done.data) == ("stop", b"[DONE]")


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_finished_is_no_answer(status: str) -> None:
    body = json.dumps({"object": "response", "status": status, "output": [], "usage": None}).encode()

    with pytest.raises(Failure, match=f"still '{status}'"):
        read_completion("responses", body)
