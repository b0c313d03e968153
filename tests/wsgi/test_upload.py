"""wsgi/upload: a request's body is as long as it was stated to be, or refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import create_environ

from sseproxy.core.chat import BadRequest
from sseproxy.wsgi.upload import STREAMED_FROM, Upload, open_body, read_body
from tests.harness import RawClient, Upstream, raw, serve

LONG = STREAMED_FROM + 1000


def read_opened(environ: Any, limit: int) -> bytes:
    body = open_body(environ, limit)
    return body.readall() if isinstance(body, Upload) else body


@pytest.mark.parametrize("read", [read_body, read_opened])
@pytest.mark.parametrize("length", [10, LONG])
def test_an_input_that_just_ends_is_a_body_only_if_it_has_the_stated_length(
    read: Callable[[Any, int], bytes], length: int
) -> None:
    """As gunicorn's does (``wsgi.input_terminated``)."""

    def ask(stated: int) -> bytes:
        environ = create_environ("/v1/files", method="POST", input_stream=BytesIO(b"x" * length))
        return read(environ | {"wsgi.input_terminated": True, "CONTENT_LENGTH": str(stated)}, 2 * LONG)

    assert ask(length) == b"x" * length
    for stated in (length + 1, length - 1):
        with pytest.raises(BadRequest) as caught:
            ask(stated)
        assert caught.value.status == 400


@pytest.mark.parametrize("read", [read_body, read_opened])
def test_an_input_that_is_said_not_to_end_is_read_no_further_than_the_stated_length(
    read: Callable[[Any, int], bytes],
) -> None:
    connection = BytesIO(b"abcGET /next")
    environ = create_environ("/v1/files", method="POST", input_stream=connection)

    assert read(environ | {"wsgi.input_terminated": False, "CONTENT_LENGTH": "3"}, LONG) == b"abc"
    assert connection.read() == b"GET /next"


@pytest.mark.parametrize("read", [read_body, read_opened])
@pytest.mark.parametrize("stated", [{}, {"CONTENT_LENGTH": ""}])
def test_a_chunked_body_whose_end_the_server_does_not_tell_is_refused_for_want_of_a_length(
    read: Callable[[Any, int], bytes], stated: dict[str, str]
) -> None:
    """uWSGI, wsgiref, eventlet, hypercorn and a2wsgi; mod_wsgi and lighttpd answer 411 by themselves."""
    environ = create_environ("/v1/files", method="PUT") | {"wsgi.input": BytesIO(b"abc")}

    with pytest.raises(BadRequest) as caught:
        read(environ | {"HTTP_TRANSFER_ENCODING": "chunked"} | stated, LONG)
    assert (caught.value.status, caught.value.code) == (411, "length_required")


@pytest.mark.parametrize("read", [read_body, read_opened])
def test_a_chunked_body_is_as_long_as_the_server_in_front_found_it(read: Callable[[Any, int], bytes]) -> None:
    """nginx hands uWSGI the body with its length, and the client's Transfer-Encoding beside it (``uwsgi_pass``)."""
    connection = BytesIO(b"abcGET /next")
    environ = create_environ("/v1/files", method="PUT", input_stream=connection)
    environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3"}

    assert read(environ, LONG) == b"abc"
    with pytest.raises(BadRequest) as caught:
        read(environ, 2)
    assert caught.value.status == 413


@pytest.mark.parametrize(("pieces", "stated"), [((3, 7), 10), ((3, 10), 10), ((10, 1), 12), ((11,), 10), ((0,), 0)])
def test_a_body_that_comes_in_pieces_is_one_only_if_they_have_the_stated_length_together(
    pieces: tuple[int, ...], stated: int
) -> None:
    rest = [b"x" * piece for piece in pieces]

    class Pieces:
        def read(self, size: int) -> bytes:
            return rest.pop(0)[:size] if rest else b""

    environ = create_environ("/v1/files", method="POST")
    environ |= {"wsgi.input": Pieces(), "wsgi.input_terminated": True, "CONTENT_LENGTH": str(stated)}
    if sum(pieces) == stated:
        assert read_body(environ, LONG) == b"x" * stated
    else:
        with pytest.raises(BadRequest):
            read_body(environ, LONG)


@pytest.mark.parametrize("size", [1000, LONG])
def test_an_upload_that_is_broken_off_is_no_request_of_the_upstream_s(
    size: int, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = raw(b"{}", framing="length")
    config = {
        "upstreams": {"main": {"url": upstream.url, "passthrough": ["files"]}},
        "auth": {"required": False},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
    }
    head = {"Content-Length": str(LONG + 1000), "Content-Type": "application/x"}
    with serve(config, "gthread") as server:
        with RawClient(server.url) as client:
            client.send("POST", "/v1/files", b"x" * size, headers=head)
            client._sock.shutdown(socket.SHUT_WR)
            assert client.read_head().status == 400
        with RawClient(server.url) as client:
            assert client.post("/v1/files", b"whole").status == 200

    assert b"whole" in [exchange.raw_body for exchange in upstream.exchanges]
