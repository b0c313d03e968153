"""wsgi/errors: a failure as an answer, in the form its client survives."""

from __future__ import annotations

import json
from math import inf

import pytest
from werkzeug.test import create_environ

from sseproxy.core.failure import Failure
from sseproxy.wsgi.errors import MethodNotAllowed, refuse, status_line, wants_events

FAILURE = Failure("no\ndata: more", status=429, type="t", code="c", param="p")


def test_most_clients_get_openai_s_json() -> None:
    answer = refuse(FAILURE, create_environ(), [("Retry-After", "3")])

    assert (answer.code, answer.header("Content-Type"), answer.header("Retry-After")) == (429, "application/json", "3")
    error = json.loads(b"".join(answer.body))["error"]
    assert error == {"message": "no\ndata: more", "type": "t", "param": "p", "code": "c"}


def test_who_asks_with_another_method_is_told_which_are_taken() -> None:
    answer = refuse(MethodNotAllowed("GET", "HEAD", "DELETE"), create_environ())

    assert (answer.code, answer.header("Allow")) == (405, "GET, HEAD, DELETE")
    error = json.loads(b"".join(answer.body))["error"]
    assert error["message"] == "This path takes GET and DELETE requests only."
    assert (error["type"], error["code"]) == ("invalid_request_error", "method_not_allowed")


def test_an_event_source_gets_one_event_with_the_true_status() -> None:
    answer = refuse(FAILURE, create_environ(headers={"Accept": "text/event-stream"}))

    assert answer.code == 429
    assert answer.header("Content-Type") == "text/event-stream; charset=utf-8"
    body = b"".join(answer.body)
    assert body.count(b"\n\n") == 1
    assert json.loads(body.removeprefix(b"data: "))["error"]["code"] == "c"


@pytest.mark.parametrize(
    ("path", "headers", "content_type"),
    [
        ("/v1/responses", {}, "application/json"),
        ("/v1/messages", {}, "application/json"),
        ("/v1/messages/count_tokens", {}, "application/json"),
        ("/v1/responses", {"Sec-Fetch-Mode": "cors"}, "application/json"),
        ("/v1/responses", {"Sec-Fetch-Site": "same-origin"}, "text/event-stream; charset=utf-8"),
        ("/v1/messages", {"Origin": "http://app.example"}, "text/event-stream; charset=utf-8"),
        ("/v1/chat/completions", {}, "text/event-stream; charset=utf-8"),
        ("/ask", {}, "text/event-stream; charset=utf-8"),
    ],
)
def test_clients_of_the_typed_apis_outside_a_browser_get_json_though_they_accept_events(
    path: str, headers: dict[str, str], content_type: str
) -> None:
    environ = create_environ(path, method="POST", headers={"Accept": "text/event-stream", **headers})

    assert refuse(FAILURE, environ).header("Content-Type") == content_type


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, [("Retry-After", "1")]),
        (119.5, [("Retry-After", "120")]),
        (8.5 * 86400, [("Retry-After", "734400"), ("X-Should-Retry", "false")]),
        (inf, [("X-Should-Retry", "false")]),
    ],
)
def test_a_client_is_told_when_to_come_back_and_not_to_sleep_longer_than_one_would(
    seconds: float, told: list[tuple[str, str]]
) -> None:
    answer = refuse(Failure("later", status=429, retry_after=seconds), create_environ())

    assert [item for item in answer.headers if not item[0].startswith("Content-")] == told


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("application/json, text/event-stream;q=0.5", True),
        ("*/*", False),
        ("", False),
        ("text/event-stream;q=0", False),
    ],
)
def test_events_are_wanted_only_where_they_are_named(accept: str, wanted: bool) -> None:
    assert wants_events(create_environ(headers={"Accept": accept})) is wanted


def test_an_unusual_status_still_has_a_phrase() -> None:
    assert status_line(499) == "499 Client Closed Request"
    assert status_line(599) == "599 Unknown"
