"""The line of an exchange: complete, one line whatever is in it, and nothing that is nobody's business."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client, EnvironBuilder

from sseproxy import create_app
from sseproxy.middleware.log import LogMiddleware, as_text
from sseproxy.server.log import set_up_logging
from sseproxy.wsgi.call import call_app
from sseproxy.wsgi.exchange import Exchange
from tests.harness import Upstream, refuse, stream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |\Z)')
ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "SECRET PROMPT"}]}


def read(line: str) -> dict[str, str]:
    """What a logfmt reader makes of a line."""
    fields, position = {}, 0
    while position < len(line):
        match = FIELD.match(line, position)
        assert match, line[position:]
        fields[match[1]] = json.loads(match[2]) if match[2].startswith('"') else match[2]
        position = match.end()
    return fields


@pytest.fixture
def out(root_logger: logging.Logger) -> io.StringIO:
    """What :func:`log_to` has written there."""
    return io.StringIO()


def log_to(out: io.StringIO, format: str, level: str = "info") -> None:
    set_up_logging(format, level)
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)


def access(out: io.StringIO) -> list[str]:
    return [line.partition("sseproxy.access: ")[2] for line in out.getvalue().splitlines() if "sseproxy.access" in line]


def config(upstream: Upstream, directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, "api_key": "sk-upstream", "retries": 1}},
        "models": {"m": {"upstream": "main", "price": {"input": "1", "output": "2"}}},
        "users": {"al ice": {"keys": ["sk-secret"]}},
        "accounting": {"ledger": f"sqlite:///{directory}/usage.db", "journal": f"{directory}/journal"},
        **more,
    }


def ask(settings: dict[str, Any], path: str = "/v1/chat/completions", **headers: str) -> int:
    app = create_app(settings)
    try:
        headers = {"Authorization": "Bearer sk-secret", **headers}
        environ = {"REMOTE_ADDR": "192.0.2.7"}
        return Client(app).post(path, json=ASK, headers=headers, environ_overrides=environ, buffered=True).status_code
    finally:
        app.close()


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text() | st.integers(), max_size=5))
def test_whatever_is_in_a_value_the_line_is_one_and_reads_back(line: dict[str, Any]) -> None:
    text = as_text(line)

    assert text.isascii() and text.isprintable()
    assert read(text) == {key: str(value) for key, value in line.items()}


def test_plain_values_stand_without_quotes() -> None:
    assert (
        as_text({"status": 200, "path": "/v1/chat/<id>", "user": "a b"}) == 'status=200 path=/v1/chat/<id> user="a b"'
    )


def test_a_value_that_is_not_plain_puts_quotes_around_no_other() -> None:
    assert as_text({"a": "x", "b": "", "c": "y"}) == 'a=x b="" c=y'


def test_the_text_line_of_an_answer_tells_all_that_is_charged(
    upstream: Upstream, tmp_path: Path, out: io.StringIO
) -> None:
    upstream.script = stream(tokens=5)
    log_to(out, "text")
    ask(config(upstream, tmp_path), **{"X-Request-Id": "abc"})

    (line,) = map(read, access(out))
    told = {key: line.pop(key) for key in ("duration_ms", "first_token_ms", "cost_usd", "input_tokens")}
    assert line == {
        "id": "abc",
        "client": "192.0.2.7",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": "200",
        "user": "al ice",
        "model": "m",
        "outcome": "completed",
        "output_tokens": "5",
        "upstream": "main",
        "tries": "1",
    }
    assert all(float(value) >= 0 for value in told.values())


def test_the_json_line_parses_and_has_time_and_level(upstream: Upstream, tmp_path: Path, out: io.StringIO) -> None:
    log_to(out, "json")
    ask(config(upstream, tmp_path, log={"format": "json"}))

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    (line,) = (line for line in lines if "status" in line)
    assert (line["level"], line["status"], line["user"], line["tries"]) == ("info", 200, "al ice", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])


def test_a_request_that_failed_tells_how_often_it_was_tried_and_why(
    upstream: Upstream, tmp_path: Path, out: io.StringIO
) -> None:
    upstream.script = refuse(503)
    log_to(out, "text")
    ask(config(upstream, tmp_path))

    (line,) = map(read, access(out))
    assert (line["status"], line["outcome"], line["tries"], line["error"]) == (
        "503", "upstream_failed", "2", "status_503",
    )  # fmt: skip


def test_an_answer_that_broke_off_tells_why(upstream: Upstream, tmp_path: Path, out: io.StringIO) -> None:
    upstream.script = stream(tokens=9, fault="cut", after=3)
    log_to(out, "text")
    ask(config(upstream, tmp_path))

    (line,) = map(read, access(out))
    assert (line["status"], line["outcome"], line["error"]) == ("200", "upstream_failed", "upstream_truncated")


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_content_no_secret_and_no_query_is_written(
    upstream: Upstream, tmp_path: Path, out: io.StringIO, format: str
) -> None:
    log_to(out, format, "debug")
    ask(config(upstream, tmp_path, log={"format": format}), path="/v1/chat/completions?key=sk-query")
    ask(config(upstream, tmp_path, log={"format": format}), Authorization="Bearer sk-wrong")
    answer = upstream.exchanges[0].text

    written = out.getvalue()
    assert len(re.findall(r'status"?[=:] ?\d', written)) == 2
    for secret in ("SECRET", "sk-secret", "sk-upstream", "sk-query", "sk-wrong"):
        assert secret not in written
    assert answer and answer[:40] not in written


def test_a_path_with_line_ends_is_one_line(upstream: Upstream, tmp_path: Path, out: io.StringIO) -> None:
    log_to(out, "text")
    ask(config(upstream, tmp_path), path="/v1/x%0d%0astatus=200 user=root%e2%80%a8")

    (line,) = map(read, access(out))
    assert (line["status"], line["user"]) == ("404", "al ice")
    assert line["path"] == "/v1/x\r\nstatus=200 user=root\u2028"


def test_a_message_of_any_logger_is_one_line_of_text_and_only_a_traceback_has_more(out: io.StringIO) -> None:
    log_to(out, "text")
    try:
        raise ValueError("one\n2026-01-01 ERROR   forged")
    except ValueError:
        logging.getLogger("x").exception("two\r\nlines\u2028\x1b[31m")

    first, *rest = out.getvalue().splitlines()
    assert first.endswith("ERROR   x: two\\r\\nlines\\u2028\\x1b[31m")
    assert rest and all(line.startswith("  ") for line in rest)


def test_the_time_of_a_line_is_that_of_its_record(out: io.StringIO) -> None:
    log_to(out, "text")
    for created in (0.25, 0.75, 59.5):
        values = {"name": "x", "levelno": 20, "levelname": "INFO", "created": created, "msecs": created % 1 * 1000}
        logging.getLogger().handle(logging.makeLogRecord(values))

    assert re.findall(r":(\d\d,\d+) INFO", out.getvalue()) == ["00,250", "00,750", "59,500"]


class Told(list[int]):
    """The statuses that it was told of."""

    def __call__(self, exchange: Exchange, status: int) -> None:
        self.append(status)


def answering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"answer"]


def refusing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("429 Too Many Requests", [])
    return []


def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise RuntimeError("failed")


def leaving(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise SystemExit


@pytest.mark.parametrize(("app", "status"), [(answering, 200), (refusing, 429), (failing, 500)])
def test_who_counts_is_told_of_an_exchange_once_when_its_body_is_closed(app: WSGIApplication, status: int) -> None:
    told = Told()
    answer = call_app(LogMiddleware(app, count=told), EnvironBuilder().get_environ())
    assert told == []

    answer.close()
    answer.close()
    assert told == [status]


def test_an_application_that_ends_its_thread_counts_as_500() -> None:
    told = Told()

    with pytest.raises(SystemExit):
        Client(LogMiddleware(leaving, count=told)).get("/")
    assert told == [500]


def test_an_answer_whose_generation_goes_on_counts_when_that_is_over() -> None:
    told = Told()
    environ = EnvironBuilder().get_environ()
    exchange = Exchange.of(environ)
    exchange.in_background = True
    call_app(LogMiddleware(answering, count=told), environ).close()
    assert told == []

    for notify in exchange.when_generated:
        notify()
    assert told == [200]


def test_an_exchange_that_cannot_be_counted_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def count(exchange: Exchange, status: int) -> None:
        raise OSError("no space left on device")

    with caplog.at_level("INFO", "sseproxy.access"):
        answer = Client(LogMiddleware(answering, count=count)).get("/", headers={"X-Request-Id": "x"}, buffered=True)

    assert (answer.status_code, answer.data) == (200, b"answer")
    assert [message.partition(" ")[0] for message in caplog.messages] == ["x", "id=x"]


@pytest.mark.parametrize(
    ("path", "given", "told"),
    [
        ("/v1/messages", [], "mine"),
        ("/v1/messages/count_tokens", [], "mine"),
        ("/v1/messages", [("request-id", "req_1")], "req_1"),
        ("/v1/chat/completions", [], None),
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_an_answer_to_anthropic_s_sdk_has_the_field_in_which_it_looks_for_the_name_of_its_request(
    path: str, given: list[tuple[str, str]], told: str | None, early: bool
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begin = Exchange.of(environ).begin
        assert begin is not None
        (begin if early else start_response)("200 OK", given)
        return [b"answer"]

    answer = Client(LogMiddleware(app)).get(path, headers={"X-Request-Id": "mine"}, buffered=True)

    assert (answer.headers["X-Request-Id"], answer.headers.get("Request-Id")) == ("mine", told)
