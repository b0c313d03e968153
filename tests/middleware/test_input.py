"""middleware/input: a request at a route becomes a chat request, or is refused and leads nowhere."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.test import create_environ

from sseproxy.core.formats import Plain
from sseproxy.core.inputs import Inputs
from sseproxy.core.prompt import Prefix
from sseproxy.core.route import Route
from sseproxy.middleware.auth import AuthMiddleware
from sseproxy.middleware.input import InputMiddleware
from sseproxy.middleware.log import LogMiddleware
from sseproxy.middleware.prompt import Prefixes, PromptMiddleware
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.exchange import KEY, Exchange

from .apps import CHAT, Echo, error_of, post

PREFIX = Prefix("own")
PLAIN = Plain()
ROUTES = {
    "/chat": Route("/chat"),
    "/ask": Route("/ask", model="m", prefix=PREFIX, format=PLAIN, inputs=Inputs(message="q", messages="history")),
    "/get": Route("/get", methods=("GET",), model="m"),
    "/post": Route("/post", methods=("POST",), model="m"),
    "/again/abc": Route("/again/<cid>", inputs=Inputs(message=None, path="cid")),
    "/say/hello": Route("/say/<q>", model="m", inputs=Inputs(message="q")),
}
VARIABLES = {"/again/abc": {"cid": "abc"}, "/say/hello": {"q": "hello"}}


def match(path: str) -> tuple[Route, dict[str, str]] | None:
    return (ROUTES[path], VARIABLES.get(path, {})) if path in ROUTES else None


class Mapped:
    """An InputMiddleware, its answer, and what came out of it inside."""

    def __init__(self, path: str, max_body: int = 1000, **options: Any) -> None:
        self.echo = Echo()
        self.environ = create_environ(path, **options)
        for name in ("REQUEST_URI", "RAW_URI"):  # as servers set them
            self.environ[name] = f"{path}?{self.environ['QUERY_STRING']}"
        self.answer: Answer = call_app(InputMiddleware(self.echo, match, max_body=max_body), self.environ)

    @property
    def inside(self) -> dict[str, Any]:
        assert self.echo.environ is not None, b"".join(self.answer.body)
        return self.echo.environ

    @property
    def exchange(self) -> Exchange:
        exchange: Exchange = self.inside[KEY]
        return exchange

    @property
    def contents(self) -> list[str]:
        return [message["content"] for message in self.echo.json["messages"]]

    def refusal(self, status: int = 400) -> dict[str, Any]:
        assert self.answer.code == status
        assert self.echo.environ is None
        return error_of(self.answer)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "POST", "json": {"message": "hi", "model": "m"}},
        {"method": "POST", "data": b'{"message":"hi","model":"m"}', "content_type": "application/vnd.page+json"},
        {"method": "POST", "data": urlencode({"message": "hi", "model": "m"}), "content_type": None},
        {"method": "POST", "data": {"message": "hi", "model": "m"}, "content_type": "multipart/form-data"},
        {"method": "POST", "query_string": "message=hi&model=m"},
        {"method": "POST", "query_string": "model=m", "json": {"message": "hi"}},
        {"method": "GET", "query_string": "message=hi&model=m"},
    ],
    ids=["json", "+json", "urlencoded", "multipart", "query of a POST", "both", "query of a GET"],
)
def test_every_form_of_input_is_the_same_chat_request(options: dict[str, Any]) -> None:
    if "content_type" in options and options["content_type"] is None:
        options = {**options, "content_type": "application/x-www-form-urlencoded"}
    mapped = Mapped("/chat", **options)

    assert mapped.echo.json == {"model": "m", "messages": [user("hi")], "stream": True}
    shown = {name: mapped.inside[name] for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE")}
    assert shown == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v1/chat/completions",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
    }
    assert mapped.inside["CONTENT_LENGTH"] == str(len(mapped.echo.body))


def test_the_exchange_knows_route_prefix_format_and_model() -> None:
    exchange = Mapped("/ask", method="POST", json={"q": "hi"}).exchange

    assert (exchange.route, exchange.path, exchange.api, exchange.asked_model) == ("/ask", "/ask", "chat", "m")
    assert (exchange.prefix, exchange.format, exchange.rejoin) == (PREFIX, PLAIN, "")


def test_no_key_of_the_environ_still_holds_the_query() -> None:
    mapped = Mapped("/chat", query_string="message=secret+prompt&model=m")
    kept = {name: value for name, value in mapped.inside.items() if isinstance(value, str)}

    assert [name for name, value in kept.items() if "secret" in value] == []
    assert mapped.environ["QUERY_STRING"] == "message=secret+prompt&model=m"
    assert mapped.environ["REQUEST_METHOD"] == "GET"


def test_history_and_message_come_together_from_any_form() -> None:
    history = json.dumps([user("one"), {"role": "assistant", "content": "two"}])

    in_form = Mapped("/ask", method="POST", data={"history": history, "q": "three"})
    in_json = Mapped("/ask", method="POST", json={"history": json.loads(history), "q": "three"})
    in_query = Mapped("/ask", query_string={"history": history, "q": "three"})

    assert in_form.contents == in_json.contents == in_query.contents == ["one", "two", "three"]


def test_a_variable_of_the_path_goes_before_the_body_and_the_body_before_the_query() -> None:
    assert Mapped("/say/hello", method="POST", json={"q": "other"}).contents == ["hello"]
    assert Mapped("/chat", method="POST", query_string="message=b&model=m", json={"message": "a"}).contents == ["a"]


def test_a_path_that_names_a_stream_asks_no_model() -> None:
    mapped = Mapped("/again/abc", query_string="a=1")

    assert mapped.exchange.rejoin == "abc"
    assert (mapped.exchange.request, mapped.exchange.api) == (None, None)
    assert (mapped.inside["PATH_INFO"], mapped.inside["QUERY_STRING"]) == ("/again/abc", "")


def test_other_paths_pass_untouched() -> None:
    echo = Echo()
    environ = create_environ("/v1/chat/completions", method="POST", json=CHAT, query_string="a=1")

    call_app(InputMiddleware(echo, match), environ)

    assert echo.environ is environ
    assert echo.json == CHAT


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"method": "POST", "json": {}}, "q"),
        ({"method": "POST", "json": {"q": 1}}, "q"),
        ({"method": "POST", "data": {"q": " "}}, "q"),
        ({"method": "GET"}, "q"),
        ({"method": "POST"}, "q"),
        ({"method": "GET", "query_string": "q=1&q=2"}, "q"),
        ({"method": "POST", "data": {"q": ["a", "b"]}}, "q"),
        ({"method": "GET", "query_string": "q=1&history=x"}, "history"),
        ({"method": "POST", "json": {"q": "x", "history": [{"role": "robot", "content": "x"}]}}, "history[0].role"),
        ({"method": "POST", "data": b"{", "content_type": "application/json"}, None),
        ({"method": "POST", "data": b"[]", "content_type": "application/json"}, None),
        ({"method": "POST", "data": b'{"q":"\xff"}', "content_type": "application/json"}, None),
        ({"method": "POST", "data": b"x", "content_type": "multipart/form-data"}, None),
        ({"method": "GET", "query_string": "q=%FF"}, None),
        ({"method": "GET", "query_string": "&".join(["x=1"] * 1001)}, None),
    ],
)
def test_bad_input_is_400_with_the_field_s_name(options: dict[str, Any], param: str | None) -> None:
    error = Mapped("/ask", **options).refusal()

    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_a_field_that_nobody_reads_may_come_twice() -> None:
    assert Mapped("/ask", query_string="q=hi&tag=a&tag=b").contents == ["hi"]


def test_a_missing_model_is_named_where_the_route_has_none() -> None:
    assert Mapped("/chat", query_string="message=hi").refusal()["param"] == "model"


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "application/octet-stream", "x", ""])
def test_another_content_type_is_415_and_told_what_is_accepted(content_type: str) -> None:
    mapped = Mapped("/ask", method="POST", data=b'{"q":"hi"}', content_type=content_type)

    assert "application/json" in mapped.refusal(415)["message"]
    assert mapped.answer.header("Accept").startswith("application/json, application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/get", "POST", "GET"),
        ("/post", "GET", "POST"),
        ("/chat", "HEAD", "GET, POST"),
        ("/chat", "OPTIONS", "GET, POST"),
        ("/chat", "post", "GET, POST"),
        ("/again/abc", "DELETE", "GET, POST"),
    ],
)
def test_another_method_is_405_and_told_which_are_allowed(path: str, method: str, allow: str) -> None:
    echo = Echo()
    environ = {**create_environ(path, query_string="message=hi&model=m"), "REQUEST_METHOD": method}

    answer = call_app(InputMiddleware(echo, match), environ)

    assert (answer.code, answer.header("Allow"), echo.environ) == (405, allow, None)


def test_a_body_is_read_no_further_than_the_limit() -> None:
    assert Mapped("/ask", max_body=20, method="POST", json={"q": "hi"}).answer.code == 200
    mapped = Mapped("/ask", max_body=20, method="POST", json={"q": "hi" * 20})

    assert mapped.refusal(413)["code"] == "request_too_large"


def test_a_body_that_ends_too_early_is_refused() -> None:
    echo = Echo()
    environ = {**create_environ("/ask", method="POST", json={"q": "hi"}), "CONTENT_LENGTH": "500"}

    assert call_app(InputMiddleware(echo, match), environ).code == 400
    assert echo.environ is None


def test_a_refused_event_source_gets_one_error_event() -> None:
    mapped = Mapped("/ask", headers={"Accept": "text/event-stream"})

    assert mapped.answer.code == 400
    assert mapped.answer.header("Content-Type").startswith("text/event-stream")
    assert b"".join(mapped.answer.body).startswith(b'data: {"error":{')


def test_the_route_s_prefix_beats_every_other() -> None:
    echo = Echo()
    others = Prefixes(Prefix("for all"), models={"m": Prefix("for m")}, users={"anonymous": Prefix("for anonymous")})
    app = AuthMiddleware(InputMiddleware(PromptMiddleware(echo, others), match), [], required=False)

    post(app, "/ask", {"q": "hi"})
    assert echo.json["messages"] == [{"role": "system", "content": "own"}, user("hi")]
    post(app, "/post", {"message": "hi"})
    assert echo.json["messages"][0]["content"] == "for anonymous"


def test_the_log_shows_the_pattern_and_the_client_s_own_method(caplog: pytest.LogCaptureFixture) -> None:
    def pattern(path: str) -> str:
        return ROUTES[path].pattern

    app = LogMiddleware(InputMiddleware(Echo(), match), shown=pattern)

    with caplog.at_level("INFO", "sseproxy.access"):
        for query in ("secret=1", "q=secret&q=secret"):
            answer = call_app(app, create_environ("/say/hello", query_string=query))
            b"".join(answer.body)
            answer.close()

    assert len(caplog.messages) == 2
    assert all(" method=GET path=/say/<q> status=" in line for line in caplog.messages)
    assert not any("secret" in line or "hello" in line for line in caplog.messages)
