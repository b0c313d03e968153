"""The same stack around an application of one's own: metered, prefixed, normalised; all else untouched."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import flask
import pytest
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client, create_environ

from sseproxy import SSEProxyMiddleware, create_app
from sseproxy.wsgi.call import call_app
from tests.harness import RawClient, Upstream, stream, waitress_thread

from .books import CHAT, KEY, STREAM, Books, config
from .conftest import Enclose

CHUNK = 'data: {{"id":"1","choices":[{{"index":0,"delta":{{"content":"{}"}}}}]}}\n\n'
PATH = "/v1/chat/completions"
AUTH = {"Authorization": f"Bearer {KEY}"}


def wrapping(tmp_path: Path, **sections: Any) -> dict[str, Any]:
    settings = config("http://unused.invalid/v1", tmp_path, **sections)
    del settings["upstreams"]
    return settings


def flask_app() -> flask.Flask:
    """An application that answers in OpenAI's form by itself, word by word, and has other pages."""
    app = flask.Flask(__name__)

    @app.post(PATH)
    def chat() -> Any:
        def words() -> Iterator[str]:
            system = flask.request.get_json()["messages"][0]["content"]
            for word in system.split():
                yield CHUNK.format(f" {word}")
            yield 'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'

        if not flask.request.get_json().get("stream"):
            usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
            message = {"role": "assistant", "content": "whole"}
            return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        return flask.Response(flask.stream_with_context(words()), content_type="text/event-stream")

    @app.get("/page")
    def page() -> str:
        return "a page"

    return app


def post(app: Any, body: dict[str, Any], **options: Any) -> Any:
    return Client(app).post(PATH, json=body, headers={"Authorization": f"Bearer {KEY}"}, **options)


