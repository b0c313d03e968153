"""The frameworks people wrap, each served over real sockets: LLM answers metered, every other byte untouched."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.http import http_date
from werkzeug.test import Client, EnvironBuilder, create_environ

from tests.harness import PATIENCE, RawClient, waitress_thread
from tests.integration.books import KEY, Books
from tests.integration.conftest import Enclose
from tests.integration.processes import WAITRESS

from .frameworks import APPS, FEED, FILE, PAGE, Traces
from .model import PATH, RULES, USAGE, asking, texts, wrapping
from .served import gunicorn

FORM = EnvironBuilder(method="POST", data={"name": "ann", "file": (BytesIO(b"\0\xff" * 9), "a.bin")}).get_environ()
FORM_TYPE, FORM_BODY = FORM["CONTENT_TYPE"], FORM["wsgi.input"].read()
LEFT_OPEN = ("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
"""Some frameworks leave files that were uploaded, or not read to their end, to the garbage collector."""
CHUNKED = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}


@pytest.fixture(params=list(APPS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def app(name: str, traces: Traces) -> Any:
    return APPS[name](traces)


@pytest.fixture
def ends(app: Any, traces: Traces) -> tuple[str, ...]:
    """What the application does at the end of a streamed answer when nothing is around it."""
    Client(app).post(PATH, json=asking("go")).close()
    return traces.take()


@pytest.fixture
def url(app: Any, tmp_path: Path, enclose: Enclose) -> Iterator[str]:
    """The wrapped application on waitress."""
    with waitress_thread(enclose(app, wrapping(tmp_path))) as server:
        yield server.url


def test_a_stream_is_prefixed_metered_and_normalised(
    traces: Traces, ends: tuple[str, ...], url: str, books: Books
) -> None:
    with RawClient(url) as client:
        body = client.post(PATH, asking("go"), key=KEY).read_body()

    assert client.headers["x-user"] == "alice"
    assert texts(body) == [" House", " rules", " apply"]
    assert body.endswith(b"data: [DONE]\n\n")
    charge = books.one_ended()
    assert (charge["user"], charge["outcome"], charge["upstream"]) == ("alice", "completed", "app")
    assert (charge["output_tokens"], charge["prefix_tokens"], charge["usage_source"]) == (3, 3, "counted")
    traces.wait_for(*ends)


def test_a_whole_answer_is_metered_by_what_it_reports(url: str, books: Books) -> None:
    with RawClient(url) as client:
        answer = json.loads(client.post(PATH, asking("go", stream=False), key=KEY).read_body())

    assert client.headers["x-user"] == "alice"
    assert answer["choices"][0]["message"]["content"] == RULES
    assert answer["usage"] == {**USAGE, "cost": pytest.approx(11 / 1e6)}
    charge = books.one_ended()
    assert (charge["input_tokens"], charge["output_tokens"], charge["usage_source"]) == (3, 4, "reported")


def test_a_stream_that_can_be_joined_again_is_made_apart_from_its_connection(
    traces: Traces, ends: tuple[str, ...], url: str, books: Books
) -> None:
    """There the application runs in a thread that is no server's."""
    for _ in range(2):
        with RawClient(url) as client:
            body = client.post(PATH, asking("go"), key=KEY, headers={"Idempotency-Key": "k"}).read_body()
        assert texts(body) == [" House", " rules", " apply"]

    assert books.one_ended()["outcome"] == "completed"
    traces.wait_for(*ends)


def test_without_a_key_nothing_reaches_the_view(url: str, books: Books) -> None:
    with RawClient(url) as client:
        assert client.post(PATH, asking("go")).status == 401

    assert books.charges() == []


def test_a_client_that_leaves_ends_the_generator_once(
    traces: Traces, ends: tuple[str, ...], url: str, books: Books
) -> None:
    with RawClient(url) as client:
        client.post(PATH, asking("endless"), key=KEY)
        for _ in range(5):
            client.read_event()

    assert books.one_ended()["outcome"] == "client_gone"
    traces.wait_for(*ends)


def test_a_view_that_breaks_in_the_middle_is_an_error_event(
    traces: Traces, ends: tuple[str, ...], url: str, books: Books
) -> None:
    with RawClient(url) as client:
        events = list(client.post(PATH, asking("break"), key=KEY).events())

    assert events[0].json["choices"][0]["delta"]["content"] == " House"
    assert events[-1].json["error"]["code"] == "app_failed"
    charge = books.one_ended()
    assert (charge["state"], charge["outcome"]) == ("settled", "upstream_failed")
    traces.wait_for(*ends)


