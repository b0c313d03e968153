"""middleware/cross_site: a page of another site spends nobody's money."""

from __future__ import annotations

import pytest

from sseproxy.core.origins import Origins
from sseproxy.middleware.cross_site import CrossSiteMiddleware

from .apps import Echo, error_of, post, request

APP = "https://app.example.com"
FOREIGN = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}
VISIT = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}


def guarded(*origins: str, exempt: tuple[str, ...] = ()) -> tuple[Echo, CrossSiteMiddleware]:
    echo = Echo()
    return echo, CrossSiteMiddleware(echo, Origins(origins), exempt=exempt)


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
