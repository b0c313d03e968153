"""Where a wrapped application stands: under prefixes, among other middlewares, more than once in a process."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.middleware.profiler import ProfilerMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, create_environ

from tests.harness import RawClient, waitress_thread
from tests.integration.books import KEY, Books
from tests.integration.conftest import Enclose

from .frameworks import PAGE, Traces, flask_app, werkzeug_app
from .model import PATH, asking, texts, wrapping

WORDS = [" House", " rules", " apply"]
AUTH = {"Authorization": f"Bearer {KEY}"}


def ask(app: Any, path: str = PATH, **options: Any) -> Any:
    return Client(app).post(path, json=asking("go"), **{"headers": AUTH, **options})


def test_the_wrapped_app_under_a_prefix(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    site = flask_app(Traces())
    app = DispatcherMiddleware(site, {"/ai/deep": enclose(flask_app(Traces()), wrapping(tmp_path))})

    assert texts(ask(app, f"/ai/deep{PATH}").get_data()) == WORDS
    assert Client(app).get("/page").get_data() == PAGE
    assert Client(app).get("/ai/deep/page").get_data() == PAGE
    assert Client(app).get("/ai/deep/-/health").status_code == 200
    assert books.one_ended()["route"] == PATH


def test_an_app_mounted_inside_the_wrapped_one(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    seen: list[tuple[str, str]] = []
    model = werkzeug_app(Traces())

    def api(environ: Any, start_response: Any) -> Any:
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        environ["PATH_INFO"] = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        return model(environ, start_response)

    app = enclose(DispatcherMiddleware(flask_app(Traces()), {"/v1": api}), wrapping(tmp_path))

    assert texts(ask(app).get_data()) == WORDS
    assert Client(app).get("/page").get_data() == PAGE
    assert seen == [("/v1", "/chat/completions")]
    assert books.one_ended()["output_tokens"] == 3


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_with_proxy_fix(inside: bool, tmp_path: Path, books: Books, enclose: Enclose) -> None:
    seen: list[tuple[str, str, str]] = []
    model = werkzeug_app(Traces())

    def app(environ: Any, start_response: Any) -> Any:
        seen.append((environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["SCRIPT_NAME"]))
        return model(environ, start_response)

    def fixed(app: Any) -> Any:
        return ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    config = wrapping(tmp_path)
    wrapped = enclose(fixed(app), config) if inside else fixed(enclose(app, config))
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/site"}

    assert texts(ask(wrapped, headers={**AUTH, **headers}).get_data()) == WORDS
    assert seen == [("192.0.2.1", "https", "/site")]
    assert books.one_ended()["user"] == "alice"


class Gzip:
    """Compresses whatever comes by, and closes it as PEP 3333 asks."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            kept = [item for item in headers if item[0].lower() != "content-length"]
            return start_response(status, [*kept, ("Content-Encoding", "gzip")], exc_info)

        body = self._app(environ, start)
        packed = io.BytesIO()
        try:
            with gzip.GzipFile(fileobj=packed, mode="wb") as zipped:
                for piece in body:
                    zipped.write(piece)
                    zipped.flush()
                    yield packed.getvalue()
                    packed.seek(0)
                    packed.truncate()
            yield packed.getvalue()
        finally:
            if hasattr(body, "close"):
                body.close()


