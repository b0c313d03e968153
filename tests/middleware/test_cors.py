"""middleware/cors: preflights, and the fields of real answers (Fetch standard, CORS protocol)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sseproxy.core.origins import Origins
from sseproxy.middleware.cors import CorsMiddleware
from sseproxy.wsgi.call import Answer, Headers

from .apps import Echo, error_of, post, request

APP = "https://app.example.com"
EVIL = "https://evil.net"
ASKING = {"Access_Control_Request_Method": "POST"}


def answering(headers: Headers) -> Any:
    return Answer("200 OK", [("Content-Type", "text/plain"), *headers], [b"hi"])


def guarded(*origins: str, headers: Headers | None = None, credentials: bool = False) -> CorsMiddleware:
    return CorsMiddleware(answering(headers or []), Origins(origins or [APP]), credentials=credentials)


def fields(answer: Answer) -> dict[str, str]:
    """The CORS fields and Vary, each of which may be there only once."""
    found = [(name.lower(), value) for name, value in answer.headers if name.lower().startswith(("access-", "vary"))]
    assert len(found) == len(dict(found)), found
    return dict(found)


def test_a_preflight_of_an_allowed_origin_is_answered_without_the_application() -> None:
    echo = Echo()
    app = CorsMiddleware(echo, Origins([APP]))
    asked = "authorization, Idempotency-Key,x-stainless-os"

    answer = request(app, "OPTIONS", "/v1/chat/completions", Origin=APP, Access_Control_Request_Headers=asked, **ASKING)

    assert echo.environ is None
    assert (answer.code, b"".join(answer.body)) == (204, b"")
    assert fields(answer) == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
        "access-control-allow-headers": "authorization, Idempotency-Key, x-stainless-os",
        "access-control-max-age": "7200",
        "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    assert uuid.UUID(answer.header("X-Request-Id"))


def test_a_preflight_allows_credentials_where_that_is_configured() -> None:
    answer = request(guarded(credentials=True), "OPTIONS", "/", Origin=APP, **ASKING)

    assert fields(answer)["access-control-allow-credentials"] == "true"
    assert fields(answer)["access-control-allow-origin"] == APP
    assert "access-control-allow-headers" not in fields(answer)


@pytest.mark.parametrize("origins", [[APP], ["*"], []])
@pytest.mark.parametrize("origin", ["null", f"{APP}\x00", "*"])
def test_a_preflight_of_any_other_origin_gets_words_for_its_developer_and_no_cors_field(
    origin: str, origins: list[str]
) -> None:
    app = CorsMiddleware(Echo(), Origins(origins))

    answer = request(app, "OPTIONS", "/v1/chat/completions", Origin=origin, **ASKING)

    assert answer.code == 403
    assert list(fields(answer)) == ["vary"]
    error = error_of(answer)
    assert error["code"] == "origin_not_allowed"
    assert "cors.origins" in error["message"]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("x-a, x b, x-c", "x-a, x-c"),
        ("x-a\r\nSet-Cookie: b", None),
        ("x-a: 1", None),
        ("a\x00, \xe9, ,", None),
        (",".join(["x-a"] * 5000), ", ".join(["x-a"] * 100)),
    ],
)
def test_only_header_names_are_sent_back(asked: str, allowed: str | None) -> None:
    environ = {
        "REQUEST_METHOD": "OPTIONS",
        "HTTP_ORIGIN": APP,
        "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST",
        "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": asked,
    }
    started: list[Any] = []
    list(guarded()(environ, lambda status, headers, exc_info=None: started.extend(headers) or started.append))

    assert dict(started).get("Access-Control-Allow-Headers") == allowed


@pytest.mark.parametrize("headers", [{}, {"Origin": APP}, ASKING])
def test_an_options_request_that_is_no_preflight_is_the_application_s(headers: dict[str, str]) -> None:
    assert request(guarded(), "OPTIONS", "/", **headers).code == 200


def test_an_answer_may_be_read_by_the_page_that_asked() -> None:
    answer = post(guarded(), Origin=APP)

    assert answer.code == 200
    assert fields(answer)["access-control-allow-origin"] == APP
    assert fields(answer)["vary"] == "Origin"
    exposed = fields(answer)["access-control-expose-headers"].lower().split(", ")
    assert {"x-request-id", "location", "content-location", "retry-after", "x-ratelimit-remaining-tokens"} <= {*exposed}
    assert "access-control-allow-credentials" not in fields(answer)


def test_any_origin_is_told_so_with_a_star() -> None:
    assert fields(post(guarded("*"), Origin=EVIL))["access-control-allow-origin"] == "*"
    assert list(fields(post(guarded("*"), Origin="null"))) == ["vary"]


def test_a_listed_null_is_allowed_and_may_have_credentials() -> None:
    answer = post(guarded("null", credentials=True), Origin="null")

    assert fields(answer)["access-control-allow-origin"] == "null"
    assert fields(answer)["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("headers", [{}, {"Origin": EVIL}])
def test_a_foreign_page_and_no_page_get_no_permission_but_caches_are_told_that_it_depends(
    headers: dict[str, str],
) -> None:
    assert fields(post(guarded(), **headers)) == {"vary": "Origin"}


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        (["Accept"], "Accept, Origin"),
        (["Accept, origin"], "Accept, origin"),
        (["Accept", "Accept-Encoding"], "Accept, Accept-Encoding, Origin"),
        (["*"], "*"),
        ([""], "Origin"),
    ],
)
def test_vary_keeps_what_was_there(given: list[str], merged: str) -> None:
    answer = post(guarded(headers=[("vary", value) for value in given]), Origin=APP)

    assert fields(answer)["vary"] == merged


THEIRS = [
    ("access-control-allow-origin", "*"),
    ("Access-Control-Allow-Origin", EVIL),
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Expose-Headers", "X-Own"),
]


def test_what_the_application_says_of_cors_is_replaced() -> None:
    answer = post(guarded(headers=THEIRS), Origin=APP)

    assert fields(answer)["access-control-allow-origin"] == APP
    assert "access-control-allow-credentials" not in fields(answer)
    assert "X-Own" not in fields(answer)["access-control-expose-headers"]
    assert fields(post(guarded(headers=THEIRS), Origin=EVIL)) == {"vary": "Origin"}


def test_with_no_origins_nothing_is_said_and_what_the_application_says_is_dropped() -> None:
    app = CorsMiddleware(answering([*THEIRS, ("Vary", "Accept")]), Origins())

    assert fields(post(app, Origin=APP)) == {"vary": "Accept"}


def test_credentials_for_everybody_cannot_be_had() -> None:
    with pytest.raises(ValueError, match="every origin"):
        guarded("*", credentials=True)
