"""core/chat: the request body, read no further than needed."""

from __future__ import annotations

import gzip
import json

import pytest

from sseproxy.core.chat import BadRequest, Request

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def test_unknown_fields_reach_the_upstream_byte_exact_and_in_order() -> None:
    body = (
        b'{"zeta":123456789012345678901234567890,"model":"m","messages":[{"role":"user","content":"hi","x":1.10}],'
        b'"temperature":1e-7,"alpha":{"b":[1.0,2],"a":null}}'
    )

    assert Request.parse("chat", body).encode() == body


def test_another_model_takes_the_place_of_the_old_one() -> None:
    request = Request.parse("chat", b'{"a":1,"model":"m","messages":[],"b":2}').with_model("n")

    assert request.encode() == b'{"a":1,"model":"n","messages":[],"b":2}'
    assert request.model == "n"


def test_a_repeated_key_is_sent_once_so_that_nobody_reads_another_value() -> None:
    request = Request.parse("chat", b'{"model":"dear","messages":[],"model":"cheap"}')

    assert request.model == "cheap"
    assert request.encode() == b'{"model":"cheap","messages":[]}'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[1]", None),
        (b'"text"', None),
        (b"\xff", None),
        (b"{" * 100_000, None),
        (b'{"messages":[]}', "model"),
        (b'{"model":"","messages":[]}', "model"),
        (b'{"model":1,"messages":[]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":null}', "messages"),
        (b'{"model":"m","messages":{}}', "messages"),
        (b'{"model":"m","messages":[],"stream":"yes"}', "stream"),
        (b'{"model":"m","messages":[],"stream":1}', "stream"),
        (b'{"model":"m","messages":[],"stream_options":[]}', "stream_options"),
        (b'{"model":"m","messages":[],"stream_options":{"include_usage":"x"}}', "stream_options.include_usage"),
    ],
)
def test_a_bad_body_is_refused_and_the_field_is_named(body: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        Request.parse("chat", body)

    assert caught.value.status == 400
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Model", "model"), ("MODEL", "model"), ("Messages", "messages"), ("me\u017f\u017fages", "messages"),
     ("Prompt", "prompt"), ("Input", "input"), ("inStructions", "instructions"), ("System", "system"), ("N", "n"),
     ("Stream", "stream"), ("Stream_Options", "stream_options"), ("Max_Tokens", "max_tokens"),
     ("max_to\u212aens", "max_tokens"), ("Max_completion_tokens", "max_completion_tokens"),
     ("MAX_OUTPUT_TOKENS", "max_output_tokens")],
)  # fmt: skip
@pytest.mark.parametrize("instead", [False, True])
def test_a_field_in_another_case_is_refused_since_go_takes_it_for_the_one_that_was_checked(
    name: str, meant: str, instead: bool
) -> None:
    fields = {"model": "cheap", "messages": [], meant: 1, name: "dear"}
    if instead:
        del fields[meant]

    with pytest.raises(BadRequest, match=f"must be spelt '{meant}'") as caught:
        Request.parse("chat", json.dumps(fields).encode())

    assert (caught.value.status, caught.value.param) == (400, name)


def test_the_option_for_usage_has_one_spelling_too() -> None:
    with pytest.raises(BadRequest) as caught:
        Request.parse("chat", b'{"model":"m","messages":[],"stream_options":{"Include_Usage":false}}')

    assert caught.value.param == "stream_options.Include_Usage"


def test_names_that_the_proxy_does_not_read_may_be_spelt_in_any_case() -> None:
    body = b'{"model":"m","messages":[],"Temperature":1,"topK":3,"MODELS":[],"\xc3\xa9":0}'

    assert Request.parse("chat", body).encode() == body


