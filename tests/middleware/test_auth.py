"""middleware/auth: who is let in, and as whom."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sseproxy.ledger.protocol import Key
from sseproxy.middleware.auth import AuthMiddleware
from sseproxy.middleware.credentials import ConfiguredKeys, LedgerKeys, RemoteUser, Tokens, Unauthorized
from sseproxy.wsgi.exchange import KEY, User

from .apps import Echo, error_of, post

NOW = datetime.now(timezone.utc)
ALICE = User("alice")


def sha(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def guarded(*, required: bool = True, **found: Key) -> tuple[Echo, AuthMiddleware]:
    echo = Echo()
    keys = {sha(secret): key for secret, key in found.items()}
    readers = [ConfiguredKeys({sha("sk-alice"): ALICE}), LedgerKeys(keys.get)]
    return echo, AuthMiddleware(echo, readers, required=required)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk-alice"},
        {"Authorization": "bearer  sk-alice "},
        {"X-Api-Key": "sk-alice"},
        {"Api-Key": "sk-alice"},
    ],
)
def test_a_key_is_found_wherever_clients_send_it(headers: dict[str, str]) -> None:
    echo, app = guarded()

    assert post(app, **headers).code == 200
    assert echo.environ is not None
    assert echo.environ["REMOTE_USER"] == "alice"
    assert echo.environ[KEY].user == ALICE


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": "Bearer "}, "missing_api_key"),
        ({"Authorization": "Basic c2s="}, "missing_api_key"),
        ({"Authorization": "Bearer sk-bob"}, "invalid_api_key"),
        ({"Authorization": f"Bearer {sha('sk-alice')}"}, "invalid_api_key"),
        ({"Authorization": "Bearer sk-\xe9"}, "invalid_api_key"),
    ],
)
def test_no_key_and_wrong_keys_are_401_and_reach_no_application(headers: dict[str, str], code: str) -> None:
    echo, app = guarded()

    answer = post(app, **headers)

    assert answer.code == 401
    assert answer.header("WWW-Authenticate").startswith("Bearer")
    assert echo.environ is None
    error = error_of(answer)
    assert error["code"] == code
    assert "sk-" not in error["message"]


def key(**times: datetime) -> Key:
    return Key(id="key_1", user="carol", label="", created_at=NOW - timedelta(days=9), **times)


def test_a_key_from_the_database_names_its_user() -> None:
    echo, app = guarded(**{"sk-db": key()})

    assert post(app, Authorization="Bearer sk-db").code == 200
    assert echo.environ is not None
    assert echo.environ[KEY].user == User("carol")
    assert echo.environ[KEY].key == "key_1"


@pytest.mark.parametrize("times", [{"revoked_at": NOW}, {"expires_at": NOW - timedelta(seconds=1)}])
def test_revoked_and_expired_keys_are_401(times: dict[str, datetime]) -> None:
    echo, app = guarded(**{"sk-db": key(**times)})

    assert post(app, Authorization="Bearer sk-db").code == 401
    assert echo.environ is None


def test_where_no_key_is_required_the_caller_is_anonymous() -> None:
    echo, app = guarded(required=False)

    assert post(app).code == 200
    assert echo.environ is not None
    assert echo.environ[KEY].user.name == "anonymous"
    assert "REMOTE_USER" not in echo.environ, "an application would take them for somebody who has logged in"


def test_a_wrong_key_is_refused_even_where_none_is_required() -> None:
    assert post(guarded(required=False)[1], Authorization="Bearer sk-bob").code == 401


def test_a_refused_event_source_gets_the_status_and_one_error_event() -> None:
    answer = post(guarded()[1], Accept="text/event-stream")

    assert answer.code == 401
    assert answer.header("Content-Type").startswith("text/event-stream")
    body = b"".join(answer.body)
    assert body.startswith(b'data: {"error":{')
    assert body.endswith(b"}\n\n")


def verify(token: str) -> str:
    if token != "good.to.ken":
        raise Unauthorized("The token is malformed.", "invalid_token")
    return "dave"


def chained(*, required: bool = True) -> tuple[Echo, AuthMiddleware]:
    """Every reader there is, in the order of the stack."""
    echo = Echo()
    keys = {sha("sk.a.lice"): ALICE, sha("sk-alice"): ALICE}
    readers = [ConfiguredKeys(keys), LedgerKeys({sha("sk-db"): key()}.get), Tokens(verify), RemoteUser()]
    return echo, AuthMiddleware(echo, readers, required=required)


@pytest.mark.parametrize(
    ("secret", "user", "shown_by"),
    [
        ("sk-alice", "alice", f"config:{sha('sk-alice')[:8]}"),
        ("sk-db", "carol", "key_1"),
        ("good.to.ken", "dave", "jwt"),
    ],
)
def test_the_first_reader_that_knows_the_credentials_decides(secret: str, user: str, shown_by: str) -> None:
    echo, app = chained()

    assert post(app, Authorization=f"Bearer {secret}").code == 200
    assert echo.environ is not None
    assert (echo.environ[KEY].user.name, echo.environ[KEY].key) == (user, shown_by)


def test_a_key_with_two_dots_is_a_key_all_the_same() -> None:
    assert post(chained()[1], X_Api_Key="sk.a.lice").code == 200


def test_a_token_that_is_not_trusted_is_401_and_says_why() -> None:
    answer = post(chained()[1], Authorization="Bearer bad.to.ken")

    assert answer.code == 401
    assert error_of(answer)["code"] == "invalid_token"
    assert "bad" not in error_of(answer)["message"]


def with_remote_user(app: AuthMiddleware, name: str) -> Callable[..., Any]:
    return lambda environ, start_response: app({**environ, "REMOTE_USER": name}, start_response)


@pytest.mark.parametrize(("stated", "name"), [("erin", "erin"), ("Ren\xc3\xa9e", "Ren\xe9e"), ("\u0141", "\u0141")])
def test_the_user_of_the_server_in_front_is_trusted_where_that_is_configured(stated: str, name: str) -> None:
    echo, app = chained()

    assert post(with_remote_user(app, stated)).code == 200
    assert echo.environ is not None
    assert (echo.environ[KEY].user, echo.environ[KEY].key) == (User(name), "remote_user")


def test_the_user_of_the_server_in_front_is_not_trusted_elsewhere() -> None:
    echo, app = guarded(required=False)

    assert post(with_remote_user(app, "root")).code == 200
    assert echo.environ is not None
    assert echo.environ[KEY].user.name == "anonymous"
    assert echo.environ["REMOTE_USER"] == "root", "what an application inside makes of it is its own affair"
    assert post(with_remote_user(guarded()[1], "root")).code == 401


def test_a_header_that_is_called_remote_user_is_nobody() -> None:
    assert post(chained()[1], Remote_User="root").code == 401


@pytest.mark.parametrize("name", ["a\nb", " ", "x" * 201, "a\0"])
def test_a_user_s_name_that_would_garble_logs_is_401(name: str) -> None:
    answer = post(with_remote_user(chained()[1], name))

    assert answer.code == 401


def test_a_wrong_key_is_not_saved_by_the_server_in_front() -> None:
    answer = post(with_remote_user(chained()[1], "erin"), Authorization="Bearer sk-wrong")

    assert answer.code == 401


def test_a_public_path_asks_for_no_key_but_refuses_a_wrong_one() -> None:
    echo = Echo()
    app = AuthMiddleware(echo, [ConfiguredKeys({sha("sk-alice"): ALICE})], public=lambda path: path == "/open")

    assert post(app, "/open").code == 200
    assert echo.environ is not None
    assert echo.environ[KEY].user.name == "anonymous"
    assert post(app, "/open", Authorization="Bearer sk-alice").code == 200
    assert echo.environ["REMOTE_USER"] == "alice"
    assert post(app, "/open", Authorization="Bearer sk-bob").code == 401
    assert post(app, "/closed").code == 401