def test_a_flask_app_is_prefixed_metered_and_normalised(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    app = flask_app()
    app.wsgi_app = enclose(app.wsgi_app, wrapping(tmp_path, prompt={"prefix": "House rules apply"}))  # type: ignore[method-assign]

    text = post(app, STREAM).get_data(as_text=True)

    events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    assert [event["choices"][0]["delta"].get("content") for event in events] == [" House", " rules", " apply", None]
    assert all(event["object"] == "chat.completion.chunk" for event in events)
    assert text.endswith("data: [DONE]\n\n")
    charge = books.one_ended()
    assert (charge["state"], charge["usage_source"], charge["upstream"]) == ("settled", "counted", "app")
    assert charge["output_tokens"] == 3
    assert charge["prefix_tokens"] == 3


def test_a_wrapped_answer_in_json_is_metered_by_what_it_reports(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    answer = post(enclose(flask_app(), wrapping(tmp_path)), CHAT).get_json()

    assert answer["choices"][0]["message"]["content"] == "whole"
    assert answer["usage"]["cost"] == pytest.approx((3 + 2 * 4) / 1e6)
    charge = books.one_ended()
    assert (charge["input_tokens"], charge["output_tokens"], charge["usage_source"]) == (3, 4, "reported")


def test_a_bare_generator_app_streams_through(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        yield CHUNK.format("hi").encode()
        yield b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    wrapped = enclose(app, wrapping(tmp_path))

    assert post(wrapped, STREAM).get_data().endswith(b"data: [DONE]\n\n")
    assert books.one_ended()["outcome"] == "completed"


def test_other_paths_are_untouched_and_keep_their_very_body(tmp_path: Path, enclose: Enclose) -> None:
    body: Iterable[bytes] = [b"a page"]

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Own", "1")])
        return body

    answer = call_app(enclose(app, wrapping(tmp_path)), create_environ("/page"))

    assert answer.body is body
    assert answer.headers == [("X-Own", "1")]


def test_a_wrapped_path_needs_a_key_and_others_do_not(tmp_path: Path, enclose: Enclose) -> None:
    wrapped = enclose(flask_app(), wrapping(tmp_path))

    assert Client(wrapped).post(PATH, json=CHAT).status_code == 401
    assert Client(wrapped).get("/page").get_data() == b"a page"


def lenient_app(reached: list[str]) -> flask.Flask:
    """A view that Flask reaches by more spellings than one."""
    app = flask.Flask(__name__)

    @app.route(PATH, methods=["GET", "POST", "OPTIONS"], strict_slashes=False)
    def chat() -> Any:
        reached.append(flask.request.method)
        if flask.request.method == "OPTIONS":
            return "", 204, {"Allow": "POST"}
        message = {"role": "assistant", "content": "for nothing"}
        return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    return app


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"{PATH}/", 404),
        ("POST", f"/{PATH}", 404),
        ("POST", f"//{PATH}//", 404),
        ("POST", "/v1//chat/completions", 404),
        ("POST", f"{PATH}\n", 404),
        ("POST", "/v1/./chat/completions", 404),
        ("POST", "/v1/x/../chat/completions", 404),
        ("post", f"{PATH}/", 404),
        ("GET", f"{PATH}/", 404),
        ("GET", PATH, 405),
        ("HEAD", PATH, 405),
        ("post", PATH, 405),
        ("Post", PATH, 405),
    ],
)
def test_no_other_spelling_of_a_wrapped_path_reaches_the_view(
    method: str, path: str, status: int, tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    reached: list[str] = []
    wrapped = enclose(lenient_app(reached), wrapping(tmp_path))

    def ask(**headers: str) -> int:
        environ = create_environ("/", method="POST", json=CHAT, headers=headers)
        environ |= {"REQUEST_METHOD": method, "PATH_INFO": path}
        answer = call_app(wrapped, environ)
        answer.close()
        return answer.code

    assert ask() == 401
    assert ask(Authorization=f"Bearer {KEY}") == status
    assert reached == []
    assert books.charges() == []


def test_options_of_a_wrapped_path_is_the_apps_own_affair(tmp_path: Path, enclose: Enclose) -> None:
    reached: list[str] = []
    wrapped = enclose(lenient_app(reached), wrapping(tmp_path))

    answers = [Client(wrapped).options(path) for path in (PATH, f"{PATH}/")]

    assert [(answer.status_code, answer.headers["Allow"]) for answer in answers] == [(204, "POST")] * 2
    assert reached == ["OPTIONS"] * 2


@pytest.mark.parametrize("path", [PATH, "/api/ask"])
def test_options_is_no_way_to_an_answer(path: str, tmp_path: Path, books: Books, enclose: Enclose) -> None:
    seen: dict[str, Any] = {}

    def app(environ: Any, start_response: Any) -> list[bytes]:
        """Looks at no method."""
        seen.update(environ, body=environ["wsgi.input"].read(), method=environ.get("HTTP_X_HTTP_METHOD_OVERRIDE"))
        start_response("200 OK", [("Content-Type", "application/json"), ("Allow", "POST")])
        return [b"an answer of a model"]

    section = {"paths": ["/api/ask"], "text": "answer"}
    wrapped = enclose(app, wrapping(tmp_path, wrap=section, models={"*": {}}))

    answer = Client(wrapped).options(path, json=CHAT, query_string="q=x", headers={"X-HTTP-Method-Override": "POST"})

    assert (answer.status_code, answer.get_data(), answer.headers["Allow"]) == (200, b"", "POST")
    assert (seen["body"], seen["method"], seen["QUERY_STRING"], seen.get("CONTENT_LENGTH")) == (b"", None, "", None)
    assert books.charges() == []


def test_mounted_at_v1_the_same_paths_are_guarded(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    reached: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        reached.append(environ["SCRIPT_NAME"] + environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "application/json")])
        message = {"role": "assistant", "content": "hi"}
        return [json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()]

    site = DispatcherMiddleware(NotFound(), {"/v1": enclose(app, wrapping(tmp_path))})

    assert Client(site).post(PATH, json=CHAT).status_code == 401
    assert Client(site).get(PATH, headers=AUTH).status_code == 405
    assert Client(site).post(f"{PATH}/", json=CHAT, headers=AUTH).status_code == 404
    assert reached == []
    assert Client(site).post(PATH, json=CHAT, headers=AUTH).status_code == 200
    assert reached == [PATH]
    assert books.one_ended()["outcome"] == "completed"


TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


