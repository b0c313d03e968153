"""core/inputs: fields in, chat messages out, and errors that name the field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from sseproxy.core.chat import BadRequest
from sseproxy.core.inputs import MOST_MESSAGES, Field, Inputs

BOTH = Inputs(message="message", messages="history")
HISTORY = Inputs(message=None, messages="history")
USER = {"role": "user", "content": "hi"}


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def as_json(value: Any) -> msgspec.Raw:
    return raw(json.dumps(value))


def messages(inputs: Inputs, **fields: Field) -> Any:
    return json.loads(bytes(inputs.read(fields, "m").fields["messages"]))


def fault(inputs: Inputs, asked: str | None = "m", **fields: Field) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        inputs.read(fields, asked)
    assert caught.value.status == 400
    assert caught.value.param
    assert f"'{caught.value.param}'" in caught.value.message
    return caught.value


def test_a_message_becomes_one_streamed_user_message() -> None:
    request = Inputs().read({"message": "hi"}, "m")

    assert json.loads(request.encode()) == {"model": "m", "messages": [USER], "stream": True}
    assert (request.api, request.model, request.stream, request.wants_usage) == ("chat", "m", True, False)


def test_the_field_of_the_message_has_any_name() -> None:
    assert messages(Inputs(message="q"), q="hi", message="not this") == [USER]


@pytest.mark.parametrize("content", ['"a\\u00e4\\ud83d\\ude00 \\/"', '[{"type":"text","text":"1e400",  "x":1.0}]'])
def test_json_contents_pass_byte_for_byte(content: str) -> None:
    history = raw(f'[{{"role":"user","content":{content}}}]')

    sent = BOTH.read({"history": history, "message": raw(content)}, "m").encode().decode()

    assert sent.count(content) == 2


def test_text_of_forms_keeps_its_line_ends_and_every_letter() -> None:
    text = 'a\r\n"b"\tc\\ \U0001f600\u2028'

    assert messages(Inputs(), message=text) == [{"role": "user", "content": text}]


def test_the_message_follows_the_history() -> None:
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]

    assert messages(BOTH, history=as_json(history), message=as_json("hi")) == [*history, USER]


@pytest.mark.parametrize("none", [None, raw("null"), raw("[]"), "", "[]"])
def test_a_conversation_begins_without_a_history(none: Field | None) -> None:
    fields = {} if none is None else {"history": none}

    assert messages(BOTH, message="hi", **fields) == [USER]


def test_a_history_in_a_form_is_json_text() -> None:
    assert messages(HISTORY, history=json.dumps([USER])) == [USER]


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
def test_every_role_of_a_conversation_is_taken(role: str) -> None:
    message = {"role": role, "content": "x", "name": "bob"}

    assert messages(HISTORY, history=as_json([message])) == [message]


def test_what_else_a_page_keeps_with_its_messages_is_left_out() -> None:
    kept = {**USER, "id": 7, "createdAt": "today", "tool_calls": [{"id": "x"}]}

    assert messages(HISTORY, history=as_json([kept])) == [USER]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "is missing"),
        (raw("null"), "is missing"),
        ("", "is empty"),
        (" \n", "is empty"),
        (raw('" "'), "is empty"),
        (raw("[]"), "is empty"),
        (raw("5"), "must be a string"),
        (raw("{}"), "must be a string"),
        (raw("true"), "must be a string"),
        (raw('["a"]'), "must be a string or a list of content parts"),
        (raw('[{"text":"a"}]'), "must be a string or a list of content parts"),
        (raw('"\\ud800"'), "must be a string"),
    ],
)
def test_a_message_that_is_none_is_refused(value: Field | None, what: str) -> None:
    failure = fault(Inputs(message="q"), **({} if value is None else {"q": value}))

    assert failure.param == "q"
    assert what in failure.message


@pytest.mark.parametrize(
    ("value", "param", "what"),
    [
        (None, "history", "is missing"),
        (raw("null"), "history", "is missing"),
        ("", "history", "is missing"),
        (raw("[]"), "history", "is empty"),
        ("[]", "history", "is empty"),
        ("hello", "history", "must be a list of messages, written as JSON"),
        ('[{"role":"user"', "history", "must be a list of messages, written as JSON"),
        (raw('"[]"'), "history", "must be a list of messages"),
        (raw("{}"), "history", "must be a list of messages"),
        (raw('["hi"]'), "history[0]", "must be an object {role, content}"),
        (as_json([USER, {"content": "x"}]), "history[1].role", "must be one of user, assistant, system, developer"),
        (as_json([USER, {"role": "bot", "content": "x"}]), "history[1].role", "must be one of"),
        (as_json([{"role": "tool", "content": "x", "tool_call_id": "1"}]), "history[0].role", "must be one of"),
        (as_json([{"role": "function", "content": "x"}]), "history[0].role", "must be one of"),
        (as_json([{"role": 1, "content": "x"}]), "history[0].role", "must be a string"),
        (as_json([{"role": "user"}]), "history[0].content", "is missing"),
        (as_json([{"role": "user", "content": None}]), "history[0].content", "must be a string"),
        (as_json([{"role": "user", "content": 1}]), "history[0].content", "must be a string"),
        (as_json([{"role": "user", "content": []}]), "history[0].content", "is empty"),
        (as_json([{**USER, "name": 1}]), "history[0].name", "must be a string"),
        (as_json([USER] * (MOST_MESSAGES + 1)), "history", f"at most {MOST_MESSAGES}"),
        ("[" * 100_000, "history", "must be a list of messages"),
    ],
)
def test_a_history_that_is_none_is_refused_at_its_place(value: Field | None, param: str, what: str) -> None:
    failure = fault(HISTORY, **({} if value is None else {"history": value}))

    assert failure.param == param
    assert what in failure.message


def test_a_history_alone_does_not_stand_for_the_message() -> None:
    assert fault(BOTH, history=as_json([USER])).param == "message"


@pytest.mark.parametrize("model", ["gpt", raw('"gpt"')])
def test_without_a_model_of_its_own_the_client_names_it(model: Field) -> None:
    assert Inputs().read({"message": "hi", "model": model}, None).model == "gpt"


def test_the_route_s_own_model_is_not_the_client_s_to_choose() -> None:
    assert Inputs().read({"message": "hi", "model": "dear"}, "m").model == "m"


@pytest.mark.parametrize("model", [None, "", raw("null"), raw("1"), raw('""'), "a\nb", "x" * 257])
def test_a_model_that_is_none_is_refused(model: Field | None) -> None:
    fields: dict[str, Field] = {"message": "hi"} | ({} if model is None else {"model": model})

    assert fault(Inputs(), asked=None, **fields).param == "model"
