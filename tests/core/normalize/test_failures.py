"""Errors in every spelling become one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.normalize.failures import failure_in, failure_of
from sseproxy.core.usage import Usage

NONE: list[Any] = [
    None,
    False,
    0,
    "",
    {},
    [],
    "none",
    "OK",
    {"code": 0, "message": "Success"},
    {"message": "", "code": None},
]


@pytest.mark.parametrize(
    ("body", "message", "type", "code", "status"),
    [
        ({"error": {"message": "m", "type": "t", "code": 503}}, "m", "t", 503, 503),
        ({"error": {"message": "m", "code": "429"}}, "m", "upstream_error", "429", 429),
        ({"error": {"message": "m", "code": 50002}}, "m", "upstream_error", 50002, 502),
        ({"error": {"message": "m", "status": 401}}, "m", "upstream_error", None, 401),
        ({"error": "m"}, "m", "upstream_error", None, 502),
        ({"error": True}, 'true', "upstream_error", None, 502),
        ({"error": {"detail": "m"}}, "m", "upstream_error", None, 502),
        ({"error": {"code": 1}}, '{"code":1}', "upstream_error", 1, 502),
        ({"error": {"message": {"why": "m"}}}, '{"why":"m"}', "upstream_error", None, 502),
        ({"error": {"message": ""}, "message": "m"}, "m", "upstream_error", None, 502),
        ({"object": "error", "message": "m", "type": "T", "code": 404}, "m", "T", 404, 404),
        ({"object": "error", "message": {"detail": ["m"]}}, '{"detail":["m"]}', "upstream_error", None, 502),
        ({"type": "error", "message": "m", "code": "c"}, "m", "upstream_error", "c", 502),
        ({"detail": "m"}, "m", "upstream_error", None, 502),
        ({"detail": [{"msg": "m"}], "object": "error"}, '[{"msg":"m"}]', "upstream_error", None, 502),
        ({"detail": [{"msg": "m"}]}, '[{"msg":"m"}]', "upstream_error", None, 502),
        ({"msg": {"why": "m"}}, '{"why":"m"}', "upstream_error", None, 502),
        ({"error": {"error": {"message": "m", "type": "t"}}}, "m", "t", None, 502),
        ({"error": {"error": {"error": "m"}}}, "m", "upstream_error", None, 502),
        ({"error": {"error": {"a": 1}, "message": "m"}}, "m", "upstream_error", None, 502),
        ({"base_resp": {"status_code": 1004, "status_msg": "m"}}, "m", "upstream_error", 1004, 502),
        ({"choices": None, "base_resp": {"status_code": 1, "status_msg": "m"}}, "m", "upstream_error", 1, 502),
        ({"success": False, "errors": [{"message": "m", "code": 7}]}, "m", "upstream_error", 7, 502),
        ({"choices": [{"finish_reason": "error", "error": {"detail": "m"}}]}, "m", "upstream_error", None, 502),
        ({"choices": [{"error": "m"}]}, "m", "upstream_error", None, 502),
        ({"choices": [], "error": {"message": "m"}}, "m", "upstream_error", None, 502),
        ({"choices": [], "code": 10013, "message": "m"}, "m", "upstream_error", 10013, 502),
        ({"message": "m", "__type": "ThrottlingException"}, "m", "ThrottlingException", None, 502),
        ({"Message": "m"}, "m", "upstream_error", None, 502),
        ({"errorMessage": "m", "errorType": "T", "errorCode": "c"}, "m", "T", "c", 502),
        ({"statusCode": 401, "message": "m"}, "m", "upstream_error", None, 401),
        ({"Response": {"Error": {"Code": "c", "Message": "m"}, "RequestId": "r"}}, "m", "upstream_error", "c", 502),
        ({"ResponseMetadata": {"Error": {"Code": "c", "Message": "m"}}}, "m", "upstream_error", "c", 502),
        ({"ErrorMsg": {"Msg": "m", "Code": 2003}}, "m", "error_msg", 2003, 502),
        ({"data": {"error": {"message": "m"}}}, "m", "upstream_error", None, 502),
        ({"id": "r", "result": {"id": "r", "error": "m"}}, "m", "upstream_error", None, 502),
        ({"error": {"code": 0, "message": "m"}}, "m", "upstream_error", 0, 502),
        ({"error": {"message": "", "type": "t"}}, '{"message":"","type":"t"}', "t", None, 502),
        ({"status": "failed", "err": "m"}, "m", "upstream_error", None, 502),
        ({"message": "m", "code": None}, "m", "upstream_error", None, 502),
        ({"throttlingException": {"message": "m", "originalStatusCode": 429}}, "m", "throttlingException", None, 429),
        ({"fault": {"faultstring": "m"}}, "m", "fault", None, 502),
        ({"error": "invalid_grant", "message": "m"}, "m", "upstream_error", "invalid_grant", 502),
        ({"error": "Bad Request", "message": ["m"], "statusCode": 400}, '["m"]', "upstream_error", "Bad Request", 400),
        ({"error": "m", "message": "m"}, "m", "upstream_error", None, 502),
        ({"error": "m", "code": "invalid-argument"}, "m", "upstream_error", "invalid-argument", 502),
    ],
)  # fmt: skip
def test_an_error_is_read_in_every_spelling(
    body: dict[str, Any], message: str, type: str, code: Any, status: int
) -> None:
    failure = failure_in(body)
    assert failure is not None
    assert (failure.message, failure.type, failure.code, failure.status) == (message, type, code, status)


@pytest.mark.parametrize(
    "reason",
    [
        "error",
        "ERROR",
        "abort",
        "network_error",
        "MALFORMED_FUNCTION_CALL",
        "function_call_filter: MALFORMED_FUNCTION_CALL",
    ],
)
def test_an_answer_that_finishes_unfinished_is_an_error_without_an_object(reason: str) -> None:
    for choice in ({"delta": {}, "finish_reason": reason}, {"delta": {"finish_reason": reason}, "finish_reason": None}):
        failure = failure_in({"choices": [choice]})
        assert failure is not None and failure.message


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": [{"delta": {"content": "x"}}]},
        {"choices": [], "error": None},
        {"choices": [{"delta": {}, "error": None}]},
        {"message": {"role": "assistant"}, "done": False},
        {"response": "x", "done": True, "message": "not an error"},
        {"choices": [{}], "message": "kept"},
        {"message": {"role": "assistant", "content": "x"}},
        {"message": {}, "detail": []},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"choices": [], "code": 0, "message": "Success"},
        {"choices": [], "code": 200, "message": "OK"},
        {"choices": [], "code": "200", "msg": "success"},
        {"choices": [], "code": "Success", "message": "done"},
        {"choices": [], "code": "", "message": "queued"},
        {"result": {"error": None, "message": "kept"}},
        {"default": {"message": "kept"}},
        *({"choices": [{"delta": {}}], "error": none} for none in NONE),
        *({"choices": [{"delta": {}, "error": none}]} for none in NONE),
        *({"choices": [{"delta": {}}], "x_groq": {"error": none}} for none in NONE),
        *({"status": "searching", "error": none} for none in NONE),
        *({"status": "searching", "Error": none} for none in NONE),
        *({"status": "searching", "errors": none} for none in NONE),
        *({"status": "searching", "error_message": none, "errorMsg": none} for none in NONE),
        *({"data": {"error": none}} for none in NONE),
        {"last_exception": {"message": ""}},
        {"code": 0, "msg": "queued"},
        {"tool_result": {"name": "search", "error": {"message": "not found"}}},
        {"type": "tool_result", "result": {"name": "search", "error": {"message": "not found"}}},
    ],
)
def test_what_is_no_error_is_none(body: dict[str, Any]) -> None:
    assert failure_in(body) is None


def test_an_error_in_an_envelope_keeps_all_the_vendor_says() -> None:
    failure = failure_in({"Response": {"Error": {"Code": "c", "CodeN": 7, "Message": "m"}, "RequestId": "r"}})

    assert failure is not None
    assert failure.as_json()["error"] == {
        "message": "m", "type": "upstream_error", "param": None, "code": "c", "CodeN": 7,
    }  # fmt: skip
    assert failure.request_id == "r"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (429, b'{"error":{"message":"slow down"}}', "slow down"),
        (400, b'[{"error":{"message":"m","code":500}}]', "m"),
        (401, b'data: {"error":{"message":"m"}}\n\n', "m"),
        (422, b'{"message":"m"}', "m"),
        (403, b'{"Message":"m"}', "m"),
        (404, b'{"type":"about:blank","title":"m","status":404}', "m"),
        (503, b"try later", "try later"),
        (502, b"<html>Bad Gateway</html>", "The upstream answered 502 without an error message."),
        (500, b"", "The upstream answered 500 without an error message."),
        (500, b"{}", "The upstream answered 500 without an error message."),
        (404, b'{"broken', '{"broken'),
        (500, b"\xff", "\ufffd"),
        (503, b"two\r\n\tlines", "two\r\n\tlines"),
        (500, b"\xcbH\xcd\x00\x01", "The upstream answered 500 without an error message."),
    ],
)
def test_a_refusal_keeps_its_status_and_says_why(status: int, body: bytes, message: str) -> None:
    failure = failure_of(status, body)
    assert (failure.status, failure.message) == (status, message)


def test_what_else_an_error_says_is_kept() -> None:
    raw = {"metadata": {"provider_name": "X", "raw": "too long"}, "failed_generation": "<x>"}

    failure = failure_in({"error": {"message": "Provider returned error", "code": 502, **raw}})

    assert failure is not None
    assert failure.as_json()["error"] == {
        "message": "Provider returned error", "type": "upstream_error", "param": None, "code": 502, **raw,
    }  # fmt: skip


def test_what_an_error_says_beyond_measure_is_not_kept() -> None:
    failure = failure_in({"error": {"message": "m", "trace": "x" * 20_000}})

    assert failure is not None and not failure.further


@pytest.mark.parametrize("field", ["message", "type", "code", "param"])
def test_half_a_surrogate_pair_in_an_error_does_no_harm(field: str) -> None:
    failure = failure_of(400, b'{"error":{"message":"m","%b":"\\ud800"}}' % field.encode())

    assert failure.status == 400
    assert getattr(failure, field) == "?"


@pytest.mark.parametrize(
    ("error", "type", "code"),
    [({"error": "m", "error_type": "t"}, "t", None), ({"error_msg": "m", "error_code": 6}, "upstream_error", 6)],
)
def test_other_names_of_type_and_code_are_read(error: dict[str, Any], type: str, code: int | None) -> None:
    failure = failure_of(400, json.dumps(error).encode())

    assert (failure.message, failure.type, failure.code) == ("m", type, code)


@pytest.mark.parametrize(("stated", "cost"), [({}, 0), ({"cost": 0.004}, 4_000_000)])
def test_a_refusal_took_nothing_but_what_it_is_said_to_cost(stated: dict[str, Any], cost: int) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, **stated}
    body = json.dumps({"error": {"message": "No."}, "usage": usage}).encode()
    assert failure_of(429, body).usage == Usage(cost=cost)
