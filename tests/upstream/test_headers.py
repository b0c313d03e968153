"""upstream/headers: what crosses the proxy (RFC 9110 section 7.6)."""

from __future__ import annotations

import pytest
from werkzeug.test import create_environ

from sseproxy.upstream.headers import request_headers, response_headers

PRIVATE = ("Cache-Control", "private")


def sent(**fields: str) -> dict[str, str]:
    environ = create_environ(headers={name.replace("_", "-"): value for name, value in fields.items()})
    return request_headers(environ)


@pytest.mark.parametrize(
    "name",
    ["Cookie", "Authorization", "X-Api-Key", "Api-Key", "Proxy-Authorization", "Connection", "Keep-Alive", "TE",
     "Upgrade", "Transfer-Encoding", "X-Forwarded-For", "Forwarded", "Accept-Encoding", "OpenAI-Organization", "Expect",
     "Idempotency-Key", "Last-Event-ID", "Prefer", "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL",
     "X-Override-URL", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Forwarded-Method"],
)  # fmt: skip
def test_the_client_s_own_connection_and_secrets_stay_here(name: str) -> None:
    environ = create_environ(headers={name: "client-value"})

    assert "client-value" not in request_headers(environ).values()


def test_end_to_end_fields_pass() -> None:
    fields = sent(OpenAI_Beta="x=1", traceparent="00-ab-cd-01", X_Custom="1", User_Agent="me/1")

    assert fields["openai-beta"] == "x=1"
    assert fields["traceparent"] == "00-ab-cd-01"
    assert fields["x-custom"] == "1"
    assert fields["user-agent"] == "me/1"


def test_a_field_that_the_proxy_writes_elsewhere_is_not_taken_from_the_client() -> None:
    environ = create_environ(headers={"X-Team": "client", "Content-Type": "text/plain", "X-Other": "1"})

    assert request_headers(environ, frozenset({"x-team", "content-type"})) == {"x-other": "1"}


def test_fields_named_by_connection_are_hop_by_hop() -> None:
    environ = create_environ(headers={"Connection": "close, X-Hop", "X-Hop": "1", "X-End": "2"})
    fields = request_headers(environ)

    assert "x-hop" not in fields
    assert fields["x-end"] == "2"


def test_what_goes_on_of_one_request_says_nothing_of_the_next_with_the_same_names() -> None:
    fields = {"Connection": "x-hop", "X-Hop": "1", "X-End": "2", "Content-Type": "text/plain"}
    first = create_environ(headers=fields)
    second = create_environ(headers={**fields, "Connection": "x-end", "X-Hop": "3", "Content-Type": ""})

    assert request_headers(first) == {"x-end": "2", "content-type": "text/plain"}
    assert request_headers(second) == {"x-hop": "3"}
    assert request_headers(first, frozenset({"x-end"})) == {"content-type": "text/plain"}


def test_a_request_with_very_many_fields_is_treated_as_any_other() -> None:
    environ = create_environ(headers={"Cookie": "a=b", **{f"X-{number}": str(number) for number in range(200)}})

    assert request_headers(environ) == {f"x-{number}": str(number) for number in range(200)}


def test_an_answer_loses_cookies_and_hop_by_hop_fields() -> None:
    fields = [
        ("Content-Type", "application/json"), ("Set-Cookie", "a=b"), ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"), ("Transfer-Encoding", "chunked"), ("Retry-After", "3"), ("WWW-Authenticate", "Bearer"),
        ("Trailer", "Digest"), ("Trailers", "Digest"), ("Proxy-Connection", "keep-alive"),
    ]  # fmt: skip

    assert response_headers(fields) == [("Content-Type", "application/json"), ("Retry-After", "3"), PRIVATE]


@pytest.mark.parametrize("field", [("X-A", "a\x0bb"), ("X-A", "a\x00"), ("X A", "a"), ("X-A", "a\r\nSet-Cookie: b")])
def test_a_malformed_field_is_dropped(field: tuple[str, str]) -> None:
    assert response_headers([field, ("X-Good", "caf\xe9")]) == [("X-Good", "caf\xe9"), PRIVATE]


def test_what_only_connection_names_is_dropped_with_what_is_hop_by_hop_anyway() -> None:
    assert response_headers([("X-Hop", "1"), ("Connection", "keep-alive"), ("Connection", "x-hop")]) == [PRIVATE]
    assert response_headers([("X-Hop", "1"), ("Connection", "keep-alive")]) == [("X-Hop", "1"), PRIVATE]


def test_what_an_upstream_says_of_cors_stays_there() -> None:
    fields = [("Access-Control-Allow-Origin", "*"), ("access-control-allow-credentials", "true"), ("X-A", "1")]

    assert response_headers(fields) == [("X-A", "1"), PRIVATE]


@pytest.mark.parametrize(
    "name",
    ["X-Accel-Redirect", "X-ACCEL-Buffering", "X-Sendfile", "X-SENDFILE2", "X-LIGHTTPD-send-file", "X-Reproxy-URL",
     "X-LiteSpeed-Location", "Location", "Content-Location", "Link", "Refresh", "Status", "Clear-Site-Data",
     "Set-Cookie2", "Service-Worker-Allowed", "Report-To", "Reporting-Endpoints", "NEL", "HTTP2-Settings",
     "Content-Security-Policy", "Content-Security-Policy-Report-Only", "Alt-Svc",
     "Strict-Transport-Security", "Cross-Origin-Opener-Policy"],
)  # fmt: skip
def test_no_upstream_steers_a_browser_or_a_server_in_front(name: str) -> None:
    assert response_headers([(name, "/internal/secret"), ("X-A", "1")]) == [("X-A", "1"), PRIVATE]


@pytest.mark.parametrize(
    "name",
    ["Content-Type", "Content-Encoding", "Content-Disposition", "Content-Range", "Content-Language", "Accept-Ranges",
     "ETag", "Last-Modified", "Vary", "Retry-After", "X-Request-Id", "Request-Id",
     "OpenAI-Processing-Ms", "CF-Ray", "X-RateLimit-Remaining-Tokens", "Anthropic-RateLimit-Tokens-Reset",
     "apim-request-id", "azureml-model-session"],
)  # fmt: skip
def test_what_clients_read_of_an_answer_s_head_passes(name: str) -> None:
    assert response_headers([(name, "1")]) == [(name, "1"), PRIVATE]


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("public, max-age=3600", "private, max-age=3600"),
        ("s-maxage=60,Public , max-age=1", "private, max-age=1"),
        ("no-store", "private, no-store"),
        ("private", "private"),
        ("", "private"),
        ('private="x-a, s-maxage", max-age=1, no-cache="x-b,public"', 'private, max-age=1, no-cache="x-b,public"'),
        ('max-age="1, s-maxage=60', "private, max-age=, 1"),
    ],
)
def test_no_cache_that_users_share_keeps_an_answer(said: str, passed: str) -> None:
    assert response_headers([("Cache-Control", said)]) == [("Cache-Control", passed)]


@pytest.mark.parametrize(
    "fields",
    [
        [("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"), ("Last-Modified", "Mon, 01 Jan 2001 00:00:00 GMT")],
        [("Cache-Control", "max-age=1"), ("Connection", "cache-control")],
        [("Cache-Control", "max-age=\x01")],
    ],
)
def test_an_answer_without_cache_control_is_its_client_s_alone_too(fields: list[tuple[str, str]]) -> None:
    assert response_headers(fields)[-1] == PRIVATE


def test_no_cache_of_a_cdn_is_told_otherwise() -> None:
    names = ["CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Vercel-CDN-Cache-Control", "Surrogate-Control"]

    assert response_headers([(name, "public, max-age=600") for name in names]) == [PRIVATE]


@pytest.mark.parametrize("name", ["Origin", "Referer", "Sec-Fetch-Site", "Access-Control-Request-Method"])
def test_which_page_asks_is_no_business_of_the_upstream_s(name: str) -> None:
    assert "page" not in request_headers(create_environ(headers={name: "page"})).values()
