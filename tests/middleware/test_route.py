"""middleware/route: where a request goes, and what leads nowhere."""

from __future__ import annotations

import pytest

from sseproxy.middleware.route import RouteMiddleware
from sseproxy.wsgi.exchange import KEY, Exchange, Target, User

from .apps import CHAT, Echo, error_of, post, request


def routed(**options: int) -> tuple[Echo, RouteMiddleware]:
    echo = Echo()
    targets = {"m": Target("main", "m"), "fast": Target("main", "gpt-4o-mini")}
    app = RouteMiddleware(echo, targets.get, passthrough={"/v1/audio/speech": "main"}, **options)
    return echo, app


def test_the_exchange_learns_its_api_request_and_target() -> None:
    echo, app = routed()

    assert post(app).code == 200
    assert echo.environ is not None
    exchange = echo.environ[KEY]
    assert (exchange.api, exchange.asked_model, exchange.target) == ("chat", "m", Target("main", "m"))
    assert echo.json == CHAT


def test_an_alias_reaches_the_application_under_the_upstream_s_name() -> None:
    echo, app = routed()

    post(app, body={**CHAT, "model": "fast"})

    assert echo.json["model"] == "gpt-4o-mini"
    assert echo.environ is not None
    assert echo.environ[KEY].asked_model == "fast"


def test_an_unknown_model_is_404_in_openai_s_shape() -> None:
    echo, app = routed()

    answer = post(app, body={**CHAT, "model": "none"})

    assert answer.code == 404
    error = error_of(answer)
    assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")
    assert echo.environ is None


def test_a_model_that_is_not_the_user_s_looks_like_one_that_does_not_exist() -> None:
    _, app = routed()

    def as_bob(environ, start_response):  # type: ignore[no-untyped-def]
        Exchange.of(environ).user = User("bob", models=("fast*",))
        return app(environ, start_response)

    assert error_of(post(as_bob))["code"] == "model_not_found"
    assert post(as_bob, body={**CHAT, "model": "fast"}).code == 200


@pytest.mark.parametrize(
    "further",
    [
        {"models": ["m", "dear"]},
        {"models": [5, "dear"]},
        {"fallbacks": ["dear"]},
        {"fallbacks": [{"model": "dear", "messages": []}]},
        {"fallbacks": [{"m": ["dear"]}]},
        {"fallbacks": [{"model": "m", "fallbacks": [{"model": "dear"}]}]},
        {"context_window_fallbacks": [{"m": ["dear"]}]},
        {"content_policy_fallbacks": [{"m": ["dear"]}]},
        {"models": ["none"]},
        {"models": ["fast"]},
    ],
)
def test_what_may_answer_in_a_model_s_place_has_to_be_the_user_s_by_the_upstream_s_name(further: object) -> None:
    echo = Echo()
    targets = {name: Target("main", model) for name, model in (("m", "m"), ("dear", "dear"), ("fast", "gpt-4o-mini"))}
    app = RouteMiddleware(echo, targets.get)

    def as_bob(environ, start_response):  # type: ignore[no-untyped-def]
        Exchange.of(environ).user = User("bob", models=("m", "fast"))
        return app(environ, start_response)

    assert error_of(post(as_bob, body={**CHAT, **further}))["code"] == "model_not_found"  # type: ignore[dict-item]
    assert echo.environ is None
    assert post(as_bob, body={**CHAT, "models": ["m"]}).code == 200
    assert post(as_bob, body={**CHAT, "model": "fast", "models": ["gpt-4o-mini", "m"]}).code == 200


def test_of_a_request_that_may_answer_in_another_s_place_only_what_names_a_model_is_looked_at() -> None:
    _, app = routed()

    further = {**CHAT, "stop": ["END"], "modalities": ["text"]}
    assert post(app, body={**CHAT, "fallbacks": [further]}).code == 200


@pytest.mark.parametrize("models", ["dear", None, {"a": 1}, [], 7])
def test_what_names_no_models_is_the_upstream_s_to_judge(models: object) -> None:
    _, app = routed()

    assert post(app, body={**CHAT, "models": models}).code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/other", 404),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/embeddings", 405),
    ],
)
def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    echo, app = routed()

    answer = request(app, method, path)

    assert answer.code == status
    assert echo.environ is None


def test_a_passthrough_path_goes_to_its_upstream_unread() -> None:
    echo, app = routed()

    assert request(app, "POST", "/v1/audio/speech", b"\x00\xff").code == 200
    assert echo.body == b"\x00\xff"
    assert echo.environ is not None
    assert echo.environ[KEY].target.upstream == "main"


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "trace"])
def test_a_method_that_would_show_a_client_the_upstream_s_key_is_not_handed_on(method: str) -> None:
    echo, app = routed()

    answer = request(app, method, "/v1/audio/speech")

    assert answer.code == 405
    assert answer.header("Allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert error_of(answer)["message"] == "This path takes GET, POST, PUT, PATCH, DELETE and OPTIONS requests only."
    assert echo.environ is None


BELOW = {"/v1/files": "main", "/v1/files/*": "main", "/v1/files/old/*": "archive", "/v1/files/old/new": "main"}


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/v1/files", "main"),
        ("/v1/files/file-1", "main"),
        ("/v1/files/file-1/content", "main"),
        ("/v1/files/old", "main"),
        ("/v1/files/old/file-1", "archive"),
        ("/v1/files/old/new", "main"),
        ("/v1/files/ft:gpt-4o.x~1@2", "main"),
        ("/v1/files/a+b==", "main"),
    ],
)
def test_all_below_a_passthrough_path_goes_to_the_upstream_of_the_nearest_entry(path: str, upstream: str) -> None:
    echo = Echo()
    app = RouteMiddleware(echo, {}.get, passthrough=BELOW)

    assert request(app, "GET", path).code == 200
    assert echo.environ is not None
    assert echo.environ[KEY].target.upstream == upstream
    assert echo.environ[KEY].route in BELOW, "the books have a row for each route"


@pytest.mark.parametrize(
    "path",
    ["", "/", "//a", "/a/", "/.", "/..", "/../chat/completions", "/a/../../chat/completions", "/%252e%252e/a", "/a;b",
     "/a\\..\\b", "/a%0a", "/\xe4"],
)  # fmt: skip
def test_nothing_that_could_lead_elsewhere_lies_below_a_passthrough_path(path: str) -> None:
    echo = Echo()
    app = RouteMiddleware(echo, {}.get, passthrough={"/v1/files/*": "main"})

    answer = request(app, "GET", f"/v1/files{path}")

    assert (answer.code, error_of(answer)["code"], echo.environ) == (404, "unknown_url", None)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/audio/speech"])
def test_a_body_over_the_limit_is_413(path: str) -> None:
    echo, app = routed(max_body=100)

    answer = request(app, "POST", path, b"x" * 101)

    assert answer.code == 413
    assert error_of(answer)["code"] == "request_too_large"
    assert echo.environ is None


def test_a_bad_body_is_400() -> None:
    assert error_of(post(routed()[1], body=b"{"))["type"] == "invalid_request_error"
