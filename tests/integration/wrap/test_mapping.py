"""The section ``wrap``: an application that answers in its own JSON shape, metered by declared paths."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import flask
import pytest
from werkzeug.test import Client, create_environ
from werkzeug.wrappers import Request, Response

from sseproxy.config import ConfigError
from tests.harness import PATIENCE, RawClient, waitress_thread
from tests.integration.books import KEY, PRICE, Books
from tests.integration.conftest import Enclose

from .model import wrapping
from .test_mounting import Input

AUTH = {"Authorization": f"Bearer {KEY}"}
DEAR = {"input": "100", "output": "100"}
MODELS = {"small": {"price": PRICE}, "large": {"price": DEAR}}
SECTION = {
    "paths": ["/api/ask", "/talk/*"],
    "usage": "meta.usage",
    "text": "data.answer",
    "model": "meta.model",
    "default_model": "small",
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5}
WORDS = ["one", " two", " three"]


def config(directory: Path, wrap: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    return wrapping(directory, **{"models": MODELS, "wrap": SECTION if wrap is None else wrap, **sections})


def own_app(held: threading.Event | None = None) -> flask.Flask:
    """Asks in a form or plain JSON, answers ``{"data": …, "meta": …}``, whole or in pieces."""
    app = flask.Flask(__name__)

    @app.route("/api/ask", methods=["GET", "POST"], strict_slashes=False)
    def ask() -> Any:
        question = flask.request.get_data(as_text=True)
        if question == "fail":
            return {"problem": "no such thing"}, 422
        if question == "login":
            return flask.redirect("/login")
        meta = {} if question == "count" else {"usage": USAGE}
        if question == "large":
            meta["model"] = "large"
        answer = {"data": {"answer": "one two three", "big": 2**70, "asked": question}, "meta": meta}
        return flask.Response(json.dumps(answer, indent=1), mimetype="application/json", headers={"ETag": '"own"'})

    @app.post("/talk/<kind>")
    def talk(kind: str) -> Any:
        def pieces() -> Iterator[bytes]:
            for word in WORDS:
                yield framed({"data": {"answer": word}}, kind)
                if kind == "broken":
                    raise ValueError("the model broke")
                if held is not None:
                    held.wait(PATIENCE)
            more = {"endless": 100_000, "long": 60}.get(kind, 0)
            for _ in range(more):
                time.sleep(0.005)
                yield framed({"data": {"answer": " more"}}, kind)
            yield framed({"meta": {"usage": USAGE}} if kind != "counted" else {}, kind)

        return flask.Response(pieces(), mimetype="application/x-ndjson" if kind == "lines" else "text/event-stream")

    @app.get("/page")
    def page() -> str:
        return "a page"

    return app


def framed(value: Any, kind: str) -> bytes:
    text = json.dumps(value).encode()
    return text + b"\n" if kind == "lines" else b"event: piece\r\ndata:" + text + b"\r\n\r\n"


def ask(app: Any, question: str = "What?", path: str = "/api/ask", **options: Any) -> Any:
    return Client(app).post(path, data=question, **{"headers": AUTH, "buffered": True, **options})


def test_an_answer_passes_byte_for_byte_and_is_charged_by_what_it_reports(
    tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    bare, wrapped = own_app(), enclose(own_app(), config(tmp_path))

    expected, answer = ask(bare), ask(wrapped)

    assert answer.data == expected.data
    assert {**answer.headers, "X-Request-Id": ""} == {**expected.headers, "X-Request-Id": ""}
    (charge,) = books.charges()
    assert (charge["user"], charge["model"], charge["route"]) == ("alice", "small", "/api/ask")
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "completed", "reported")
    assert (charge["input_tokens"], charge["output_tokens"], charge["prefix_tokens"]) == (7, 5, 0)
    assert float(charge["cost_usd"]) == (7 + 2 * 5) / 1e6


def test_a_document_is_charged_before_it_leaves(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    environ = create_environ("/api/ask", method="POST", data="What?", headers=AUTH)
    body = enclose(own_app(), config(tmp_path))(environ, lambda status, headers, exc_info=None: print)

    assert next(filter(None, body))
    assert books.charges()[0]["state"] == "settled"
    body.close()  # type: ignore[attr-defined]


def test_without_a_report_text_and_body_are_counted(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    ask(enclose(own_app(), config(tmp_path)), "count")

    (charge,) = books.charges()
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("counted", 1, 3)


def test_the_model_that_the_answer_names_sets_the_price(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    ask(enclose(own_app(), config(tmp_path)), "large")

    (charge,) = books.charges()
    assert (charge["model"], charge["upstream_model"]) == ("small", "large")
    assert float(charge["cost_usd"]) == pytest.approx(12 * 100 / 1e6)


@pytest.mark.parametrize(("question", "status", "outcome"), [("fail", 422, "refused"), ("login", 302, "completed")])
def test_what_is_no_answer_costs_nothing(
    question: str, status: int, outcome: str, tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    bare, wrapped = own_app(), enclose(own_app(), config(tmp_path))

    answer = ask(wrapped, question)

    assert (answer.status_code, answer.data) == (status, ask(bare, question).data)
    (charge,) = books.charges()
    assert (charge["state"], charge["outcome"], float(charge["cost_usd"])) == ("released", outcome, 0)


def test_head_is_charged_like_the_answer_that_was_made_for_it(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    answer = Client(enclose(own_app(), config(tmp_path))).head("/api/ask", headers=AUTH)

    assert (answer.status_code, answer.data) == (200, b"")
    (charge,) = books.charges()
    assert (charge["outcome"], charge["usage_source"], charge["output_tokens"]) == ("completed", "reported", 5)


def test_an_app_that_would_compress_is_not_asked_to(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    asked: list[str | None] = []
    app = own_app()
    app.before_request(lambda: asked.append(flask.request.headers.get("Accept-Encoding")))

    Client(enclose(app, config(tmp_path))).get("/api/ask", headers={**AUTH, "Accept-Encoding": "br, gzip"})

    assert asked == [None]


def test_an_app_that_fails_at_its_first_step_costs_nothing(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return (b"%d" % (1 // zero) for zero in [0])

    answer = ask(enclose(app, config(tmp_path)))

    assert answer.status_code == 500
    (charge,) = books.charges()
    assert (charge["state"], float(charge["cost_usd"])) == ("released", 0)


@pytest.mark.parametrize("path", ["/api/ask", "/api/ask/", "//api/ask"])
@pytest.mark.parametrize("method", ["GET", "POST", "post", "HEAD"])
def test_no_spelling_gets_past_the_door(method: str, path: str, tmp_path: Path, books: Books, enclose: Enclose) -> None:
    wrapped = enclose(own_app(), config(tmp_path))
    environ = create_environ("/", method="POST", data="What?") | {"REQUEST_METHOD": method, "PATH_INFO": path}
    statuses: list[str] = []

    list(wrapped(environ, lambda status, headers, exc_info=None: statuses.append(status)))  # type: ignore[arg-type,return-value,func-returns-value]

    assert statuses[0][:3] == "401"
    assert books.charges() == []
    assert Client(wrapped).get("/page").data == b"a page"
    assert Client(wrapped).options("/api/ask").status_code == 200


@pytest.mark.parametrize("kind", ["events", "lines"])
def test_a_stream_in_the_apps_own_shape_flows_and_is_metered(
    kind: str, tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    held = threading.Event()
    with (
        waitress_thread(enclose(own_app(held), config(tmp_path))) as server,
        RawClient(server.url) as client,
    ):
        client.post(f"/talk/{kind}", b"What?", key=KEY)
        first = framed({"data": {"answer": "one"}}, kind)
        client.wait_for_bytes(first)  # while the application holds the rest back
        held.set()
        body = client.read_body()

    words = [framed({"data": {"answer": word}}, kind) for word in WORDS]
    assert body == b"".join([*words, framed({"meta": {"usage": USAGE}}, kind)])
    charge = books.one_ended()
    assert (charge["outcome"], charge["usage_source"]) == ("completed", "reported")
    assert (charge["input_tokens"], charge["output_tokens"]) == (7, 5)


def test_a_stream_without_a_report_is_counted_by_its_text(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    ask(enclose(own_app(), config(tmp_path)), path="/talk/counted").get_data()

    (charge,) = books.charges()
    assert (charge["usage_source"], charge["output_tokens"], charge["outcome"]) == ("counted", 3, "completed")


@pytest.mark.parametrize(
    ("mimetype", "pieces"),
    [
        ("text/plain", ["one", " two", " three"]),
        ("text/html", ["<p>one", " two", " three"]),
        ("text/event-stream", ["data: one\n\n", "data:  two\n\ndata:  three\n\n", "data: [DONE]\n\n"]),
    ],
    ids=["plain", "page", "events"],
)
def test_text_in_no_field_streams_through_and_is_counted(
    mimetype: str, pieces: list[str], tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    held = threading.Event()
    app = flask.Flask(__name__)

    @app.post("/ask")
    def answer() -> Any:
        def written() -> Iterator[str]:
            yield pieces[0]
            held.wait(PATIENCE)
            yield from pieces[1:]

        return flask.Response(written(), mimetype=mimetype)

    section = {"paths": ["/ask"], "text": ".", "default_model": "small"}
    with waitress_thread(enclose(app, config(tmp_path, section))) as server, RawClient(server.url) as client:
        client.post("/ask", b"What?", key=KEY)
        client.wait_for_bytes(b"one")
        held.set()
        body = client.read_body()

    assert body.decode() == "".join(pieces)
    charge = books.one_ended()
    assert (charge["outcome"], charge["usage_source"], charge["input_tokens"]) == ("completed", "counted", 2)
    assert charge["output_tokens"] == (5 if mimetype == "text/html" else 3)


def test_a_client_that_leaves_pays_for_what_it_got(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    with waitress_thread(enclose(own_app(), config(tmp_path))) as server:
        with RawClient(server.url) as client:
            client.post("/talk/endless", b"What?", key=KEY)
            client.wait_for_bytes(b"more")
        charge = books.one_ended()

    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "counted")
    assert charge["output_tokens"] >= 4


def test_an_answer_that_is_drained_is_read_to_its_report(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    books_section = {"ledger": f"sqlite:///{tmp_path}/usage.db", "client_gone": "drain"}
    wrapped = enclose(own_app(), config(tmp_path, accounting=books_section))
    with waitress_thread(wrapped) as server:
        with RawClient(server.url) as client:
            client.post("/talk/long", b"What?", key=KEY)
            client.wait_for_bytes(b"more")
            client.reset()
        charge = books.one_ended()

    assert (charge["outcome"], charge["usage_source"], charge["input_tokens"]) == ("client_gone", "reported", 7)


def test_an_app_that_breaks_in_the_middle_is_cut_off_and_charged(
    tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    with waitress_thread(enclose(own_app(), config(tmp_path))) as server, RawClient(server.url) as client:
        client.post("/talk/broken", b"What?", key=KEY)
        body = client.read_body()

    assert body == framed({"data": {"answer": "one"}}, "events")
    assert client.ending == "cut"
    charge = books.one_ended()
    assert (charge["state"], charge["outcome"], charge["output_tokens"]) == ("settled", "upstream_failed", 1)


def test_budgets_and_limits_hold(tmp_path: Path, enclose: Enclose) -> None:
    user = {"keys": [KEY], "budget": {"usd": "0.00002", "per": "total"}, "limits": {"requests": "2/minute"}}
    wrapped = enclose(own_app(), config(tmp_path, users={"alice": user}))

    answers = [ask(wrapped) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert ask(wrapped, "large").get_json()["error"]["code"] == "rate_limit_exceeded"


def test_a_budget_that_is_used_up_refuses_before_the_view(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    user = {"keys": [KEY], "budget": {"usd": "0.000017", "per": "total"}}
    wrapped = enclose(own_app(), config(tmp_path, users={"alice": user}))

    assert [ask(wrapped).status_code for _ in range(2)] == [200, 429]
    assert len(books.charges()) == 1


def test_a_user_without_the_model_is_turned_away(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    wrapped = enclose(own_app(), config(tmp_path, users={"alice": {"keys": [KEY], "models": ["large"]}}))

    assert ask(wrapped).get_json()["error"]["code"] == "model_not_found"
    assert books.charges() == []


def test_an_llm_path_may_have_a_shape_of_its_own_too(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"said": "one two", "read": "' + environ["wsgi.input"].read() + b'"}']

    wrap = {"paths": ["/v1/chat/completions"], "text": "said", "default_model": "small"}
    answer = ask(enclose(app, config(tmp_path, wrap)), "no JSON", path="/v1/chat/completions")

    assert answer.data == b'{"said": "one two", "read": "no JSON"}'
    assert books.one_ended()["output_tokens"] == 2


def test_a_form_with_a_file_reaches_the_view_as_it_was(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    @Request.application
    def app(request: Request) -> Response:
        with request.files["file"].stream as file:
            answer = {"text": request.form["q"], "size": len(file.read())}
        return Response(json.dumps(answer), mimetype="application/json")

    wrap = {"paths": ["/api/ask"], "text": "text", "default_model": "small"}
    form = {"q": "Why so?", "file": (BytesIO(b"\0\xff" * 70_000), "a.bin")}
    answer = Client(enclose(app, config(tmp_path, wrap))).post("/api/ask", data=form, headers=AUTH)

    assert answer.get_json() == {"text": "Why so?", "size": 140_000}
    assert (books.one_ended()["input_tokens"], books.one_ended()["output_tokens"]) == (0, 3)


def test_a_request_without_a_body_reaches_the_view_without_one(tmp_path: Path, enclose: Enclose) -> None:
    seen: dict[str, Any] = {}

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.update(environ, body=environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    with waitress_thread(enclose(app, config(tmp_path))) as server, RawClient(server.url) as client:
        client.send_bytes(f"GET /api/ask HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        assert client.read_head().status == 200

    assert seen["body"] == b""
    assert "CONTENT_LENGTH" not in seen


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("path", ["/api/ask", "/talk/events"])
def test_both_sides_keep_to_pep_3333(path: str, tmp_path: Path, enclose: Enclose) -> None:
    app = validator(enclose(validator(own_app()), config(tmp_path)))
    for method in ("GET", "HEAD", "POST"):
        for read_all in (True, False):
            environ = create_environ(path, method=method, data="What?", headers=AUTH, query_string="a=1")
            environ["wsgi.input"] = Input(environ["wsgi.input"])

            pieces = app(environ, lambda status, headers, exc_info=None: lambda data: None)
            received = list(pieces) if read_all else [next(iter(pieces), b"")]
            pieces.close()  # type: ignore[attr-defined]

            assert all(type(piece) is bytes for piece in received)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        ({"usage": "meta.usage", "text": "answer"}, "expected paths too"),
        ({"paths": ["/ask"]}, "expected usage or text"),
        ({"paths": ["ask"], "text": "a"}, "expected a path from the root"),
        ({"paths": ["/ask"], "text": "a..b"}, "expected names of fields"),
        ({"paths": ["/ask"], "text": "a", "methods": ["PUT"]}, "expected a list of GET and POST"),
        ({"paths": ["/ask"], "text": "a", "default_model": "other"}, "no entry of models is for other"),
        ({"paths": ["/ask"], "text": "a"}, "no entry of models is for app"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(
    wrap: dict[str, Any], message: str, tmp_path: Path, enclose: Enclose
) -> None:
    with pytest.raises(ConfigError, match=message):
        enclose(own_app(), config(tmp_path, wrap))
