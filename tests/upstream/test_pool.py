"""upstream/pool: order, retries, failover and cool-down, through the whole proxy and over real sockets."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from sseproxy import create_app
from sseproxy.app import Proxy
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.upstream.cooldown import FAILURES
from sseproxy.upstream.pool import in_order
from sseproxy.wsgi.client import GONE_KEY
from sseproxy.wsgi.exchange import Target
from tests.harness import PATIENCE, Exchange, Upstream, free_port, raw, refuse, silent, stream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
ROLE = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
ROLE += b'{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
CONTENT = ROLE.replace(b'"content":""', b'"content":"Once"')
PRICE = {"input": "1", "output": "2"}
Make = Callable[..., Proxy]


@pytest.fixture
def spare() -> Iterator[Upstream]:
    """A second upstream, that works."""
    with Upstream(stream(tokens=2)) as running:
        yield running


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a proxy in front of upstreams that are given by name: a URL, an application, or all keys."""
    made: list[Proxy] = []

    def make(model: dict[str, Any] | None = None, **upstreams: Any) -> Proxy:
        sections = {name: {"url": each} if isinstance(each, str) else each for name, each in upstreams.items()}
        settings = {
            "upstreams": sections,
            "models": {"*": {"upstream": list(sections), "price": PRICE, **(model or {})}},
            "auth": {"required": False},
            "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"},
        }
        made.append(create_app(settings))
        return made[-1]

    yield make
    for app in made:
        app.close()


def ask(app: Proxy, body: Any = CHAT, **environ: Any) -> TestResponse:
    answer = Client(app).post("/v1/chat/completions", json=body, environ_overrides=environ)
    answer.get_data()
    return answer


def books(app: Proxy) -> closing[SQLLedger]:
    """The ledger, opened anew."""
    return closing(open_ledger(app.config.accounting.ledger.get_secret_value()))


def charge(app: Proxy) -> dict[str, Any]:
    """The newest charge."""
    with books(app) as ledger:
        return list(ledger.charges())[-1]


def tried(row: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(each["upstream"], each["status"], each["error"]) for each in row["tries"]]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_failure_that_may_pass_is_tried_again_where_it_was(status: int, upstream: Upstream, make: Make) -> None:
    app = make(main=upstream.url)
    upstream.scripts.append(refuse(status, headers={"retry-after-ms": "5"}))

    assert ask(app).status_code == 200
    row = charge(app)
    assert (row["state"], row["outcome"], row["upstream"]) == ("settled", "completed", "main")
    assert [each["status"] for each in row["tries"]] == [status, 200]
    assert [each["may_be_billed"] for each in row["tries"]] == [False, False]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_of_the_request_is_the_client_s_answer(
    status: int, upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main=upstream.url, spare=spare.url)
    upstream.script = refuse(status)

    assert ask(app).status_code == status
    assert (len(upstream.exchanges), len(spare.exchanges)) == (1, 0)


