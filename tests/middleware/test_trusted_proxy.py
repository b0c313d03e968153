"""Which peers are believed, and what they are not believed all the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from sseproxy.middleware.trusted_proxy import LONGEST_NAME, MOST_NAMES, TrustedProxyMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def behind(proxy: str | None, peer: str, **headers: str) -> dict[str, Any]:
    """The environ that an application behind the middleware gets."""
    seen: dict[str, Any] = {}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = EnvironBuilder(headers=fields, environ_base={"REMOTE_ADDR": peer}).get_environ()
    run_wsgi_app(TrustedProxyMiddleware(app, proxy), environ)
    return seen


@pytest.mark.parametrize(
    ("proxy", "peer", "trusted"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.1/32", "10.0.0.1", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("10.0.0.0/8", "", False),
        ("0.0.0.0/0", "unix", False),
        (None, "10.0.0.1", False),
    ],
)
def test_only_the_trusted_network_is_believed(proxy: str | None, peer: str, trusted: bool) -> None:
    environ = behind(proxy, peer, X_Forwarded_For="203.0.113.9", Forwarded="for=203.0.113.9")
    assert environ["REMOTE_ADDR"] == ("203.0.113.9" if trusted else peer)
    assert ("HTTP_FORWARDED" in environ) is trusted


def test_of_several_addresses_the_one_that_the_proxy_itself_saw_counts() -> None:
    assert behind("10.0.0.1", "10.0.0.1", X_Forwarded_For="1.1.1.1, 2.2.2.2")["REMOTE_ADDR"] == "2.2.2.2"


@pytest.mark.parametrize("made_up", ["unknown", "x user=root", "203.0.113.9:80", "_hidden"])
def test_what_is_no_address_is_not_taken_over(made_up: str) -> None:
    assert behind("10.0.0.1", "10.0.0.1", X_Forwarded_For=made_up)["REMOTE_ADDR"] == "10.0.0.1"


@pytest.mark.parametrize("made_up", ["//evil.example", "javascript:x", "/a/../..//b", "/a b", "a"])
def test_what_is_no_plain_path_is_no_prefix(made_up: str) -> None:
    assert behind("10.0.0.1", "10.0.0.1", X_Forwarded_Prefix=made_up)["SCRIPT_NAME"] == ""


def test_a_scheme_that_is_none_is_not_taken_over() -> None:
    assert behind("10.0.0.1", "10.0.0.1", X_Forwarded_Proto="gopher")["wsgi.url_scheme"] == "http"


def test_no_request_before_lets_a_forwarded_field_through() -> None:
    seen: list[list[str]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append([name for name in environ if "FORWARDED" in name])
        start_response("204 No Content", [])
        return []

    middleware = TrustedProxyMiddleware(app, None)
    for number in range(400):
        for fields in ({f"X-{number}-{'a' * (number % 99)}": "b"}, {f"X-Forwarded-{number}": "b"}, {"Forwarded": "b"}):
            run_wsgi_app(middleware, EnvironBuilder(headers=fields).get_environ())

    assert not any(seen)
    assert sum(map(len, middleware._harmless)) <= MOST_NAMES * LONGEST_NAME
