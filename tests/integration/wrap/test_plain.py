"""Applications that use PEP 3333 in its odd corners: ``write()``, a late start, files, odd headers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from tests.harness import RawClient, waitress_thread
from tests.integration.books import KEY, Books
from tests.integration.conftest import Enclose

from .model import PATH, STOP, asking, chunks, complete, texts, wrapping

EVENTS = [("Content-Type", "text/event-stream")]
WORDS = [" House", " rules", " apply"]


def read(environ: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    return body


def writes_all(environ: Any, start_response: Any) -> Iterable[bytes]:
    write = start_response("200 OK", EVENTS)
    for chunk in chunks(read(environ)):
        write(chunk)
    return []


def writes_the_beginning(environ: Any, start_response: Any) -> Iterable[bytes]:
    write = start_response("200 OK", EVENTS)
    first, *rest = chunks(read(environ))
    write(first)
    return rest


def writes_in_its_first_step(environ: Any, start_response: Any) -> Iterator[bytes]:
    write = start_response("200 OK", EVENTS)
    first, second, *rest = chunks(read(environ))
    write(first)
    write(second)
    yield from rest


def starts_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield b""
    yield b""
    start_response("200 OK", EVENTS)
    yield from chunks(read(environ))


def hands_over_a_file(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", EVENTS)
    wrap: Callable[[Any], Iterable[bytes]] = environ["wsgi.file_wrapper"]
    return wrap(io.BytesIO(b"".join(chunks(read(environ)))))


def names_hop_by_hop_headers(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [*EVENTS, ("Connection", "keep-alive"), ("Transfer-Encoding", "chunked"), ("X-Own", "1")])
    return chunks(read(environ))


def states_a_length(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = b"".join(chunks(read(environ)))
    start_response("200 OK", [*EVENTS, ("Content-Length", str(len(body))), ("ETag", '"1"')])
    return [body]


def changes_its_mind(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("500 Oops", [])
    try:
        raise ValueError("a page of errors after all")
    except ValueError as error:
        start_response("200 OK", EVENTS, (type(error), error, error.__traceback__))
    return chunks(read(environ))


APPS = [
    writes_all,
    writes_the_beginning,
    writes_in_its_first_step,
    starts_late,
    hands_over_a_file,
    names_hop_by_hop_headers,
    states_a_length,
    changes_its_mind,
]


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.__name__)
def test_a_stream_of_any_manner_is_the_same_to_its_client(
    app: Any, tmp_path: Path, books: Books, enclose: Enclose
) -> None:
    with waitress_thread(enclose(app, wrapping(tmp_path))) as server, RawClient(server.url) as client:
        body = client.post(PATH, asking("go"), key=KEY).read_body()

    assert client.status == 200
    assert texts(body) == WORDS
    assert body.endswith(b"data: [DONE]\n\n")
    assert "etag" not in client.headers
    charge = books.one_ended()
    assert (charge["outcome"], charge["output_tokens"]) == ("completed", 3)


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.__name__)
def test_a_stream_of_any_manner_is_gathered_for_who_wants_a_document(
    app: Any, tmp_path: Path, enclose: Enclose
) -> None:
    with waitress_thread(enclose(app, wrapping(tmp_path))) as server, RawClient(server.url) as client:
        answer = json.loads(client.post(PATH, asking("go", stream=False), key=KEY).read_body())

    assert answer["choices"][0]["message"]["content"] == "".join(WORDS)


def test_what_is_written_late_is_not_lost(tmp_path: Path, enclose: Enclose) -> None:
    """PEP 3333 forbids it, servers let it pass."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", EVENTS)
        first, second, *rest = chunks(read(environ))
        yield first
        write(second)
        yield from rest

    with waitress_thread(enclose(app, wrapping(tmp_path))) as server, RawClient(server.url) as client:
        assert texts(client.post(PATH, asking("go"), key=KEY).read_body()) == WORDS


def test_a_document_for_who_wants_a_stream_is_a_stream(tmp_path: Path, enclose: Enclose) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(complete(read(environ))).encode()]

    with waitress_thread(enclose(app, wrapping(tmp_path))) as server, RawClient(server.url) as client:
        assert texts(client.post(PATH, asking("go"), key=KEY).read_body()) == ["House rules apply"]


def test_cookies_and_headers_of_the_view_stay(tmp_path: Path, enclose: Enclose) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [*EVENTS, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Own", "kept")])
        return [STOP]

    answer = Client(enclose(app, wrapping(tmp_path))).post(
        PATH, json=asking("go"), headers={"Authorization": f"Bearer {KEY}"}
    )

    assert answer.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers["X-Own"] == "kept"


def test_a_body_in_chunks_reaches_the_view_rewritten(tmp_path: Path, enclose: Enclose) -> None:
    seen: dict[str, Any] = {}

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.update(environ, body=read(environ))
        start_response("200 OK", EVENTS)
        return [STOP]

    body = json.dumps(asking("go")).encode()
    with waitress_thread(enclose(app, wrapping(tmp_path))) as server, RawClient(server.url) as client:
        headers = f"Host: a\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n"
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        client.send_bytes(f"POST {PATH} HTTP/1.1\r\n{headers}\r\n".encode() + chunked)
        assert client.read_head().status == 200

    assert seen["body"]["messages"][0]["content"] == "House rules apply"
    assert seen["REMOTE_USER"] == "alice"
    assert "HTTP_TRANSFER_ENCODING" not in seen