@pytest.mark.parametrize("body", [b"zz\r\n", b"", b"5\r\n{"])
def test_a_refusal_stays_one_however_badly_its_body_is_framed(
    body: bytes, upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main=upstream.url, spare=spare.url)

    def script(exchange: Exchange) -> None:
        exchange._send(b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        exchange.cut()

    upstream.script = script
    answer = ask(app)

    assert (answer.status_code, set(answer.get_json()["error"])) == (400, {"message", "type", "param", "code"})
    assert (len(upstream.exchanges), len(spare.exchanges)) == (1, 0)


def test_retries_are_as_many_as_configured_and_then_the_last_failure_is_told(upstream: Upstream, make: Make) -> None:
    app = make(main={"url": upstream.url, "retries": 1})
    upstream.script = refuse(503, "busy", headers={"Retry-After-Ms": "1"})

    answer = ask(app)

    assert (answer.status_code, answer.json["error"]["message"]) == (503, "busy")  # type: ignore[index]
    assert len(upstream.exchanges) == 2
    assert (charge(app)["state"], len(charge(app)["tries"])) == ("released", 2)


def test_after_its_retries_the_next_upstream_answers(upstream: Upstream, spare: Upstream, make: Make) -> None:
    app = make({"price": PRICE}, main={"url": upstream.url, "retries": 1}, spare=spare.url)
    upstream.script = refuse(500, headers={"Retry-After-Ms": "1"})

    assert ask(app).status_code == 200
    row = charge(app)
    assert (row["upstream"], row["upstream_model"], row["output_tokens"]) == ("spare", "m", spare.last.tokens)
    assert [each["upstream"] for each in row["tries"]] == ["main", "main", "spare"]
    with books(app) as ledger:
        assert ledger.usage("upstream")[0]["upstream"] == "spare"


def test_retry_after_is_honoured_up_to_a_bound_and_passed_on_beyond_it(upstream: Upstream, make: Make) -> None:
    app = make(main=upstream.url)
    upstream.scripts.append(refuse(429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert ask(app).status_code == 200
    assert time.monotonic() - began >= 1

    upstream.script = refuse(429, headers={"Retry-After": "3600"})
    answer = ask(app)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3600")
    assert len(upstream.exchanges) == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"Retry-After": "120"}, None),
        ({"Retry-After": "121"}, "false"),
        ({"Retry-After-Ms": "734400000"}, "false"),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, "false"),
        ({"Retry-After": "734400", "X-Should-Retry": "true"}, "true"),
        ({"X-Should-Retry": "false"}, "false"),
        ({}, None),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "files"])
def test_an_sdk_is_not_put_to_sleep_for_longer_than_anybody_would_wait(
    path: str, said: dict[str, str], told: str | None, upstream: Upstream, make: Make
) -> None:
    upstream.script = refuse(429, headers=said)
    app = make(main={"url": upstream.url, "retries": 0, "passthrough": ["files"]})

    answer = Client(app).post(f"/v1/{path}", json=CHAT)

    assert answer.headers.getlist("X-Should-Retry") == [told] * (told is not None)
    assert {name: answer.headers[name] for name in said} == said


def test_who_asks_for_patience_is_passed_over_where_another_can_answer(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main=upstream.url, spare=spare.url)
    upstream.script = refuse(429, headers={"Retry-After": "5"})

    assert ask(app).status_code == 200
    assert (len(upstream.exchanges), len(spare.exchanges)) == (1, 1)


def test_an_address_where_nobody_listens_fails_over_and_has_not_been_reached(spare: Upstream, make: Make) -> None:
    app = make(main={"url": f"http://127.0.0.1:{free_port()}/v1", "retries": 0}, spare=spare.url)

    assert ask(app).status_code == 200
    first, second = charge(app)["tries"]
    assert (first["error"], first["status"], first["reached"]) == ("upstream_unreachable", None, False)
    assert (second["error"], second["status"], second["reached"]) == (None, 200, True)


def test_a_time_out_is_not_repeated_where_it_was(upstream: Upstream, spare: Upstream, make: Make) -> None:
    app = make(main={"url": upstream.url, "timeout": {"first_byte": "200ms"}}, spare=spare.url)
    upstream.script = silent()

    assert ask(app).status_code == 200
    assert len(upstream.exchanges) == 1
    assert charge(app)["tries"][0]["may_be_billed"]


@pytest.mark.parametrize(
    "opening",
    [
        raw(b"", end="cut"),
        raw(ROLE, end="cut"),
        raw(ROLE, end="reset"),
        raw([ROLE, ROLE], end="cut", interval=0.05),
        raw([ROLE, b'data: {"error":{"message":"overloaded","code":503}}\n\n'], interval=0.05),
    ],
)
def test_a_stream_that_fails_before_its_content_fails_over(
    opening: Any, upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main={"url": upstream.url, "retries": 0}, spare=spare.url)
    upstream.script = opening

    answer = ask(app, STREAM)

    events = answer.get_data().split(b"\n\n")
    assert answer.status_code == 200 and events[-2] == b"data: [DONE]" and b"error" not in answer.get_data()
    assert answer.get_data().count(b'"role"') == 1
    row = charge(app)
    assert (row["upstream"], row["output_tokens"]) == ("spare", spare.last.tokens)
    assert row["tries"][0]["may_be_billed"] and row["tries"][0]["status"] == 200