def test_an_answer_that_can_be_rejoined_is_made_in_the_context_of_its_request(tmp_path: Path, enclose: Enclose) -> None:
    seen: list[tuple[str, bool]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((TENANT.get(), environ["wsgi.multithread"]))
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [CHUNK.format("hi").encode(), b"data: [DONE]\n\n"]

    def outer(environ: Any, start_response: Any) -> Iterable[bytes]:
        TENANT.set("acme")
        return wrapped(environ, start_response)

    wrapped = enclose(app, wrapping(tmp_path))
    answer = Client(outer).post(PATH, json=STREAM, headers={**AUTH, "Idempotency-Key": "k"})

    assert b"hi" in answer.data
    assert seen == [("acme", True)]


def test_an_application_that_cannot_be_closed_has_answered_all_the_same(
    tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    class Stuck(list[bytes]):
        def close(self) -> None:
            raise ValueError("no")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return Stuck([CHUNK.format("hi").encode(), b"data: [DONE]\n\n"])

    wrapped = enclose(app, wrapping(tmp_path))
    for key in ({}, {"Idempotency-Key": "k"}):
        answer = Client(wrapped).post(PATH, json=CHAT, headers={**AUTH, **key})
        assert (answer.status_code, answer.get_json()["choices"][0]["message"]["content"]) == (200, "hi")
    assert {charge["outcome"] for charge in books.charges()} == {"completed"}


def test_an_app_that_raises_mid_stream_is_an_error_event_and_a_charge(
    tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        yield CHUNK.format("hi").encode()
        raise ValueError("boom")

    with waitress_thread(enclose(app, wrapping(tmp_path))) as server, RawClient(server.url) as client:
        events = list(client.post(PATH, STREAM, key=KEY).events())

    assert events[0].json["choices"][0]["delta"]["content"] == "hi"
    assert events[-1].json["error"]["code"] == "app_failed"
    charge = books.one_ended()
    assert (charge["state"], charge["outcome"]) == ("settled", "upstream_failed")


def test_an_app_that_raises_at_once_is_released(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ValueError("boom")

    assert post(enclose(app, wrapping(tmp_path)), STREAM).status_code == 500
    assert books.one_ended()["state"] == "released"


def test_the_proxy_can_be_mounted_under_a_prefix(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=3)
    with closing(create_app(config(upstream.url, tmp_path))) as proxy:
        app = DispatcherMiddleware(flask_app(), {"/llm": proxy})
        answer = Client(app).post(f"/llm{PATH}", json=STREAM, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.get_data().endswith(b"data: [DONE]\n\n")

    assert upstream.last.path == PATH
    assert Client(app).get("/page").get_data() == b"a page"
    assert books.one_ended()["output_tokens"] == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("body", [CHAT, STREAM, {"model": "none", "messages": []}], ids=["whole", "stream", "refused"])
def test_all_of_it_keeps_to_pep_3333(body: dict[str, Any], upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=3)
    with (
        closing(create_app(config(upstream.url, tmp_path))) as proxy,
        closing(SSEProxyMiddleware(validator(flask_app()), wrapping(tmp_path))) as around,
    ):
        for checked in (LintMiddleware(proxy), validator(proxy), validator(around)):  # type: ignore[arg-type]
            environ = create_environ(PATH, method="POST", json=body, headers={"Authorization": f"Bearer {KEY}"})
            environ["wsgi.input"] = _Input(environ["wsgi.input"])
            pieces = checked(environ, lambda status, headers, exc_info=None: lambda data: None)
            list(pieces)
            pieces.close()  # type: ignore[attr-defined]


class _Input:
    """A request body that offers what PEP 3333 promises and no more."""

    def __init__(self, stream: Any) -> None:
        self.read, self.readline, self.readlines = stream.read, stream.readline, stream.readlines
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)


def test_a_hang_up_reaches_the_wrapped_generator(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    closed: list[float] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        try:
            while True:
                yield CHUNK.format("word ").encode()
                time.sleep(0.02)
        finally:
            closed.append(time.monotonic())

    with waitress_thread(enclose(app, wrapping(tmp_path))) as server:
        with RawClient(server.url) as client:
            client.post(PATH, STREAM, key=KEY)
            client.read_event()
        charge = books.one_ended()

    assert charge["outcome"] == "client_gone"
    assert closed
