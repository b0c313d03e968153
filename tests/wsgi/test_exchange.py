"""wsgi/exchange: what middlewares share of one request."""

from __future__ import annotations

import json
import uuid
from io import BytesIO

import pytest
from werkzeug.test import create_environ

from sseproxy.core.chat import BadRequest
from sseproxy.wsgi.exchange import Exchange, stand_alone

PATH = "/v1/chat/completions"
CHAT = {"model": "m", "messages": []}


def test_every_middleware_sees_the_same_exchange() -> None:
    environ = create_environ(PATH, method="POST", json=CHAT)

    assert Exchange.of(environ) is Exchange.of(environ)


@pytest.mark.parametrize(("given", "kept"), [("abc-123", True), ("a b", False), ("x" * 200, False), ("", False)])
def test_a_sane_request_id_of_the_client_s_is_kept(given: str, kept: bool) -> None:
    request_id = Exchange.of(create_environ(headers={"X-Request-Id": given})).request_id

    assert (request_id == given) is kept
    assert request_id


def test_a_request_id_made_here_is_a_uuid_which_is_all_that_llama_cpp_python_takes() -> None:
    request_id = Exchange.of(create_environ()).request_id

    assert str(uuid.UUID(request_id)) == request_id


def test_a_changed_request_is_what_the_application_reads() -> None:
    environ = create_environ(PATH, method="POST", json=CHAT)
    exchange = Exchange.of(environ)
    request = exchange.read_request(environ)
    assert request is not None

    exchange.put_request(environ, request.with_model("n"))

    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    assert body == b'{"model":"n","messages":[]}'
    assert exchange.read_request(environ) is exchange.request


def test_an_application_reads_by_no_other_charset_or_coding_than_what_was_checked() -> None:
    """Flask and others decode a body as its Content-Type says."""
    headers = {"Content-Type": "application/json; charset=utf-7", "Content-Encoding": "gzip", "Range": "bytes=0-9"}
    environ = create_environ(PATH, method="POST", data=json.dumps(CHAT), headers=headers)

    Exchange.of(environ).read_request(environ)

    assert environ["CONTENT_TYPE"] == "application/json"
    assert not {"HTTP_CONTENT_ENCODING", "HTTP_RANGE"} & environ.keys()


def test_a_get_is_no_llm_call() -> None:
    environ = create_environ(PATH)

    assert Exchange.of(environ).read_request(environ) is None


def test_a_body_shorter_than_stated_is_a_bad_request() -> None:
    environ = create_environ(PATH, method="POST", json=CHAT)
    environ["CONTENT_LENGTH"] = "1000"

    with pytest.raises(BadRequest):
        Exchange.of(environ).read_request(environ)


def test_a_body_over_the_limit_is_413() -> None:
    environ = create_environ(PATH, method="POST", json=CHAT)

    with pytest.raises(BadRequest) as caught:
        Exchange.of(environ).read_request(environ, max_body=5)
    assert caught.value.status == 413


def test_a_body_of_unstated_length_may_be_as_long_as_the_limit() -> None:
    body = json.dumps({**CHAT, "user": "x" * 200_000}).encode()

    def read(max_body: int) -> object:
        environ = create_environ(PATH, method="POST", input_stream=BytesIO(body))
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
        request = Exchange.of(environ).read_request(environ, max_body=max_body)
        assert request is not None
        return json.loads(request.encode())

    assert read(len(body)) == json.loads(body)
    with pytest.raises(BadRequest) as caught:
        read(len(body) - 1)
    assert caught.value.status == 413


def test_a_stack_inside_of_another_begins_an_exchange_of_its_own() -> None:
    environ = create_environ(PATH, method="POST", json=CHAT)

    assert stand_alone(environ) is environ
    outer = Exchange.of(environ)
    assert Exchange.of(stand_alone(environ)) is not outer
    assert Exchange.of(environ) is outer