def test_after_its_first_content_a_stream_that_fails_is_an_error_event(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main=upstream.url, spare=spare.url)
    upstream.script = raw([CONTENT], end="cut")

    text = ask(app, STREAM).get_data()

    assert b"Once" in text and b'"code":"upstream_truncated"' in text and b"[DONE]" not in text
    assert (len(upstream.exchanges), len(spare.exchanges)) == (1, 0)


def test_an_answer_in_json_that_breaks_off_is_asked_for_again(upstream: Upstream, make: Make) -> None:
    app = make(main=upstream.url)
    upstream.scripts.append(raw(b'{"choices":[{"mess', framing="length", end="cut"))

    assert ask(app).status_code == 200
    assert tried(charge(app)) == [("main", 200, "upstream_truncated"), ("main", 200, None)]


def test_each_upstream_may_have_its_own_name_and_price_for_the_model(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    model = {"model": "big", "price": None, "upstream": ["main", {"name": "spare", "model": "gpt-4o-mini"}]}
    app = make(model, main={"url": upstream.url, "retries": 0}, spare=spare.url)
    upstream.script = refuse(500)

    assert ask(app).status_code == 200
    assert (upstream.last.body["model"], spare.last.body["model"]) == ("big", "gpt-4o-mini")
    row = charge(app)
    assert (row["model"], row["upstream_model"], row["unpriced"]) == ("m", "gpt-4o-mini", False)
    assert float(row["cost_usd"]) > 0


def test_an_application_and_an_http_upstream_fail_over_to_each_other(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    def broken(environ: Any, start_response: Any) -> list[bytes]:
        assert environ["wsgi.input"].read()
        raise RuntimeError("no")

    def working(environ: Any, start_response: Any) -> list[bytes]:
        body = json.loads(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"choices": [{"message": {"content": f"I am {body['model']}"}}]}).encode()]

    app = make(main={"wsgi": broken, "retries": 1}, spare=spare.url)
    assert ask(app).status_code == 200
    assert tried(charge(app)) == [("main", None, "app_failed")] * 2 + [("spare", 200, None)]

    upstream.script = refuse(500)
    app = make(main={"url": upstream.url, "retries": 0}, spare={"wsgi": working})
    assert "I am m" in ask(app).get_data(as_text=True)
    assert tried(charge(app)) == [("main", 500, "invalid_request_error"), ("spare", 200, None)]


def test_a_client_that_leaves_while_waiting_ends_it_at_once_and_pays_nothing(upstream: Upstream, make: Make) -> None:
    app = make(main=upstream.url)
    upstream.script = refuse(503, headers={"Retry-After": "4"})
    began = time.monotonic()

    answer = ask(app, **{GONE_KEY: lambda: bool(upstream.exchanges)})

    assert (answer.status_code, len(upstream.exchanges)) == (499, 1)
    assert time.monotonic() - began < 3
    row = charge(app)
    assert (row["state"], row["outcome"], row["cost_usd"]) == ("released", "client_gone", "0")


def test_what_a_client_asked_that_left_before_a_thread_was_free_is_not_sent_and_free(
    upstream: Upstream, make: Make
) -> None:
    app = make(main=upstream.url)

    assert ask(app, **{GONE_KEY: lambda: True}).status_code == 499
    assert upstream.exchanges == []
    row = charge(app)
    assert (row["state"], row["outcome"], row["cost_usd"]) == ("released", "client_gone", "0")
    assert [(each["error"], each["reached"]) for each in row["tries"]] == [("client_gone", False)]
    assert ask(app).status_code == 200


def test_an_application_is_not_asked_for_a_client_that_has_left_already(make: Make) -> None:
    asked: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    proxy = make(main={"wsgi": app})

    assert ask(proxy, **{GONE_KEY: lambda: True}).status_code == 499
    assert (asked, charge(proxy)["cost_usd"], charge(proxy)["state"]) == ([], "0", "released")


