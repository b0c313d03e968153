"""middleware/format: streamed answers in the exchange's format, everything else untouched."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from sseproxy.core.formats import Envelope, Format, OpenAI, Plain, Text
from sseproxy.core.sse import Event
from sseproxy.middleware.format import FormatMiddleware
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream
from tests.harness import RawClient, waitress_thread

from .apps import CHAT, error_of, post

STREAM = {**CHAT, "stream": True}
EVENTS = "text/event-stream"
HI = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
ERROR = b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n'


class App:
    """An application that answers with these pieces, and keeps what it was asked."""

    def __init__(self, *pieces: bytes, status: str = "200 OK", type: str = EVENTS) -> None:
        self.pieces = pieces
        self.status = status
        self.type = type
        self.asked: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response(self.status, [("Content-Type", self.type), ("X-Kept", "1")])
        return list(self.pieces)


def formatted(app: Any, format: Format | None, keepalive: float = 15) -> Any:
    """The stack from the route inwards, with a route that has this format."""
    inner = FormatMiddleware(NormalizeMiddleware(app, keepalive=keepalive))

    def routed(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).format = format
        return inner(environ, start_response)

    return routed


def body_of(answer: Answer) -> bytes:
    body = b"".join(answer.body)
    answer.close()
    return body


def test_a_stream_comes_in_the_format_of_its_route() -> None:
    answer = post(formatted(App(HI, END), Text()), body=STREAM)

    assert isinstance(answer.body, EventStream)
    assert answer.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert (answer.header("X-Kept"), answer.header("X-Accel-Buffering")) == ("1", "no")
    assert body_of(answer) == b"data: hi\n\ndata: [DONE]\n\n"


def test_plain_text_says_that_it_is_text_and_has_no_keep_alives() -> None:
    answer = post(formatted(App(HI, END), Plain()), body=STREAM)

    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert isinstance(answer.body, EventStream) and answer.body.ping == b""
    assert body_of(answer) == b"hi"


def test_without_a_format_nothing_changes() -> None:
    answer = post(formatted(App(HI, END), None), body=STREAM)

    assert body_of(answer).count(b'"object":"chat.completion.chunk"') == 2


@pytest.mark.parametrize(
    ("accept", "named"),
    [
        (EVENTS, True),
        ("text/html, text/event-stream;q=0.5", True),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream;q=0", False),
    ],
)
def test_names_go_only_to_clients_that_said_they_read_events(accept: str, named: bool) -> None:
    body = body_of(post(formatted(App(HI, END), OpenAI(event="delta")), body=STREAM, Accept=accept))

    assert body.startswith(b"event: delta\ndata: {") is named
    assert (b"event:" in body) is named


@pytest.mark.parametrize("format", [Text(), Envelope(), Plain(), Plain(error="<ERR>")])
def test_a_refusal_keeps_its_status_and_openais_error(format: Format) -> None:
    app = App(b'{"error":{"message":"slow down"}}', status="429 TOO MANY", type="application/json")
    answer = post(formatted(app, format), body=STREAM)

    assert (answer.code, answer.header("Content-Type")) == (429, "application/json")
    assert error_of(answer)["message"] == "slow down"


def test_a_stream_with_the_status_of_a_refusal_is_one() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("429 TOO MANY", [("Content-Type", EVENTS)])
        return EventStream(iter([Event(b"{}")]))

    def routed(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).format = Plain()
        return FormatMiddleware(app)(environ, start_response)

    answer = post(routed, body=STREAM)
    assert (body_of(answer), answer.header("Content-Type")) == (b"data: {}\n\n", EVENTS)


def test_a_refusal_to_a_client_that_reads_events_is_one() -> None:
    app = App(b'{"error":{"message":"slow down"}}', status="429 TOO MANY", type="application/json")
    answer = post(formatted(app, Plain()), body=STREAM, Accept=EVENTS)

    assert (answer.code, answer.header("Content-Type")) == (429, "text/event-stream; charset=utf-8")
    assert body_of(answer).startswith(b'data: {"error":')


def test_a_stream_that_begins_with_an_error_is_a_refusal() -> None:
    answer = post(formatted(App(ERROR), Text()), body=STREAM)

    assert answer.code >= 400
    assert error_of(answer)["message"] == "out of memory"


@pytest.mark.parametrize("keepalive", [15, 0])
def test_plain_text_that_fails_before_its_first_word_is_a_refusal_after_any_silence(keepalive: float) -> None:
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
    answer = post(formatted(App(role, b"", b"", ERROR), Plain(), keepalive), body=STREAM)

    assert (answer.code, answer.header("Content-Type")) == (502, "application/json")
    assert error_of(answer)["message"] == "out of memory"


def test_an_answer_in_one_piece_stays_json() -> None:
    answer = post(formatted(App(HI, END), Text()), body=CHAT)

    assert answer.header("Content-Type") == "application/json"
    assert json.loads(body_of(answer))["choices"][0]["message"]["content"] == "hi"


def test_a_failure_in_the_middle_is_told_in_the_format() -> None:
    assert body_of(post(formatted(App(HI, ERROR), Text(error="<ERR>")), body=STREAM)) == b"data: hi\n\ndata: <ERR>\n\n"


def test_the_usage_is_asked_for_where_the_format_shows_the_cost() -> None:
    app = App(HI, END)

    post(formatted(app, Envelope()), body=STREAM).close()
    assert "stream_options" not in app.asked
    post(formatted(app, Envelope(done="{cost}")), body=STREAM).close()
    assert app.asked["stream_options"] == {"include_usage": True}


def test_a_request_that_cannot_be_read_is_refused_and_goes_nowhere() -> None:
    app = App(HI, END)
    answer = post(formatted(app, Envelope(done="{cost}")), body=b"{")

    assert (answer.code, app.asked) == (400, None)


def test_on_the_wire_plain_text_without_a_mark_is_cut_off_where_it_fails() -> None:
    with waitress_thread(formatted(App(HI, ERROR), Plain())) as server, RawClient(server.url) as client:
        client.post("/v1/chat/completions", STREAM)

        assert client.status == 200
        assert client.read_body() == b"hi"
        assert client.ending == "cut"


def test_on_the_wire_plain_text_with_a_mark_ends_cleanly_and_the_mark_is_a_chunk() -> None:
    with waitress_thread(formatted(App(HI, ERROR), Plain(error="<ERR>"))) as server, RawClient(server.url) as client:
        client.post("/v1/chat/completions", STREAM)

        assert client.read_body() == b"hi<ERR>"
        assert (client.ending, client.chunks[-1]) == ("clean", b"<ERR>")