class Rewriter:
    """Goes over the body anew and forgets to close it, as many do."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Late", "1")], exc_info)

        for piece in self._app(environ, start):  # noqa: UP028  (`yield from` would close it)
            yield piece


def profiled(app: Any) -> Any:
    return ProfilerMiddleware(app, stream=None)


@pytest.mark.parametrize("around", [Gzip, Rewriter, profiled], ids=["gzip", "rewriter", "profiler"])
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_with_a_middleware_that_touches_every_body(
    around: Callable[[Any], Any], inside: bool, tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    model, config = werkzeug_app(Traces()), wrapping(tmp_path)
    app = enclose(around(model), config) if inside else around(enclose(model, config))

    with waitress_thread(app) as server, RawClient(server.url) as client:
        body = client.post(PATH, asking("go"), key=KEY).read_body()

    if client.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    assert texts(body) == WORDS
    assert body.endswith(b"data: [DONE]\n\n")
    assert ("x-late" in client.headers) == (around is Rewriter)
    assert books.one_ended()["output_tokens"] == 3


def test_a_middleware_that_never_closes_does_not_keep_a_charge_open(
    tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    traces = Traces()
    app = Rewriter(enclose(werkzeug_app(traces), wrapping(tmp_path)))
    with waitress_thread(app) as server, RawClient(server.url) as client:
        client.post(PATH, asking("endless"), key=KEY).read_event()
        client.close()
        traces.wait_for("stream")

        assert books.one_ended()["outcome"] == "client_gone"


def test_twice_in_one_process_with_configurations_of_their_own(tmp_path: Path, enclose: Enclose) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    ones, twos = Books(tmp_path / "one"), Books(tmp_path / "two")
    two = wrapping(tmp_path / "two", users={"bob": {"keys": ["sk-bob"]}}, prompt={"prefix": "Other rules"})
    app = DispatcherMiddleware(
        enclose(flask_app(Traces()), wrapping(tmp_path / "one")),
        {"/two": enclose(flask_app(Traces()), two)},
    )
    bob = {"Authorization": "Bearer sk-bob"}

    assert texts(ask(app).get_data()) == WORDS
    assert texts(ask(app, f"/two{PATH}", headers=bob).get_data()) == [" Other", " rules"]
    assert ask(app, headers=bob).status_code == 401
    assert ask(app, f"/two{PATH}").status_code == 401
    assert [(row["user"], row["output_tokens"]) for row in ones.charges()] == [("alice", 3)]
    assert [(row["user"], row["output_tokens"]) for row in twos.charges()] == [("bob", 2)]


@pytest.mark.parametrize("stream", [True, False])
def test_one_inside_another_keeps_books_of_its_own(stream: bool, tmp_path: Path, enclose: Enclose) -> None:
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
    carol = {"users": {"carol": {"keys": [KEY], "limits": {"requests": "5/minute", "streams": 1}}}}
    sections = {"prompt": {"prefix": "Inner"}, "models": {"m": {"model": "small"}}, **carol}
    inner = enclose(flask_app(Traces()), wrapping(tmp_path / "inner", **sections))
    limited = {"users": {"alice": {"keys": [KEY], "limits": {"tokens": "9999/minute", "streams": 1}}}}
    outer = enclose(inner, wrapping(tmp_path / "outer", **limited))

    for _ in range(2):
        answer = Client(outer).post(PATH, json=asking("go", stream=stream), headers=AUTH)
        assert answer.status_code == 200
        answer.get_data()
        answer.close()

    for name, user, model, prefix_tokens in (("outer", "alice", "m", 3), ("inner", "carol", "small", 1)):
        rows = Books(tmp_path / name).charges()
        assert [(row["user"], row["state"], row["outcome"]) for row in rows] == [(user, "settled", "completed")] * 2
        assert [row["prefix_tokens"] for row in rows] == [prefix_tokens] * 2
        assert [row["upstream_model"] for row in rows] == [model] * 2


class Input:
    """A request body that offers what PEP 3333 promises and no more."""

    def __init__(self, stream: Any) -> None:
        self.read, self.readline, self.readlines = stream.read, stream.readline, stream.readlines
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)


CALLS: list[tuple[str, str, Any]] = [
    ("POST", PATH, asking("go")),
    ("POST", PATH, asking("go", stream=False)),
    ("POST", PATH, {**asking("go"), "model": "unknown"}),
    ("POST", PATH, {}),
    ("POST", f"{PATH}/", asking("go")),
    ("GET", PATH, None),
    ("HEAD", PATH, None),
    ("OPTIONS", PATH, None),
    ("GET", "/page", None),
    ("HEAD", "/page", None),
    ("GET", "/file", None),
    ("GET", "/feed", None),
    ("GET", "/-/usage", None),
    ("HEAD", "/-/health", None),
    ("GET", "/nowhere", None),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("checked", [validator, LintMiddleware], ids=["validator", "lint"])
def test_both_sides_keep_to_pep_3333(checked: Any, tmp_path: Path, enclose: Enclose) -> None:
    app = checked(enclose(checked(werkzeug_app(Traces())), wrapping(tmp_path)))
    for method, path, body in CALLS:
        if checked is LintMiddleware and method in ("HEAD", "OPTIONS"):  # it compares the stated length with no body
            continue
        for read_all in (True,) if checked is LintMiddleware else (True, False):
            environ = create_environ(path, method=method, json=body, headers=AUTH, query_string="a=1")
            errors = io.StringIO()
            environ["wsgi.input"], environ["wsgi.errors"] = Input(environ["wsgi.input"]), errors

            pieces = app(environ, lambda status, headers, exc_info=None: lambda data: None)
            received = list(pieces) if read_all else [next(iter(pieces), b"")]
            pieces.close()

            assert all(type(piece) is bytes for piece in received)
            assert errors.getvalue() == ""


def test_a_validated_app_that_breaks_is_closed_rightly(tmp_path: Path, books: Books, enclose: Enclose) -> None:
    traces = Traces()
    app = validator(enclose(validator(werkzeug_app(traces)), wrapping(tmp_path)))
    for content in ("break", "fail", "endless"):
        environ = create_environ(PATH, method="POST", json=asking(content), headers=AUTH, query_string="a=1")
        environ["wsgi.input"] = Input(environ["wsgi.input"])

        pieces = app(environ, lambda status, headers, exc_info=None: lambda data: None)
        for _ in range(3):
            next(iter(pieces), None)
        pieces.close()  # type: ignore[attr-defined]

    traces.wait_for("stream", "stream")
    assert sorted(row["outcome"] for row in books.charges()) == ["client_gone", "upstream_failed", "upstream_failed"]