def test_a_request_that_is_sent_again_after_a_refusal_is_paid_for_by_a_client_that_leaves(
    upstream: Upstream, make: Make
) -> None:
    app = make(main={"url": upstream.url, "retries": 0})
    upstream.scripts.append(refuse(400, "unknown field stream_options"))
    upstream.script = silent()

    assert ask(app, STREAM, **{GONE_KEY: lambda: len(upstream.exchanges) > 1}).status_code == 499
    row = charge(app)
    assert (row["state"], row["outcome"]) == ("settled", "client_gone")
    assert row["input_tokens"] > 0


@pytest.mark.parametrize("status", [400, 500])
def test_a_client_that_leaves_amid_a_refusal_pays_nothing(status: int, upstream: Upstream, make: Make) -> None:
    app = make(main={"url": upstream.url, "retries": 0})
    upstream.script = raw(b"{", status=status, end="hang")

    assert ask(app, **{GONE_KEY: lambda: bool(upstream.exchanges)}).status_code == 499
    row = charge(app)
    assert (row["state"], row["outcome"], row["cost_usd"]) == ("released", "client_gone", "0")


def test_an_upstream_that_fails_again_and_again_is_left_alone_and_then_tried_by_one_request(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main={"url": upstream.url, "retries": 0, "cooldown": "400ms"}, spare=spare.url)
    upstream.script = refuse(503)
    for _ in range(FAILURES + 3):
        assert ask(app).status_code == 200
    assert len(upstream.exchanges) == FAILURES

    until = time.monotonic() + PATIENCE
    upstream.script = stream(tokens=1, delay=0.3)
    while len(upstream.exchanges) == FAILURES:
        assert time.monotonic() < until
        with ThreadPoolExecutor(4) as pool:  # all while the one that tries is under way
            assert [answer.status_code for answer in pool.map(lambda _: ask(app), range(4))] == [200] * 4

    assert len(upstream.exchanges) == FAILURES + 1
    ask(app)
    assert len(upstream.exchanges) == FAILURES + 2


def test_where_nothing_else_is_left_one_is_told_when_to_come_back(make: Make) -> None:
    app = make(main={"url": f"http://127.0.0.1:{free_port()}/v1", "retries": 0, "cooldown": "30s"})
    for _ in range(FAILURES):
        assert ask(app).json["error"]["code"] == "upstream_unreachable"  # type: ignore[index]

    answer = ask(app)

    assert (answer.status_code, answer.json["error"]["code"]) == (503, "upstream_cooling_down")  # type: ignore[index]
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert charge(app)["state"] == "released"
    assert (tried(charge(app)), charge(app)["tries"][0]["reached"]) == ([("main", None, "cooling_down")], False)


@pytest.mark.parametrize("stumble", [refuse(500), refuse(503), raw(b"", end="cut")])
def test_requests_that_make_an_upstream_stumble_do_not_shut_the_others_out(
    stumble: Any, upstream: Upstream, make: Make
) -> None:
    app = make(main={"url": upstream.url, "retries": 0, "cooldown": "30s"})
    upstream.script = stumble
    for _ in range(FAILURES + 1):
        assert ask(app).status_code >= 500
    upstream.script = stream(tokens=1)

    assert ask(app).status_code == 200


@pytest.mark.parametrize("main", ["cools down too", "works again and fails"])
def test_nor_out_of_a_spare_that_works_but_for_them(main: str, upstream: Upstream, spare: Upstream, make: Make) -> None:
    cooldown = "30s" if main == "cools down too" else "1ms"
    app = make(
        main={"url": upstream.url, "retries": 0, "cooldown": cooldown},
        spare={"url": spare.url, "retries": 0, "cooldown": "30s"},
    )
    upstream.script = spare.script = refuse(503)
    for _ in range(FAILURES):
        assert ask(app).status_code == 503
    spare.script = stream(tokens=1)

    assert ask(app).status_code == 200
    assert charge(app)["upstream"] == "spare"


