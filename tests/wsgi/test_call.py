"""wsgi/call: any WSGI application, called once and rightly."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import create_environ

from sseproxy.wsgi.call import Answer, call_app


def test_a_plain_body_is_handed_on_as_the_same_object() -> None:
    body = [b"x"]

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-A", "1")])
        return body

    answer = call_app(app, create_environ())

    assert answer.body is body
    assert (answer.status, answer.code, answer.headers) == ("200 OK", 200, [("X-A", "1")])


def test_an_answer_is_handed_on_as_the_same_object_with_the_body_that_a_middleware_put_around() -> None:
    made = Answer("200 OK", [("X-A", "1")], [b"x"])

    def middle(environ: Any, start_response: Any) -> list[bytes]:
        return [*made(environ, start_response), b"y"]

    answer = call_app(middle, create_environ())

    assert answer is made
    assert list(answer.body) == [b"x", b"y"]


def test_an_answer_after_another_head_is_an_error_and_one_before_an_error_page_is_replaced() -> None:
    def twice(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Answer("200 OK", [], [b"x"])(environ, start_response)

    def sorry(environ: Any, start_response: Any) -> list[bytes]:
        Answer("200 OK", [], [b"x"])(environ, start_response)
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    with pytest.raises(AssertionError, match="called twice"):
        call_app(twice, create_environ())
    answer = call_app(sorry, create_environ())
    assert (answer.code, answer.body) == (500, [b"sorry"])


def test_a_generator_that_starts_late_keeps_all_of_its_pieces() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", [])
        yield b"a"
        yield b"b"

    answer = call_app(app, create_environ())

    assert answer.code == 201
    assert b"".join(answer.body) == b"ab"


def test_what_was_given_to_write_comes_before_the_body() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    assert b"".join(call_app(app, create_environ()).body) == b"abc"


def test_an_error_page_replaces_headers_that_were_not_sent() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    assert call_app(app, create_environ()).status == "500 Oops"


class Closing:
    """A body that remembers whether it was closed."""

    def __init__(self, items: Iterable[bytes]) -> None:
        self._items = iter(items)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._items

    def close(self) -> None:
        self.closed = True


def test_an_application_that_raises_before_its_headers_is_closed() -> None:
    def items() -> Iterator[bytes]:
        raise ValueError("boom")
        yield b""

    body = Closing(items())

    with pytest.raises(ValueError, match="boom"):
        call_app(lambda environ, start_response: body, create_environ())
    assert body.closed


def test_a_generator_that_starts_its_response_and_yields_nothing_has_answered() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("204 No Content", [("X-A", "b")])
        yield from ()

    answer = call_app(app, create_environ())

    assert (answer.code, answer.header("X-A"), list(answer.body)) == (204, "b", [])


def test_an_application_that_never_starts_its_response_is_an_error() -> None:
    body = Closing([b"x"])

    with pytest.raises(RuntimeError, match="without calling start_response"):
        call_app(lambda environ, start_response: body, create_environ())
    assert body.closed


def test_closing_a_late_body_closes_the_application_s_own_iterable() -> None:
    bodies: list[Closing] = []

    def app(environ: Any, start_response: Any) -> Closing:
        def items() -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"a"

        bodies.append(Closing(items()))
        return bodies[0]

    call_app(app, create_environ()).close()

    assert bodies[0].closed


def test_calling_keeps_to_pep_3333_on_both_sides() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    def middle(environ: Any, start_response: Any) -> Iterable[bytes]:
        return call_app(validator(app), environ)(environ, start_response)

    environ = create_environ(environ_overrides={"QUERY_STRING": ""})
    body = validator(middle)(environ, lambda status, headers, exc_info=None: lambda data: None)

    assert list(body) == [b"x"]
    body.close()  # type: ignore[attr-defined]


def test_a_server_that_refuses_the_headers_still_gets_the_body_closed() -> None:
    body = Closing([b"x"])

    def app(environ: Any, start_response: Any) -> Closing:
        start_response("200 OK", [("X-Bad", "a\x0bb")])
        return body

    def refuse(status: str, headers: Any) -> None:
        raise ValueError("bad header")

    with pytest.raises(ValueError, match="bad header"):
        call_app(app, create_environ())(create_environ(), refuse)  # type: ignore[arg-type]
    assert body.closed


def test_an_error_after_the_headers_is_raised_again_as_pep_3333_says() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        try:
            raise ValueError("boom")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        yield b"b"

    body = iter(call_app(app, create_environ()).body)

    assert next(body) == b"a"
    with pytest.raises(ValueError, match="boom"):
        next(body)


def test_what_a_started_application_writes_late_comes_in_its_place() -> None:
    """PEP 3333 forbids it, servers let it pass."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        yield b"b"
        write(b"c")
        yield b"d"
        write(b"e")

    assert b"".join(call_app(app, create_environ()).body) == b"abcde"


def test_writing_beside_a_returned_body_is_an_error_and_not_a_loss() -> None:
    writes: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        writes.append(start_response("200 OK", []))
        return [b"a"]

    call_app(app, create_environ())

    with pytest.raises(AssertionError, match="PEP 3333"):
        writes[0](b"late")
