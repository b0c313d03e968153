"""core/refusal: a failure in the words of the API that was asked."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.chunk import write_json
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.normalize import failure_of
from sseproxy.core.refusal import refusal_at

OVERLOADED = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded","x":1},"request_id":"req_1"}'


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/responses", "/v1/models", "/ask", "/v1/messages_too", ""]
)
def test_most_paths_have_openai_s_body(path: str) -> None:
    failure = Failure("no", status=401, type="invalid_request_error", code="c", param="p")

    assert refusal_at(path, failure, "id") == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "p", "code": "c"}
    }


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_anthropic_s_paths_have_anthropic_s_with_what_else_is_known(path: str) -> None:
    failure = Failure("no", status=429, type="insufficient_quota", code="insufficient_quota")

    assert refusal_at(path, failure, "id") == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "no", "param": None, "code": "insufficient_quota"},
        "request_id": "id",
    }


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
@pytest.mark.parametrize("failure", [Failure, UpstreamFailure])
def test_the_proxy_s_own_failures_have_anthropic_s_type_for_their_status(failure: Any, status: int, type: str) -> None:
    assert refusal_at("/v1/messages", failure("no", status=status))["error"]["type"] == type


def test_an_upstream_s_own_type_and_request_id_stay() -> None:
    told = refusal_at("/v1/messages", failure_of(529, OVERLOADED), "ours")

    assert told == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded", "param": None, "code": None, "x": 1},
        "request_id": "req_1",
    }


def test_a_refusal_that_is_read_again_is_the_same() -> None:
    told = refusal_at("/v1/messages", Failure("no", status=403, type="permission_error", code="c"), "ours")

    assert refusal_at("/v1/messages", failure_of(403, write_json(told)), "another") == told