def test_a_view_that_fails_at_once_is_released(url: str, books: Books) -> None:
    with RawClient(url) as client:
        answer = json.loads(client.post(PATH, asking("fail"), key=KEY).read_body())

    assert client.status == 500
    assert answer["error"]["message"]
    assert books.one_ended()["state"] == "released"


OTHERS: list[tuple[str, str, dict[str, str], bytes | None]] = [
    ("GET", "/page", {}, None),
    ("HEAD", "/page", {}, None),
    ("GET", "/feed", {"Accept": "text/event-stream"}, None),
    ("GET", "/file", {}, None),
    ("HEAD", "/file", {}, None),
    ("GET", "/file", {"Range": "bytes=5-24"}, None),
    ("GET", "/file", {"If-Modified-Since": http_date(FILE.stat().st_mtime)}, None),
    ("GET", "/user", {"Authorization": f"Bearer {KEY}"}, None),
    ("GET", "/nowhere", {}, None),
    ("POST", "/upload", {"Content-Type": FORM_TYPE}, FORM_BODY),
    ("POST", "/echo", {"Content-Type": "application/octet-stream"}, bytes(range(256)) * 400),
    ("PUT", "/echo", CHUNKED, b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
]


def exchange(url: str, method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, Any, bytes]:
    """Status, headers but for the moment, and body."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    if body is not None and "Transfer-Encoding" not in headers:
        headers = {**headers, "Content-Length": str(len(body))}
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", "example.com")  # some pages tell where they are
    for item in headers.items():
        connection.putheader(*item)
    connection.endheaders(body)
    with closing(connection), connection.getresponse() as response:
        kept = [item for item in response.getheaders() if item[0] != "Date"]
        return response.status, kept, response.read()


@pytest.mark.filterwarnings(*LEFT_OPEN)
def test_every_other_answer_is_the_same_on_the_wire(name: str, app: Any, url: str) -> None:
    with waitress_thread(app) as bare:
        for other in OTHERS:
            expected = exchange(bare.url, *other)

            assert exchange(url, *other) == expected, other

    seen = {
        (method, path, *headers): exchange(url, method, path, headers, body) for method, path, headers, body in OTHERS
    }
    assert seen["GET", "/page"][2] == PAGE
    assert seen["GET", "/feed", "Accept"][2] == b"".join(FEED)
    assert seen["GET", "/file"][2] == FILE.read_bytes()
    assert seen["GET", "/user", "Authorization"][2] == b"None"
    assert seen["POST", "/upload", "Content-Type"][2] == b"ann a.bin " + b"\0\xff" * 9
    assert seen[("PUT", "/echo", *CHUNKED)][2] == b"abcdefg"
    if name != "django":  # whose FileResponse knows no ranges
        assert (seen["GET", "/file", "Range"][0], len(seen["GET", "/file", "Range"][2])) == (206, 20)
    assert seen["GET", "/file", "If-Modified-Since"][0] == 304


class Witness:
    """Keeps what an application was called with and what it returned."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.called_with = (environ, start_response)
        self.environ_was = dict(environ)
        self.body = self._app(environ, start_response)
        return self.body


@pytest.mark.filterwarnings(*LEFT_OPEN)
def test_every_other_call_is_handed_on_as_it_is(app: Any, tmp_path: Path, enclose: Enclose) -> None:
    witness = Witness(app)
    wrapped = enclose(witness, wrapping(tmp_path))

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        return lambda data: None

    for method, path, headers, body in OTHERS:
        environ = create_environ(path, method=method, headers=headers, data=body)
        before = dict(environ)

        answer = wrapped(environ, start_response)

        assert answer is witness.body
        assert witness.called_with[0] is environ
        assert witness.called_with[1] is start_response
        assert witness.environ_was == before
        if hasattr(answer, "close"):
            answer.close()


@pytest.mark.parametrize(
    ("name", "worker"), [("flask", "gevent"), ("django", "gthread"), ("flask", WAITRESS)], indirect=["name"]
)
def test_the_same_behind_gunicorn(name: str, worker: str, tmp_path: Path, books: Books) -> None:
    with gunicorn(name, worker, tmp_path) as url:
        with RawClient(url) as client:
            assert texts(client.post(PATH, asking("go"), key=KEY).read_body()) == [" House", " rules", " apply"]
        with RawClient(url) as client:
            client.post(PATH, asking("endless"), key=KEY)
            client.read_event()
        charges = books.wait_for(lambda rows: len(rows) == 2 and all(row["state"] == "settled" for row in rows))
        files = [exchange(url, *other) for other in OTHERS if other[1] in ("/file", "/echo")]

    assert sorted(charge["outcome"] for charge in charges) == ["client_gone", "completed"]
    assert files[0][2] == FILE.read_bytes()
    assert files[-1][2] == (b"" if name == "django" else b"abcdefg")  # Django reads no body without a length