def test_one_that_asks_for_patience_is_believed_where_its_spare_is_left_alone(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    app = make(main=upstream.url, spare={"url": spare.url, "retries": 0, "cooldown": "30s"})
    upstream.script, spare.script = refuse(429, headers={"Retry-After": "20"}), refuse(500)
    for _ in range(FAILURES):
        assert ask(app).status_code == 500

    answer = ask(app)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "20")
    assert len(spare.exchanges) == FAILURES


def test_a_client_that_leaves_takes_nobody_s_turn_at_a_spare(upstream: Upstream, spare: Upstream, make: Make) -> None:
    down = {"url": spare.url, "retries": 0, "cooldown": "1ms", "timeout": {"first_byte": "100ms"}}
    app = make(main={"url": upstream.url, "retries": 0}, spare=down)
    upstream.script, spare.script = refuse(429, headers={"Retry-After": "20"}), silent()
    for _ in range(FAILURES):
        assert ask(app).status_code == 504
    seen = len(upstream.exchanges)
    assert ask(app, **{GONE_KEY: lambda: len(upstream.exchanges) > seen}).status_code == 499
    spare.script = stream(tokens=1)

    assert ask(app).status_code == 200


def test_an_upstream_is_waited_for_where_its_spare_is_left_alone(
    upstream: Upstream, spare: Upstream, make: Make
) -> None:
    gone = f"http://127.0.0.1:{free_port()}/v1"
    app = make(main=upstream.url, spare={"url": gone, "retries": 0, "cooldown": "30s"})
    upstream.script = refuse(429, headers={"Retry-After": "60"})
    for _ in range(FAILURES):
        assert ask(app).status_code == 502
    upstream.scripts += [refuse(429, headers={"Retry-After": "2"})]
    upstream.script = stream(tokens=1)

    assert ask(app).status_code == 200
    assert [each[:2] for each in tried(charge(app))] == [("main", 429), ("main", 200)]


def test_uploads_that_are_kept_are_tried_again_and_those_that_are_not_are_not(upstream: Upstream, make: Make) -> None:
    app = make(main={"url": upstream.url, "passthrough": ["files"]})
    script = refuse(503, headers={"Retry-After-Ms": "1"})
    for size, tries in ((1000, 2), (600_000, 1)):
        upstream.scripts.append(script)
        upstream.script = raw(b"{}", framing="length")
        answer = Client(app).post("/v1/files", data=b"x" * size)
        answer.get_data()

        assert answer.status_code == (200 if tries == 2 else 503)
        assert len(upstream.last.raw_body) == size
        assert len(charge(app)["tries"]) == tries
        upstream.scripts.clear()


def test_weights_are_the_shares_of_first_choices_and_the_rest_keeps_its_order() -> None:
    spares = (Target("b", "m", weight=1), Target("c", "m"))
    target = Target("a", "m", weight=3, spares=spares)
    orders = [[place.upstream for place in in_order(target, lambda step=step: step / 1000)] for step in range(1000)]

    assert Counter(map(tuple, orders)) == {("a", "b", "c"): 750, ("b", "a", "c"): 250}
    assert in_order(Target("a", "m", spares=spares[1:]), lambda: 0.99)[0].upstream == "a"


def test_a_reservation_holds_what_the_dearest_upstream_would_cost(
    upstream: Upstream, spare: Upstream, tmp_path: Path
) -> None:
    settings = {
        "upstreams": {"main": {"url": upstream.url, "retries": 0}, "spare": {"url": spare.url}},
        "models": {"m": {"upstream": [{"name": "main", "model": "gpt-4o-mini"}, {"name": "spare", "model": "gpt-4o"}]}},
        "auth": {"required": False},
        "defaults": {"budget": {"usd": "100"}},
        "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db"},
    }
    app = create_app(settings)
    upstream.script = stream(tokens=1, steps=True)
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, app, {**STREAM, "max_tokens": 1000})
            exchange = upstream.wait_for_request()
            with books(app) as ledger:
                balance = ledger.balance("anonymous", "total", datetime.now(timezone.utc))
            exchange.allow(100)
            asked.result(PATIENCE)
    finally:
        app.close()

    assert balance.reserved >= 1000 * 10_000  # gpt-4o: 10 USD per million output tokens
