"""What a process that goes down still begins (nothing), ends (with an error event), and counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from sseproxy.core.chat import Request
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.middleware.cut import CutMiddleware
from sseproxy.middleware.drain import DrainMiddleware
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.client import watch_client
from sseproxy.wsgi.draining import CutShort, Draining
from sseproxy.wsgi.exchange import KEY, Exchange
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BODY = b'{"model": "m", "messages": [], "stream": true}'


@pytest.fixture
def draining() -> Draining:
    return Draining()


def environ_of(body: bytes = BODY) -> WSGIEnvironment:
    exchange = Exchange("req_1", "/v1/chat/completions", api="chat", request=Request.parse("chat", body))
    return {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/chat/completions", KEY: exchange}


def streaming(events: Iterable[Event]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return Answer("200 OK", [], EventStream(iter(events)))(environ, start_response)

    return app


def test_it_refuses_without_asking_the_application(draining: Draining) -> None:
    draining.begin(60)
    answer = call_app(DrainMiddleware(streaming([]), draining), environ_of())
    assert (answer.code, answer.header("Retry-After")) == (503, "1")
    assert json.loads(b"".join(answer.body))["error"]["code"] == "server_shutting_down"
    assert draining.running == 0


def test_a_stream_runs_until_it_is_closed_and_everything_of_its_end_is_done(draining: Draining) -> None:
    answer = call_app(DrainMiddleware(streaming([Event(data=b"1")]), draining), environ_of())
    assert isinstance(answer.body, EventStream)
    seen: list[int] = []
    answer.body.on_close(lambda: seen.append(draining.running))
    answer.close()
    assert (seen, draining.running) == ([1], 0)


def test_a_plain_body_runs_until_it_is_closed(draining: Draining) -> None:
    answer = call_app(DrainMiddleware(Answer("200 OK", [], [b"x"]), draining), environ_of())
    assert (b"".join(answer.body), draining.running) == (b"x", 1)
    answer.close()
    assert draining.running == 0


def test_an_application_that_raises_does_not_run(draining: Draining) -> None:
    def broken(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise KeyError("x")

    with pytest.raises(KeyError):
        call_app(DrainMiddleware(broken, draining), environ_of())
    assert draining.running == 0


def test_a_stream_is_cut_between_two_reads_never_within_what_is_at_hand(draining: Draining) -> None:
    def events() -> Iterator[Event]:
        yield Event(data=b"1")
        draining.begin(0)
        yield Event(data=b"2")
        yield FLUSH
        yield Event(data=b"never")

    *pieces, last = call_app(CutMiddleware(streaming(events()), draining), environ_of()).body
    assert b"".join(pieces) == b"data: 1\n\ndata: 2\n\n"
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "server_shutting_down"


def test_a_stream_whose_end_is_at_hand_ends_well(draining: Draining) -> None:
    draining.begin(0)
    body = call_app(CutMiddleware(streaming([Event(data=b"1"), Event(data=DONE), FLUSH]), draining), environ_of()).body
    assert next(iter(body)) == b"data: 1\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("over", [True, False])
def test_who_waits_for_an_answer_is_told_when_it_is_over(draining: Draining, over: bool) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        draining.begin(0 if over else 60)
        assert watch_client(environ)() is False
        return Answer("200 OK", [], [])(environ, start_response)

    if over:
        with pytest.raises(CutShort):
            call_app(CutMiddleware(app, draining), environ_of())
    else:
        assert call_app(CutMiddleware(app, draining), environ_of()).code == 200


def test_a_client_that_left_is_still_gone_while_a_stream_runs(draining: Draining) -> None:
    environ = environ_of() | {"waitress.client_disconnected": lambda: True}
    call_app(CutMiddleware(streaming([]), draining), environ)
    draining.begin(0)
    assert watch_client(environ)() is True