def test_asking_for_usage_keeps_the_clients_other_stream_options() -> None:
    body = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_obfuscation":false}}'
    request = Request.parse("chat", body)

    asked = json.loads(request.asking_usage(True).encode())

    assert asked["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert not request.asking_usage(True).wants_usage
    assert request.asking_usage(True).asking_usage(False).encode() == body


@pytest.mark.parametrize("options", [b'{"include_usage":true}', b'{"include_usage": true}'])
def test_a_client_that_asks_for_usage_and_nothing_else_has_its_request_sent_as_it_is(options: bytes) -> None:
    body = b'{"model":"m","messages":[],"stream":true,"stream_options":' + options + b"}"
    request = Request.parse("chat", body)

    assert request.wants_usage
    assert request.asking_usage(True) is request


@pytest.mark.parametrize(
    "options", [b'{"include_usage":true,"include_usage":false}', b'{"include_usage":false}', b"{}", b"null"]
)
def test_usage_is_asked_for_beside_whatever_stands_there_in_its_place(options: bytes) -> None:
    body = b'{"model":"m","messages":[],"stream":true,"stream_options":' + options + b"}"
    request = Request.parse("chat", body)

    assert not request.wants_usage
    assert b'"stream_options":{"include_usage":true}' in request.asking_usage(True).encode()


def test_a_request_that_does_not_ask_for_usage_is_the_same_when_that_is_taken_out_of_it() -> None:
    request = Request.parse("chat", b'{"model":"m","messages":[],"stream":true}')

    assert request.asking_usage(False) is request


def test_no_usage_is_asked_where_the_option_does_not_exist() -> None:
    whole = Request.parse("chat", CHAT)
    typed = Request.parse("responses", b'{"model":"m","input":"hi","stream":true}')

    assert whole.asking_usage(True) is whole
    assert typed.asking_usage(True) is typed


def test_embeddings_are_never_streamed_and_the_field_stays() -> None:
    body = b'{"model":"m","input":"hi","stream":true}'
    request = Request.parse("embeddings", body)

    assert not request.stream
    assert request.encode() == body


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        (b'[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"c"}}]', {"f"}),
        (b'[{"function":{"name":7}}]', set()),
        (b'"x"', set()),
        (b"null", set()),
    ],
)
def test_the_names_of_functions_are_read_where_they_are_told(tools: bytes, names: set[str]) -> None:
    assert Request.parse("chat", b'{"model":"m","messages":[],"tools":' + tools + b"}").tools() == names


def test_removing_the_only_stream_option_removes_the_field() -> None:
    body = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'

    assert Request.parse("chat", body).asking_usage(False).encode() == b'{"model":"m","messages":[],"stream":true}'


@pytest.mark.parametrize(
    ("prompt", "n", "choices"),
    [
        ("a", 1, 1),
        (["a", "b"], 1, 2),
        (["a", "b"], 3, 6),
        ([[1, 2], [3]], 1, 2),
        ([1, 2, 3], 2, 2),
        ([], 1, 1),
    ],
)
def test_each_of_several_prompts_has_its_choices(prompt: object, n: int, choices: int) -> None:
    fields = {"model": "m", "prompt": prompt, "n": n}

    assert Request.parse("completions", json.dumps(fields).encode()).choices == choices


@pytest.mark.parametrize("model", ["x" * 257, "a\nb", "a\x00b", "\u2028"])
def test_a_model_s_name_is_short_and_printable(model: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Request.parse("chat", json.dumps({"model": model, "messages": []}).encode())
    assert caught.value.param == "model"


@pytest.mark.parametrize("body", [b'{"model":"\xff","messages":[]}', b'{"model":"m","messages":["\xff"]}'])
def test_bytes_that_are_no_utf_8_are_refused_wherever_they_stand(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not UTF-8 text"):
        Request.parse("chat", body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (gzip.compress(b"{}", mtime=0), "is it compressed?"),
        (b'{"model":"\\ud83d"}', r"\\ud83d is half of a character \(byte 10\)"),
        (b'{"model":"\\uDE00x"}', r"\\uDE00 is half of a character"),
        (b'{"model":"\\ud83d\\ude00"', "truncated"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_the_reason(body: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        Request.parse("chat", body)


def test_embeddings_are_never_streamed() -> None:
    assert not Request.parse("embeddings", b'{"model":"m","input":"x","stream":true}').stream


def test_embeddings_of_messages_need_no_input() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'  # as vLLM has them
    assert Request.parse("embeddings", body).encode() == body


@pytest.mark.parametrize("n", [10**40, 1e300, "1e999999999"])
def test_more_answers_than_can_be_counted_are_as_many_as_can(n: int | float | str) -> None:
    assert Request.parse("chat", json.dumps({"model": "m", "messages": [], "n": n}).encode()).choices == 2**53


@pytest.mark.parametrize("field", ["stream", "stream_options", "n", "max_tokens"])
def test_a_field_that_is_null_is_as_good_as_absent(field: str) -> None:
    body = {"model": "m", "messages": [], field: None}
    assert not Request.parse("chat", json.dumps(body).encode()).stream


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_field_that_is_needed_must_not_be_null(field: str) -> None:
    body = {"model": "m", "messages": [], field: None}
    with pytest.raises(BadRequest, match=f"'{field}' is missing"):
        Request.parse("chat", json.dumps(body).encode())


def test_an_answer_that_is_generated_later_is_refused_for_nobody_could_bill_it() -> None:
    with pytest.raises(BadRequest) as caught:
        Request.parse("responses", b'{"model":"m","input":"x","background":true}')
    assert caught.value.param == "background"
    assert Request.parse("responses", b'{"model":"m","input":"x","background":false}')
