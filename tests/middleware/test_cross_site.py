"""middleware/cross_site: a page of another site spends nobody's money."""

from __future__ import annotations

import pytest
from werkzeug.test import create_environ

from sseproxy.core.origins import Origins
from sseproxy.middleware.cross_site import CrossSiteMiddleware
from sseproxy.middleware.trusted_proxy import TrustedProxyMiddleware
from sseproxy.wsgi.call import call_app

from .apps import Echo, error_of, post, request

APP = "https://app.example.com"
FOREIGN = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}
VISIT = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}


def guarded(*origins: str, exempt: tuple[str, ...] = ()) -> tuple[Echo, CrossSiteMiddleware]:
    echo = Echo()
    return echo, CrossSiteMiddleware(echo, Origins(origins), is_exempt=lambda environ: environ["PATH_INFO"] in exempt)


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://evil.net"}, {"Origin": "null"}])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat?prompt=x", "/-/usage"])
def test_a_page_of_another_site_is_refused(path: str, origin: dict[str, str]) -> None:
    echo, app = guarded(APP)

    answer = post(app, path, **FOREIGN, **origin)

    assert answer.code == 403
    assert error_of(answer)["code"] == "origin_not_allowed"
    assert echo.environ is None


def test_an_image_and_a_form_and_a_link_to_a_route_are_refused_too() -> None:
    _, app = guarded(APP)

    assert request(app, "GET", "/chat?prompt=x", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").code == 403
    assert request(app, "GET", "/chat?prompt=x", **VISIT).code == 403
    assert post(app, **VISIT, Origin="https://evil.net").code == 403


def test_an_event_source_is_refused_so_that_it_gives_up() -> None:
    answer = request(guarded()[1], "GET", "/chat", Accept="text/event-stream", **FOREIGN)

    assert answer.code == 403
    assert answer.header("Content-Type").startswith("text/event-stream")


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none", None])
def test_what_comes_from_the_own_site_or_from_no_page_is_let_in(site: str | None) -> None:
    headers = {"Sec_Fetch_Site": site} if site else {}

    assert post(guarded()[1], **headers).code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.net", "https://evil.net", "null", "http://ai.lan.evil.net", "http://evil-ai.lan", "http://evil.net:80",
     "http://other.lan", "http://[::1]", "file://", "chrome-extension://ai.lan", "ai.lan", "http://", "http://ai.lan@x"],
)  # fmt: skip
def test_over_plain_http_a_page_of_another_host_is_known_by_its_origin(origin: str) -> None:
    echo, app = guarded("https://*.example.com")

    assert request(app, "GET", "/chat?prompt=x", Host="ai.lan:8080", Origin=origin).code == 403
    assert post(app, Host="ai.lan:8080", Origin=origin).code == 403
    assert echo.environ is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("ai.lan", "http://ai.lan"),
        ("AI.lan:8080", "http://ai.lan:8080"),
        ("192.168.1.5:8080", "http://192.168.1.5:3000"),
        ("[fe80::1]:8080", "http://[fe80::1]:8080"),
        ("[fe80::1]", "http://[fe80::1]"),
        ("ai.lan", "https://ai.lan"),  # TLS ends in front, and nobody says so
        ("ai.lan", "http://app.example.com:8080"),
        ("ai.lan", "https://deep.app.example.net"),
        ("ai.lan", None),
    ],
)
def test_over_plain_http_the_own_pages_those_that_are_listed_and_what_is_no_page_are_let_in(
    host: str, origin: str | None
) -> None:
    _, app = guarded("http://app.example.com:8080", "https://*.example.net")

    assert post(app, Host=host, **({"Origin": origin} if origin else {})).code == 200


@pytest.mark.parametrize("key", [{"Authorization": "Bearer sk-x"}, {"X_Api_Key": "sk-x"}])
def test_over_plain_http_what_sends_a_key_is_no_page_that_was_not_allowed_to(key: dict[str, str]) -> None:
    assert post(guarded()[1], Host="ai.lan", Origin="app://obsidian.md", **key).code == 200
    assert post(guarded()[1], Host="ai.lan", Origin="app://obsidian.md", Authorization="Basic YTpi").code == 403


def test_where_https_is_known_to_be_spoken_a_page_by_plain_http_is_another_site_s() -> None:
    app = TrustedProxyMiddleware(guarded()[1], "127.0.0.1")

    def ask(origin: str) -> int:
        fields = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example.com", "Origin": origin}
        peer = {"REMOTE_ADDR": "127.0.0.1"}
        return call_app(app, create_environ("/", method="POST", headers=fields, environ_overrides=peer)).code

    assert (ask("https://ai.example.com"), ask("http://ai.example.com"), ask("https://localhost")) == (200, 403, 403)


def test_a_page_whose_origin_is_allowed_is_let_in() -> None:
    assert post(guarded(APP)[1], Origin=APP, **FOREIGN).code == 200
    assert post(guarded("https://*.example.com")[1], Origin=APP, **FOREIGN).code == 200
    assert post(guarded("*")[1], Origin="https://any.org", **FOREIGN).code == 200
    assert post(guarded("*")[1], **FOREIGN).code == 200
    assert post(guarded("*")[1], Origin="null", **FOREIGN).code == 403


@pytest.mark.parametrize("path", ["/-/chat", "/-/dashboard"])
def test_a_link_may_lead_to_a_page_but_no_frame_may_hold_it(path: str) -> None:
    _, app = guarded()

    assert request(app, "GET", path, **VISIT).code == 200
    assert request(app, "GET", path, **{**VISIT, "Sec_Fetch_Dest": "iframe"}).code == 403
    assert request(app, "POST", path, **VISIT).code == 403
    assert request(app, "GET", path, **FOREIGN).code == 403


def test_an_exempt_path_guards_itself() -> None:
    _, app = guarded(exempt=("/v1/chat/completions",))

    assert post(app, **FOREIGN).code == 200
    assert post(app, "/chat", **FOREIGN).code == 403
