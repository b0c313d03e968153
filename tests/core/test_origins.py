"""core/origins: what is an origin, and which ones a list allows."""

from __future__ import annotations

import pytest

from sseproxy.core.origins import BadOrigin, Origins, normal_origin


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://App.Example.COM", "https://app.example.com"),
        (" https://app.example.com:443 ", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("http://*.localhost:3000", "http://*.localhost:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("*", "*"),
        ("NULL", "null"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(given: str, normal: str) -> None:
    assert normal_origin(given) == normal


@pytest.mark.parametrize(
    ("given", "message", "suggestion"),
    [
        ("https://app.example.com/", "has no path", "https://app.example.com"),
        ("https://app.example.com:8443/chat", "has no path", "https://app.example.com:8443"),
        ("https://app.example.com?x", "has no path", "https://app.example.com"),
        ("app.example.com", "expected scheme and host", "https://app.example.com"),
        ("app.example.com:8443", "expected scheme and host", "https://app.example.com:8443"),
        ("//app.example.com", "expected scheme and host", None),
        ("", "expected scheme and host", None),
        ("https://", "expected an origin such as", None),
        ("file:///tmp", "expected an origin such as", None),
        ("https://user@example.com", "expected an origin such as", None),
        ("https://bücher.example", "expected an origin such as", None),
        ("https://a..example.com", "expected an origin such as", None),
        ("https://example.com:0", "expected an origin such as", None),
        ("https://example.com:99999", "expected an origin such as", None),
        ("https://exa mple.com", "expected an origin such as", None),
        ("https://a.example.com\r\nX: y", "expected an origin such as", None),
        ("https://a.example.com, https://b.example.com", "expected an origin such as", None),
        ("https://*", "expected `*` alone", None),
        ("*://example.com", "expected `*` alone", None),
        ("https://*.*.example.com", "expected `*` alone", None),
        ("https://app-*.example.com", "expected `*` alone", None),
        ("https://app.*.com", "expected `*` alone", None),
        ("http://localhost:*", "expected `*` alone", None),
        ("*.example.com", "expected scheme and host", "https://*.example.com"),
        ("http://*.0.0.1", "an address has no parts", None),
        ("http://*.[::1]", "an address has no parts", None),
    ],
)
def test_what_is_no_origin_is_explained(given: str, message: str, suggestion: str | None) -> None:
    with pytest.raises(BadOrigin) as caught:
        normal_origin(given)

    assert message in str(caught.value)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize("origin", ["https://app.example.com", "http://localhost:3000"])
def test_a_listed_origin_is_allowed(origin: str) -> None:
    assert Origins(["https://app.example.com", "http://localhost:3000"]).allows(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "", "null", "*", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil.net",
        "https://evil-app.example.com", "https://app.example.com/", "https://APP.example.com",
        "https://app.example.com\n", "https://app.example.com, https://evil.net", "https://appxexample.com",
    ],
)  # fmt: skip
def test_no_other_origin_is(origin: str) -> None:
    assert not Origins(["https://app.example.com"]).allows(origin)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.example.com", True),
        ("https://a.b.example.com", True),
        ("https://xn--bcher-kva.example.com", True),
        ("https://example.com", False),
        ("https://.example.com", False),
        ("https://aexample.com", False),
        ("https://a.example.com.evil.net", False),
        ("https://a.examplexcom", False),
        ("https://evil.net/.example.com", False),
        ("https://evil.net#.example.com", False),
        ("https://evil.net:1@a.example.com", False),
        ("http://a.example.com", False),
        ("https://a.example.com:8443", False),
        ("https://a.example.com\n", False),
        ("https://*.example.com", False),
        ("null", False),
    ],
)
def test_a_star_stands_for_host_labels_only(origin: str, allowed: bool) -> None:
    assert Origins(["https://other.org", "https://*.example.com"]).allows(origin) is allowed


def test_a_star_keeps_the_port() -> None:
    origins = Origins(["http://*.localhost:3000"])

    assert origins.allows("http://app.localhost:3000")
    assert not origins.allows("http://app.localhost:3001")
    assert not origins.allows("http://app.localhost")


@pytest.mark.parametrize(("origin", "allowed"), [("https://any.org", True), ("app://x", True), ("null", False)])
def test_a_star_alone_is_every_origin_but_null(origin: str, allowed: bool) -> None:
    assert Origins(["*"]).allows(origin) is allowed


@pytest.mark.parametrize("origin", ["", "*", "any", "https://any.org\r\nX-Injected: 1", "https://*.org"])
def test_what_is_no_origin_is_not_allowed_even_so(origin: str) -> None:
    assert not Origins(["*"]).allows(origin)


def test_null_is_allowed_where_it_is_listed() -> None:
    assert Origins(["null"]).allows("null")
    assert Origins(["*", "null"]).allows("null")
    assert not Origins(["null"]).allows("https://any.org")


def test_no_list_allows_nobody() -> None:
    assert not Origins()
    assert not Origins().allows("null")
    assert Origins(["null"])
