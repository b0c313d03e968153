"""door: only admins see the dashboard, as long as their key holds, and no other site logs anybody in or out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sseproxy import create_app
from sseproxy.app import Proxy
from sseproxy.web.dashboard.app import CSV, LOGIN, LOGOUT, NOW, PAGE

from .dashboard import ADMIN, OTHER, book, books_of, login, settings

READ = [PAGE, NOW, *CSV]


@pytest.fixture
def client(app: Proxy) -> Client:
    return Client(app)


def opens(client: Client, **more: Any) -> int:
    return client.get(PAGE, **more).status_code


@pytest.mark.parametrize("path", READ)
def test_without_credentials_there_is_a_form_and_nothing_of_the_books(path: str, app: Proxy, client: Client) -> None:
    book(books_of(app), "1", user="secret-user", model="secret-model")
    answer = client.get(path)

    assert answer.status_code == 401
    assert 'type="password"' in answer.text and "secret" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", READ)
def test_who_is_no_admin_is_told_so(path: str, client: Client) -> None:
    answer = client.get(path, headers={"Authorization": f"Bearer {OTHER}"})

    assert answer.status_code == 403
    assert "admin: true" in answer.text


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
def test_an_admins_key_in_a_header_opens_the_page_without_a_login(header: str, client: Client) -> None:
    value = f"Bearer {ADMIN}" if header == "Authorization" else ADMIN

    assert opens(client, headers={header: value}) == 200
    assert opens(client, headers={header: value + "x"}) == 401
    assert client.get_cookie("sseproxy_session", path=PAGE) is None


def test_remote_user_opens_the_page_where_it_is_trusted(tmp_path: Path) -> None:
    for trusted in (True, False):
        app = create_app(settings(tmp_path, auth={"remote_user": trusted}))
        seen = [opens(Client(app), environ_overrides={"REMOTE_USER": name}) for name in ("root", "alice")]
        app.close()
        assert seen == ([200, 403] if trusted else [401, 401])


def test_a_login_is_a_cookie_that_scripts_and_other_sites_and_other_paths_do_not_get(client: Client) -> None:
    answer = login(client)

    assert (answer.status_code, answer.headers["Location"]) == (303, "../dashboard")
    set_cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Max-Age=28800"} <= {part.strip() for part in set_cookie.split(";")}
    assert "Secure" not in set_cookie and ADMIN not in set_cookie
    cookie = client.get_cookie("sseproxy_session", path=PAGE)
    assert cookie is not None and len(cookie.value) == 43
    assert opens(client) == 200
    assert client.get("/v1/models").status_code == 401  # no cookie opens the API


def test_the_cookie_stays_on_https(client: Client) -> None:
    assert "; Secure" in login(client, base_url="https://localhost").headers["Set-Cookie"]


def test_every_process_knows_the_session(app: Proxy, client: Client, tmp_path: Path) -> None:
    login(client)
    cookie = client.get_cookie("sseproxy_session", path=PAGE)
    assert cookie is not None
    other = create_app(settings(tmp_path))
    there = Client(other)
    there.set_cookie("sseproxy_session", cookie.value, path=PAGE)
    seen = [opens(there)]
    there.post(LOGOUT)
    other.close()

    assert (seen, opens(client)) == ([200], 401)


def test_a_logout_ends_the_session_itself_not_only_the_cookie(client: Client) -> None:
    login(client)
    cookie = client.get_cookie("sseproxy_session", path=PAGE)
    assert cookie is not None
    answer = client.post(LOGOUT)
    assert (answer.status_code, answer.headers["Location"]) == (303, "../dashboard")
    assert client.get_cookie("sseproxy_session", path=PAGE) is None

    client.set_cookie("sseproxy_session", cookie.value, path=PAGE)
    answer = client.get(PAGE)
    assert answer.status_code == 401 and "session has ended" in answer.text


def test_a_session_is_over_after_eight_hours(
    app: Proxy, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login(client)
    with books_of(app).database.change() as connection:
        connection.exec_driver_sql("UPDATE sessions SET expires_at = expires_at - ?", (int(7.99 * 3600e6),))
    assert opens(client) == 200
    with books_of(app).database.change() as connection:
        connection.exec_driver_sql("UPDATE sessions SET expires_at = expires_at - ?", (int(0.02 * 3600e6),))
    assert opens(client) == 401


def test_a_session_ends_with_the_key_it_began_with(app: Proxy, client: Client) -> None:
    ledger, now = books_of(app), datetime.now(timezone.utc)
    key, secret = ledger.create_key("root", now)
    assert login(client, secret).status_code == 303
    assert opens(client) == 200

    ledger.revoke_key(key.id, now)
    assert opens(client) == 401
    assert login(client, secret).status_code == 401
    _, expired = ledger.create_key("root", now, expires_at=now - timedelta(seconds=1))
    assert login(client, expired).status_code == 401


@pytest.mark.parametrize(
    "users",
    [{"root": {"keys": [ADMIN]}}, {"root": {"admin": True}}, {}],
    ids=["no admin any more", "another key", "no user any more"],
)
def test_a_session_ends_with_its_users_rights(
    users: dict[str, Any], client: Client, app: Proxy, tmp_path: Path
) -> None:
    login(client)
    assert opens(client) == 200

    app.reload(settings(tmp_path, users=users))
    assert opens(client) == 401


@pytest.mark.parametrize("key", ["", " ", "sk-wrong", ADMIN + "x", "sha256:" + "0" * 64, "\N{GRINNING FACE}", "a.b.c"])
def test_a_wrong_key_is_refused_in_a_sentence_that_does_not_repeat_it(key: str, client: Client) -> None:
    answer = login(client, key)

    assert answer.status_code == 401
    assert "unknown, revoked or expired" in answer.text
    assert not key.strip() or key not in answer.text
    assert "Set-Cookie" not in answer.headers


def test_the_key_of_somebody_else_opens_nothing(client: Client) -> None:
    answer = login(client, OTHER)

    assert answer.status_code == 403 and "admin: true" in answer.text
    assert "Set-Cookie" not in answer.headers


def test_attempts_are_limited_by_address_and_a_right_key_does_not_help_then(client: Client) -> None:
    def attempt(key: str, address: str) -> int:
        return login(client, key, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert [attempt("sk-guess", "192.0.2.1") for _ in range(10)] == [401] * 10
    refused = login(client, ADMIN, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert "Try again in" in refused.text
    assert attempt(ADMIN, "192.0.2.2") == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://["},
    ],
)
def test_no_other_site_logs_in_or_out(headers: dict[str, str], client: Client) -> None:
    assert login(client, headers=headers).status_code == 403
    login(client)
    assert client.post(LOGOUT, headers=headers).status_code == 403
    assert opens(client) == 200


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}])
def test_the_pages_own_form_logs_in(headers: dict[str, str], client: Client) -> None:
    assert login(client, headers=headers).status_code == 303


def test_a_login_takes_a_form_of_bounded_size_and_nothing_else(client: Client) -> None:
    assert login(client, "x" * 10_000).status_code in (400, 413)
    assert client.post(LOGIN, json={"key": ADMIN}).status_code == 400
    assert client.post(LOGIN, data=b"key=%ff", content_type="application/x-www-form-urlencoded").status_code == 400
    assert client.post(LOGIN, data={"key": ADMIN}, content_type="multipart/form-data").status_code == 303


def test_the_login_leads_to_the_range_that_was_asked_for_and_nowhere_else(client: Client) -> None:
    page = client.get(f"{PAGE}?range=custom&since=2026-11-01&until=2026-11-02").text
    assert 'name="since" value="2026-11-01"' in page

    form = {"key": ADMIN, "range": "custom", "since": "2026-11-01", "until": "2026-11-02"}
    moved = client.post(LOGIN, data=form).headers["Location"]
    assert moved == "../dashboard?range=custom&since=2026-11-01&until=2026-11-02"
    for odd in ("//evil.example", "30d\r\nX: y", "custom"):
        assert client.post(LOGIN, data={"key": ADMIN, "range": odd}).headers["Location"] == "../dashboard"


def test_only_forms_change_anything(client: Client) -> None:
    login(client)
    for path in (LOGIN, LOGOUT):
        assert (client.get(path).status_code, client.get(path).headers["Location"]) == (303, "../dashboard")
        refused = client.put(path)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    for path in READ:
        refused = client.post(path)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert opens(client) == 200


def test_a_session_holds_below_a_mount_point_alone(app: Proxy) -> None:
    client = Client(DispatcherMiddleware(Response("site"), {"/llm": app}))
    answer = client.post(f"/llm{LOGIN}", data={"key": ADMIN})

    assert answer.headers["Location"] == "../dashboard"
    assert client.get_cookie("sseproxy_session", path=f"/llm{PAGE}") is not None
    assert client.get(f"/llm{PAGE}").status_code == 200
    assert client.get(PAGE).text == "site"
