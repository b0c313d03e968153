"""middleware/accounting: reserve, meter, settle; around small applications and a real ledger in memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from sseproxy.core.chat import Request
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import STANDARD, Dialect
from sseproxy.core.pricing import FlatPrice
from sseproxy.core.prompt import Prefix
from sseproxy.core.sse import FLUSH, Event
from sseproxy.core.tries import Try
from sseproxy.core.usage import TotalAlone, Usage
from sseproxy.core.usage_of_choices import UsageOfChoices
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import LedgerUnavailable, Settlement
from sseproxy.middleware.accounting import AccountingMiddleware
from sseproxy.middleware.bill import Bill
from sseproxy.middleware.meter import Meter
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.tokenizer import Tokenizer
from sseproxy.upstream.pool import UpstreamPool
from sseproxy.wsgi.exchange import Exchange, Target, User

from .apps import CHAT, Echo, error_of, post, request

STREAM = {**CHAT, "stream": True}
ASKING = {**STREAM, "stream_options": {"include_usage": True}}
PRICE = FlatPrice(input=Decimal(1), output=Decimal(2))
TEXT = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hello world"},"finish_reason":null}]}\n\n'  # noqa: E501
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
FINISH = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'  # noqa: E501
DONE = b"data: [DONE]\n\n"
SAID_SO = {"type": "output_text", "text": "Hello world"}


@pytest.fixture
def ledger() -> Iterator[SQLLedger]:
    opened = open_ledger("sqlite://")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def closed_at_the_end() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


MADE: list[AccountingMiddleware] = []


def accounting(app: Any, ledger: Any, counter: Any = None) -> AccountingMiddleware:
    MADE.append(AccountingMiddleware(app, ledger, counter or Tokenizer()))
    return MADE[-1]


def metered(ledger: Any, *pieces: bytes, status: str = "200 OK") -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        app.body = environ["wsgi.input"].read()  # type: ignore[attr-defined]
        start_response(status, [("Content-Type", "text/event-stream")])
        return list(pieces)

    inner = accounting(app, ledger)

    def targeted(environ: Any, start_response: Any) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        exchange.user, exchange.target, exchange.asked_model = User("alice"), Target("main", "m", PRICE), "m"
        return inner(environ, start_response)

    targeted.app = app  # type: ignore[attr-defined]
    return targeted


def only_charge(ledger: SQLLedger) -> dict[str, Any]:
    (charge,) = ledger.charges()
    return charge


def test_reported_usage_is_what_is_billed(ledger: SQLLedger) -> None:
    b"".join(post(metered(ledger, TEXT, USAGE, DONE), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "completed", "reported")
    assert (charge["input_tokens"], charge["output_tokens"], charge["cost_usd"]) == (5, 2, "0.000009")


def test_the_charge_is_pending_while_the_answer_runs_and_settled_before_done(ledger: SQLLedger) -> None:
    answer = post(metered(ledger, TEXT, USAGE, DONE), body=STREAM)
    body = iter(answer.body)

    assert next(body) == TEXT
    assert only_charge(ledger)["state"] == "pending"
    assert next(piece for piece in body if piece) == DONE
    assert only_charge(ledger)["state"] == "settled"


def test_usage_is_asked_for_and_hidden_from_a_client_that_did_not_ask(ledger: SQLLedger) -> None:
    app = metered(ledger, TEXT, USAGE, DONE)

    body = b"".join(post(app, body=STREAM).body)

    assert json.loads(app.app.body)["stream_options"] == {"include_usage": True}
    assert body == TEXT + DONE


def test_what_is_told_beside_the_usage_is_not_hidden_with_it(ledger: SQLLedger) -> None:
    timed = USAGE.replace(b'"choices":[],', b'"choices":[],"timings":{"predicted_ms":7},')
    app = NormalizeMiddleware(metered(ledger, TEXT, FINISH, timed, DONE))

    *_, finish, news, done, _ = b"".join(post(app, body=STREAM).body).split(b"\n\n")

    assert b'"stop"' in finish and done == b"data: [DONE]"
    assert json.loads(news[6:])["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert json.loads(news[6:])["timings"] == {"predicted_ms": 7} and b"usage" not in news
    asked = b"".join(post(app, body=ASKING).body).split(b"\n\n")[-3]
    assert json.loads(asked[6:])["usage"]["cost"] == 0.000009 and b"timings" in asked


@pytest.mark.parametrize("said", [b'"timings":{"predicted_ms":7}', b'"system_fingerprint":"fp"'])
def test_what_a_canonical_stream_tells_beside_the_usage_alone_is_not_hidden_with_it(
    ledger: SQLLedger, said: bytes
) -> None:
    own = b'data: {"id":"c-1","object":"chat.completion.chunk","created":5,"model":"m","choices":['
    ends = {b'{"role":"assistant"}': b"null", b'{"content":"a"}': b"null", b"{}": b'"stop"'}
    chunks = [b'%b{"index":0,"delta":%b,"finish_reason":%b}]}\n\n' % (own, *each) for each in ends.items()]
    told = b'%b],%b,"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n' % (own, said)

    body = b"".join(post(normalized(ledger, *chunks, told, DONE), body=STREAM).body)

    *_, finish, news, _, _ = body.split(b"\n\n")
    assert b'"stop"' in finish and said in news and b"usage" not in body


def test_a_client_that_asked_sees_usage_with_its_cost(ledger: SQLLedger) -> None:
    body = b"".join(post(metered(ledger, TEXT, USAGE, DONE), body=ASKING).body)

    chunk = json.loads(body.split(b"\n\n")[1][6:])
    assert chunk["usage"]["cost"] == 0.000009
    assert chunk["usage"]["completion_tokens"] == 2


def test_without_a_report_tokens_are_counted(ledger: SQLLedger) -> None:
    b"".join(post(metered(ledger, TEXT, DONE), body=STREAM).body)

    charge = only_charge(ledger)
    assert charge["usage_source"] == "counted"
    assert charge["output_tokens"] == 2
    assert charge["input_tokens"] == 8  # "hi", its role and the frame of a chat of one message


CHOICE = b'{"index":%d,"delta":{"content":"42"},"finish_reason":null}'
ONE_EACH = [TEXT[: TEXT.index(b"[") + 1] + CHOICE % number + b"]}\n\n" for number in range(4)]
TOGETHER = [TEXT[: TEXT.index(b"[") + 1] + b",".join(CHOICE % number for number in range(4)) + b"]}\n\n"]
WHOLE = b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[%b]}' % b",".join(
    b'{"index":%d,"message":{"role":"assistant","content":"4242"},"finish_reason":"stop"}' % number
    for number in range(4)
)


@pytest.mark.parametrize(
    "pieces",
    [[*ONE_EACH, *ONE_EACH, DONE], [*TOGETHER, *TOGETHER, DONE], [WHOLE]],
    ids=["a choice a chunk", "all in one chunk", "whole"],
)
@pytest.mark.parametrize("normalised", [True, False])
def test_each_of_several_choices_is_counted_by_itself(normalised: bool, pieces: list[bytes], ledger: SQLLedger) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return pieces

    inner = NormalizeMiddleware(app) if normalised else app
    asking = {**CHAT, "n": 4, "stream": pieces != [WHOLE]}

    b"".join(post(accounting(inner, ledger), body=asking).body)

    each = Tokenizer().count("4242", "m")
    assert Tokenizer().count("4242" * 4, "m") < 4 * each
    assert only_charge(ledger)["output_tokens"] == 4 * each


def test_the_texts_of_a_whole_completion_are_counted_one_by_one(ledger: SQLLedger) -> None:
    choices = [{"index": number, "text": "a", "logprobs": None, "finish_reason": "stop"} for number in range(3)]
    answer = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": choices}
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    for body in (answer, {**answer, "usage": usage}):
        asking = {"model": "m", "prompt": ["a", "b", "c"]}

        b"".join(post(metered(ledger, json.dumps(body).encode()), "/v1/completions", asking).body)

    assert [charge["output_tokens"] for charge in ledger.charges()] == [3, 3]


@pytest.mark.parametrize("prompt", ["a", ["a", "b", "c"]])
def test_the_prefix_is_counted_as_often_as_it_was_sent(prompt: Any) -> None:
    asking = {"model": "m", "prompt": prompt}
    request = Prefix("Answer in plain words.").apply(Request.parse("completions", json.dumps(asking).encode()))

    tokens = Meter(request, Tokenizer()).prefix_tokens()

    assert tokens == len(prompt) * Tokenizer().count("Answer in plain words.", "m")


@pytest.mark.parametrize("stated", ["0", "null", "-1"])
def test_a_report_without_a_prompt_is_counted_in_that_part(stated: str, ledger: SQLLedger) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":%b,"completion_tokens":22}}\n\n' % stated.encode()
    answer = post(metered(ledger, TEXT, usage, DONE), body=ASKING)
    b"".join(answer.body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 8, 22)
    assert charge["cost_usd"] == "0.000052"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_its_client_sees_what_is_booked_at_the_vendors_cost(stream: bool, ledger: SQLLedger) -> None:
    usage = b'data: {"choices":[],"usage":{"completion_tokens":22,"cost":0.5}}\n\n'

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [TEXT, usage, DONE]

    answer = b"".join(post(accounting(NormalizeMiddleware(app), ledger), body=ASKING if stream else CHAT).body)

    shown = json.loads(answer.split(b"\n\n")[-3][6:] if stream else answer)["usage"]
    assert shown == {"prompt_tokens": 8, "completion_tokens": 22, "total_tokens": 30, "cost": 0.5}
    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["cost_usd"]) == ("mixed", 8, "0.5")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/responses", {"object": "response", "status": "completed", "output": [{"id": "m", "content": [SAID_SO]}]}),
        ("/v1/messages", {"type": "message", "content": [{"type": "text", "text": "Hello world"}]}),
    ],
)
def test_the_client_of_a_whole_answer_whose_usage_is_zero_sees_what_is_booked(
    path: str, answer: dict[str, Any], ledger: SQLLedger
) -> None:
    body = json.dumps({**answer, "usage": {"input_tokens": 0, "output_tokens": 0}}).encode()

    shown = json.loads(b"".join(post(normalized(ledger, body), path, body={**CHAT, "input": "hi"}).body))["usage"]

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["output_tokens"]) == ("counted", 2)
    assert (shown["input_tokens"], shown["output_tokens"]) == (charge["input_tokens"], 2)


def test_the_prompt_of_a_running_answer_is_counted_where_its_report_leaves_it_out(ledger: SQLLedger) -> None:
    bill = Bill(ledger, Tokenizer(), Exchange("r", "/", request=Request.parse("chat", json.dumps(STREAM).encode())))
    usage = Usage(output_tokens=3)
    assert list(bill.meter(iter([Event(b"a", content="one two three"), Event(b"{}", usage=usage)])))
    assert (running := bill.so_far()) is not None
    assert (running.usage, running.usage_source) == (Usage(input_tokens=8, output_tokens=3), "mixed")


def test_a_stream_closed_early_is_charged_to_the_client_that_left(ledger: SQLLedger) -> None:
    answer = post(metered(ledger, TEXT, TEXT, DONE), body=STREAM)
    next(iter(answer.body))

    answer.close()

    charge = only_charge(ledger)
    assert (charge["outcome"], charge["usage_source"], charge["output_tokens"]) == ("client_gone", "counted", 2)


def test_a_stream_that_was_never_begun_is_charged_for_its_prompt(ledger: SQLLedger) -> None:
    post(metered(ledger, TEXT, DONE), body=STREAM).close()

    charge = only_charge(ledger)
    assert (charge["state"], charge["outcome"], charge["output_tokens"]) == ("settled", "client_gone", 0)
    assert charge["input_tokens"] > 0


def test_a_usage_that_is_stated_first_and_again_at_the_end_is_the_reported_one(ledger: SQLLedger) -> None:
    b"".join(post(metered(ledger, USAGE, TEXT, FINISH, USAGE, DONE), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["output_tokens"]) == ("reported", 2)


def normalized(ledger: SQLLedger, *pieces: bytes) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return list(pieces)

    return accounting(NormalizeMiddleware(app), ledger)


def stating(delta: str, usage: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":%b}],"usage":%b}\n\n' % (delta.encode(), usage.encode())


BEGUN = '{"prompt_tokens":5,"completion_tokens":1}'


@pytest.mark.parametrize(
    "first",
    [
        [stating('{"role":"assistant"}', BEGUN)],
        [b'data: {"choices":[],"usage":%b}\n\n' % BEGUN.encode()],
        [TEXT.replace(b'"content"', b'"role":"assistant","name"'), USAGE.replace(b":2,", b":1,").replace(b":7", b":6")],
    ],
    ids=["with the role", "alone", "alone behind the role"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_usage_that_is_stated_before_the_text_alone_is_only_a_beginning(
    stream: bool, first: list[bytes], ledger: SQLLedger
) -> None:
    answer = b"".join(post(normalized(ledger, *first, TEXT, FINISH, DONE), body=ASKING if stream else CHAT).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 2)
    assert b'"prompt_tokens":5,"completion_tokens":2,"total_tokens":7' in answer


@pytest.mark.parametrize("last", [[], [b'data: {"error":{"message":"no"}}\n\n']], ids=["cut off", "failed"])
def test_a_usage_that_stood_alone_before_the_text_is_only_a_beginning_of_what_broke_off(
    last: list[bytes], ledger: SQLLedger
) -> None:
    first = b'data: {"choices":[],"usage":%b}\n\n' % BEGUN.encode()
    b"".join(post(normalized(ledger, first, TEXT, *last), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 2)


@pytest.mark.parametrize(("stated", "charged"), [("0.25", "0.25"), ("0.000001", "0.000009"), ("0", "0.000009")])
def test_what_the_vendor_says_it_has_cost_is_charged_at_least_where_more_was_written(
    stated: str, charged: str, ledger: SQLLedger
) -> None:
    first = b'data: {"choices":[],"usage":%b,"cost":%b}}\n\n' % (BEGUN[:-1].encode(), stated.encode())
    b"".join(post(metered(ledger, first, TEXT, FINISH, DONE), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["output_tokens"], charge["cost_usd"]) == ("mixed", 2, charged)


@pytest.mark.parametrize(
    "last", [[], [b'data: {"error":{"message":"no"}}\n\n'], [FINISH, DONE]], ids=["cut off", "failed", "completed"]
)
@pytest.mark.parametrize("usage", [USAGE, stating('{"content":""}', '{"prompt_tokens":5,"completion_tokens":2}')])
def test_text_behind_a_usage_that_stood_amid_it_is_counted(usage: bytes, last: list[bytes], ledger: SQLLedger) -> None:
    b"".join(post(normalized(ledger, TEXT, usage, *[TEXT] * 4, *last), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 10)


@pytest.mark.parametrize("end", [[FINISH, USAGE], [FINISH.replace(b"]}", b'],"usage":%b}' % USAGE[37:-3])]])
@pytest.mark.parametrize("last", [[TEXT, DONE], [TEXT], [DONE, TEXT]], ids=["text, done", "text", "done, text"])
def test_a_usage_that_came_with_the_finish_is_of_all_though_text_that_was_held_back_comes_behind_it(
    end: list[bytes], last: list[bytes], ledger: SQLLedger
) -> None:
    b"".join(post(normalized(ledger, TEXT, *end, *last), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["outcome"], charge["usage_source"], charge["output_tokens"]) == ("completed", "reported", 2)


def test_text_behind_the_usage_beside_a_stop_reason_was_held_back(ledger: SQLLedger) -> None:
    text = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one two three"}}\n\n'
    stop = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9,"output_tokens":4}}\n\n'  # noqa: E501
    end = b'data: {"type":"message_stop"}\n\n'

    b"".join(post(normalized(ledger, text, stop, text, end), "/v1/messages", body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", 9, 4)


def test_a_usage_whose_halves_are_stated_apart_is_the_reported_one(ledger: SQLLedger) -> None:
    first = stating('{"role":"assistant"}', '{"prompt_tokens":50,"completion_tokens":0}')
    last = b'data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":20}}\n\n'
    b"".join(post(normalized(ledger, first, TEXT, FINISH, last, DONE), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", 50, 20)


SAID = ["one two three four five six", "one two three four five six seven eight nine ten"]


def chunk_of(choice: int, delta: str = "{}", finish: str = "null") -> bytes:
    return TEXT[: TEXT.index(b"[") + 1] + b'{"index":%d,"delta":%b,"finish_reason":%b}]}\n\n' % (
        choice, delta.encode(), finish.encode()
    )  # fmt: skip


def report_of(output: int) -> bytes:
    return USAGE.replace(b'"completion_tokens":2,"total_tokens":7', b'"completion_tokens":%d' % output)


def two_choices(first: bytes, second: bytes) -> list[bytes]:
    texts = [chunk_of(number, json.dumps({"content": text})) for number, text in enumerate(SAID)]
    ends = [chunk_of(number, finish='"stop"') for number in range(2)]
    return [*texts, ends[0], first, ends[1], second, DONE]


@pytest.mark.parametrize("normalised", [True, False])
def test_a_usage_that_came_with_the_end_of_one_choice_is_not_of_the_text_of_another_behind_it(
    normalised: bool, ledger: SQLLedger
) -> None:
    first, second = (chunk_of(number, json.dumps({"content": text})) for number, text in enumerate(SAID))
    pieces = [first, chunk_of(0, finish='"stop"'), report_of(7), second]
    app = normalized(ledger, *pieces) if normalised else metered(ledger, *pieces)

    b"".join(post(app, body={**STREAM, "n": 2}).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 16)


def test_a_choice_that_is_not_reported_yet_is_counted_beside_those_that_are(ledger: SQLLedger) -> None:
    third = chunk_of(2, json.dumps({"content": "one two three"}))
    pieces = [third, *two_choices(report_of(7), report_of(11))[:-1]]

    b"".join(post(normalized(ledger, *pieces), body={**STREAM, "n": 3}).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 21)


@pytest.mark.parametrize("asked", [True, False])
def test_reports_of_one_choice_each_are_summed_for_several(asked: bool, ledger: SQLLedger) -> None:
    app = normalized(ledger, *two_choices(report_of(7), report_of(11)))  # with a last token that is no text

    answer = b"".join(post(app, body={**(ASKING if asked else STREAM), "n": 2}).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", 5, 18)
    assert (b'"prompt_tokens":5,"completion_tokens":18,"total_tokens":23' in answer) == asked


def test_prompts_of_which_each_is_reported_with_its_own_choice_are_summed_too(ledger: SQLLedger) -> None:
    def chunk(choice: int, text: str, **more: Any) -> bytes:
        choices = [{"index": choice, "text": text, "logprobs": None, "finish_reason": "stop" if more else None}]
        body = {"id": "1", "created": 1, "model": "m", "choices": choices, **more}
        return b"data: %b\n\n" % json.dumps(body).encode()

    ends = [
        chunk(number, "", usage={"prompt_tokens": 5 + number // 2, "completion_tokens": 6, "total_tokens": 11})
        for number in range(4)
    ]
    app = normalized(ledger, *(chunk(number, SAID[0]) for number in range(4)), *ends, DONE)

    b"".join(post(app, "/v1/completions", {"model": "m", "prompt": ["a", "b"], "n": 2, "stream": True}).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", 11, 24)


def running(choice: int, said: int, *, prompt: int = 5, finish: str | None = None) -> bytes:
    """A word of a choice with the running usage of that choice alone, as vLLM has it (``continuous_usage_stats``)."""
    choices = [{"index": choice, "text": " word", "logprobs": None, "finish_reason": finish}]
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + said, "completion_tokens": said}
    body = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return b"data: %b\n\n" % json.dumps(body).encode()


@pytest.mark.parametrize(("prompts", "n", "given"), [(["a"], 3, 5), (["a", "b", "c"], 1, 18), (["a", "b"], 2, 11)])
def test_running_reports_of_one_choice_each_are_summed_where_the_answer_breaks_off(
    prompts: list[str], n: int, given: int, ledger: SQLLedger
) -> None:
    count = len(prompts) * n
    words = [running(choice, said, prompt=5 + choice // n) for said in range(1, 11) for choice in range(count)]
    body = {"model": "m", "prompt": prompts, "n": n, "stream": True}

    b"".join(post(normalized(ledger, *words), "/v1/completions", body).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", given, count * 10)


def test_a_running_answer_has_come_to_the_texts_of_all_choices_where_each_is_reported_alone(ledger: SQLLedger) -> None:
    bill = Bill(ledger, Tokenizer(), Exchange("r", "/", request=Request.parse("chat", json.dumps(STREAM).encode())))
    usage = UsageOfChoices(input_tokens=5, output_tokens=6, each=dict.fromkeys((0, 1), Usage(5, output_tokens=6)))
    said = tuple((choice, SAID[0]) for choice in (0, 1))
    assert list(bill.meter(iter([Event(b"a", content=SAID[0] * 2, by_choice=said, usage=usage)])))
    assert (running := bill.so_far()) is not None
    assert (running.usage.input_tokens, running.usage.output_tokens, running.usage_source) == (5, 12, "mixed")


def test_the_last_report_is_of_all_choices_after_running_ones_of_each(ledger: SQLLedger) -> None:
    words = [running(choice, said) for said in (1, 2) for choice in (0, 1)]
    ends = [running(choice, 3, finish="length") for choice in (0, 1)]
    total = USAGE.replace(b'"completion_tokens":2,"total_tokens":7', b'"completion_tokens":6,"total_tokens":11')
    body = {"model": "m", "prompt": "a", "n": 2, "stream": True}

    b"".join(post(normalized(ledger, *words, *ends, total, DONE), "/v1/completions", body).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", 5, 6)


def test_the_one_report_after_the_ends_of_all_choices_is_of_all_also_behind_running_ones(ledger: SQLLedger) -> None:
    """SGLang's ``continuous_usage_stats``; of a vocabulary with fewer tokens than are counted here."""
    words = [running(choice, said * 2 // 3) for said in range(1, 31) for choice in (0, 1)]
    ends = [b'data: {"choices":[{"index":%d,"text":"","finish_reason":"stop"}]}\n\n' % choice for choice in (0, 1)]
    body = {"model": "m", "prompt": "a", "n": 2, "stream": True}

    b"".join(post(normalized(ledger, *words, *ends, report_of(40), DONE), "/v1/completions", body).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["output_tokens"]) == ("reported", 40)


@pytest.mark.parametrize(
    "reports",
    [
        (b"", report_of(16)),
        (report_of(16), report_of(16)),
        (report_of(14), report_of(16)),
        (report_of(14), report_of(90)),  # most of which is not shown
        (report_of(6), report_of(10) + report_of(16)),  # of each choice, then of all
        (report_of(6), report_of(10) + report_of(10)),
        (b"", report_of(10)),
    ],
)
def test_the_last_report_of_a_stream_with_several_choices_stands_where_no_sum_explains_all(
    reports: tuple[bytes, bytes], ledger: SQLLedger
) -> None:
    b"".join(post(normalized(ledger, *two_choices(*reports)), body={**STREAM, "n": 2}).body)

    charge = only_charge(ledger)
    last = json.loads(reports[1].split(b"\n\n")[-2][6:])["usage"]["completion_tokens"]
    assert (charge["usage_source"], charge["output_tokens"]) == ("reported", last)


@pytest.mark.parametrize("beside", [True, False], ids=["beside the finish", "alone"])
@pytest.mark.parametrize("last", [[], [b'data: {"error":{"message":"no"}}\n\n']], ids=["cut off", "failed"])
def test_a_usage_that_came_with_the_end_of_one_choice_covers_no_text_of_the_next(
    last: list[bytes], beside: bool, ledger: SQLLedger
) -> None:
    end = chunk_of(0, finish='"stop"')
    ends = [end.replace(b"]}", b'],"usage":%b}' % USAGE[37:-3])] if beside else [end, USAGE]
    second = chunk_of(1, '{"content":"Hello world"}')

    b"".join(post(normalized(ledger, TEXT, *ends, *[second] * 4, *last), body={**STREAM, "n": 2}).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 10)


def test_a_running_answer_has_come_to_the_text_behind_the_usage_that_came_with_the_end_of_one_choice(
    ledger: SQLLedger,
) -> None:
    request = Request.parse("chat", json.dumps({**STREAM, "n": 2}).encode())
    bill = Bill(ledger, Tokenizer(), Exchange("r", "/", request=request))
    end = Event(b"{}", finish="stop", usage=Usage(5, output_tokens=1))
    second = Event(b"b", content="two three", by_choice=((1, "two three"),))

    assert list(bill.meter(iter([Event(b"a", content="one"), end, second])))

    assert (running := bill.so_far()) is not None
    assert (running.usage, running.usage_source) == (Usage(5, output_tokens=3), "mixed")
    bill.settle("client_gone")
    assert only_charge(ledger)["output_tokens"] == 3


@pytest.mark.parametrize(
    ("reported", "source", "billed"),
    [(7, "mixed", 16), (12, "reported", 12), (16, "reported", 16), (90, "reported", 90)],
)
def test_a_whole_answer_whose_report_is_of_its_first_choice_alone_is_counted(
    reported: int, source: str, billed: int, ledger: SQLLedger
) -> None:
    choices = [
        {"index": number, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for number, text in enumerate(SAID)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": reported, "total_tokens": 5 + reported}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}

    answer = b"".join(post(normalized(ledger, json.dumps(body).encode()), body={**CHAT, "n": 2}).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == (source, 5, billed)
    assert json.loads(answer)["usage"]["total_tokens"] == 5 + billed


@pytest.mark.parametrize(("total", "divided"), [(70, (68, 2)), (1, (0, 1))])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_of_a_total_alone_the_output_is_what_was_counted(
    stream: bool, total: int, divided: tuple[int, int], ledger: SQLLedger
) -> None:
    usage = b'data: {"choices":[],"usage":{"total_tokens":%d}}\n\n' % total
    app = normalized(ledger, TEXT, FINISH, usage, DONE)

    answer = b"".join(post(app, body=ASKING if stream else CHAT).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", *divided)
    assert b'"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d' % (*divided, total) in answer


def test_a_total_alone_that_is_stated_before_the_text_is_that_of_the_prompt(ledger: SQLLedger) -> None:
    first = stating('{"role":"assistant"}', '{"total_tokens":5}')
    b"".join(post(normalized(ledger, first, TEXT, FINISH, DONE), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("mixed", 5, 2)


@pytest.mark.parametrize(
    ("said", "total", "billed"),
    [
        (0, 12, (12, 100)),  # all of it the prompt's
        (2, 12, (10, 102)),
        (2, 70, (68, 102)),
        (2, 200, (198, 102)),
    ],
)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with text"])
@pytest.mark.parametrize("last", [[], [FINISH, DONE]], ids=["cut off", "completed"])
def test_text_behind_a_total_alone_is_counted(
    last: list[bytes], said: int, total: int, billed: tuple[int, int], alone: bool, ledger: SQLLedger
) -> None:
    word, usage = '{"content":" word"}', f'{{"total_tokens":{total}}}'
    before = [stating(word, "null")] * said
    stated = b'data: {"choices":[],"usage":%b}\n\n' % usage.encode() if alone else stating("{}", usage)
    b"".join(post(normalized(ledger, *before, stated, *[stating(word, "null")] * 100, *last), body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["outcome"], charge["usage_source"]) == ("completed" if last else "upstream_failed", "mixed")
    assert (charge["input_tokens"], charge["output_tokens"]) == billed


def test_a_running_answer_of_which_only_the_total_is_known_has_come_to_what_it_will_be_charged(
    ledger: SQLLedger,
) -> None:
    bill = Bill(ledger, Tokenizer(), Exchange("r", "/", request=Request.parse("chat", json.dumps(STREAM).encode())))
    assert list(bill.meter(iter([Event(b"a", content="one two three"), Event(b"{}", usage=TotalAlone(70))])))
    assert (running := bill.so_far()) is not None
    assert (running.usage, running.usage_source) == (Usage(input_tokens=67, output_tokens=3), "mixed")
    bill.settle("client_gone")
    charge = only_charge(ledger)
    assert (charge["input_tokens"], charge["output_tokens"]) == (67, 3)


@pytest.mark.parametrize("order", [1, -1])
def test_a_total_alone_erases_no_count(order: int, ledger: SQLLedger) -> None:
    told = [USAGE, b'data: {"choices":[],"usage":{"total_tokens":90}}\n\n'][::order]
    answer = b"".join(post(normalized(ledger, TEXT, FINISH, *told, DONE), body=ASKING).body)

    charge = only_charge(ledger)
    assert (charge["usage_source"], charge["input_tokens"], charge["output_tokens"]) == ("reported", 5, 2)
    assert b'"total_tokens":7' in answer


def test_anthropic_s_first_usage_does_not_hide_what_came_after_it(ledger: SQLLedger) -> None:
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    delta = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one two three"}}\n\n'
    answer = post(metered(ledger, start, delta, delta), "/v1/messages", body=STREAM)
    body = iter(answer.body)
    next(body)
    next(body)

    answer.close()

    charge = only_charge(ledger)
    assert (charge["input_tokens"], charge["output_tokens"], charge["usage_source"]) == (25, 3, "mixed")


def test_the_usage_beside_the_stop_reason_is_the_last_word_also_where_the_message_began_with_the_same(
    ledger: SQLLedger,
) -> None:
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":2}}}\n\n'
    delta = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one two three"}}\n\n'
    stop = (
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n'
        b'data: {"type":"message_stop"}\n\n'
    )

    b"".join(post(normalized(ledger, start, delta, stop), "/v1/messages", body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["input_tokens"], charge["output_tokens"], charge["usage_source"]) == (25, 2, "reported")


@pytest.mark.parametrize("usage", ["{}", '{"output_tokens":0}', '{"input_tokens":25}'])
def test_a_usage_beside_the_stop_reason_that_leaves_the_output_out_is_no_word_of_it(
    usage: str, ledger: SQLLedger
) -> None:
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    delta = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one two three"}}\n\n'
    stop = (
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":%b}\n\n'
        b'data: {"type":"message_stop"}\n\n' % usage.encode()
    )

    b"".join(post(normalized(ledger, start, delta, stop), "/v1/messages", body=STREAM).body)

    charge = only_charge(ledger)
    assert (charge["input_tokens"], charge["output_tokens"], charge["usage_source"]) == (25, 3, "mixed")


def test_an_answer_that_its_server_cancelled_has_come_to_its_end(ledger: SQLLedger) -> None:
    usage = b'{"input_tokens":11,"output_tokens":22}'
    cancelled = b'event: response.cancelled\ndata: {"type":"response.cancelled","response":{"usage":%b}}\n\n' % usage

    b"".join(post(metered(ledger, cancelled), "/v1/responses", body={"model": "m", "input": "x", "stream": True}).body)

    charge = only_charge(ledger)
    assert (charge["outcome"], charge["input_tokens"], charge["output_tokens"]) == ("completed", 11, 22)


@pytest.mark.parametrize(("status", "outcome"), [("429 No", "refused"), ("500 No", "upstream_failed")])
def test_a_refusal_is_released(status: str, outcome: str, ledger: SQLLedger) -> None:
    post(metered(ledger, b"{}", status=status), body=STREAM)

    charge = only_charge(ledger)
    assert (charge["state"], charge["outcome"], charge["cost_usd"]) == ("released", outcome, "0")


class Gzip:
    """A middleware that compresses, as foreign ones do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            kept = [item for item in headers if item[0] != "Content-Length"]
            return start_response(status, [*kept, ("Content-Encoding", "gzip")], exc_info)

        return [gzip.compress(b"".join(self.app(environ, start)))]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_compressing_middleware_in_between_is_undone(stream: bool, ledger: SQLLedger) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [TEXT, FINISH, USAGE, DONE]

    answer = post(accounting(Gzip(NormalizeMiddleware(app)), ledger), body={**CHAT, "stream": stream})

    assert b"Hello world" in b"".join(answer.body)
    assert answer.header("Content-Encoding") == ""
    assert only_charge(ledger)["output_tokens"] == 2


PAID = b'{"error":{"message":"Out of luck."},"usage":{"prompt_tokens":9,"completion_tokens":1,"cost":0.004}}'
EVENTS_PAID = b"data: %b\n\n" % PAID
SPENT_FIRST = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"cost":0.004}}\n\n'


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("502 No", PAID),
        ("200 OK", PAID),
        ("200 OK", EVENTS_PAID),
        ("200 OK", SPENT_FIRST + b'data: {"error":{"message":"Out of luck."}}\n\n'),
    ],
)
def test_a_refusal_that_its_vendor_charges_is_booked(status: str, body: bytes, stream: bool, ledger: SQLLedger) -> None:
    media_type = "application/json" if body == PAID else "text/event-stream"

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [("Content-Type", media_type)])
        return [body]

    answer = post(accounting(NormalizeMiddleware(app), ledger), body={**CHAT, "stream": stream})

    charge = only_charge(ledger)
    assert answer.code == 502
    assert (charge["state"], charge["usage_source"], charge["cost_usd"]) == ("settled", "reported", "0.004")


FAILED = {
    "object": "response",
    "status": "failed",
    "error": {"message": "No."},
    "output": [],
    "usage": {"input_tokens": 9, "output_tokens": 1},
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("status", "state", "tokens", "cost"), [("200 OK", "settled", 10, "0.000011"),
                                                                 ("502 No", "released", 0, "0")])  # fmt: skip
@pytest.mark.parametrize(
    ("path", "asked", "body"),
    [
        ("/v1/chat/completions", CHAT, PAID.replace(b',"cost":0.004', b"")),
        ("/v1/responses", {"model": "m", "input": "x"}, json.dumps(FAILED).encode()),
        ("/v1/responses", {"model": "m", "input": "x"}, json.dumps({**FAILED, "error": None}).encode()),
    ],
)
def test_an_answer_that_failed_is_booked_as_it_states_its_usage_and_a_refusal_is_free(
    path: str, asked: Any, body: bytes, status: str, state: str, tokens: int, cost: str, stream: bool, ledger: SQLLedger
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "application/json")])
        return [body]

    def routed(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).target = Target("main", "m", PRICE)
        return accounting(UpstreamPool(NormalizeMiddleware(app)), ledger)(environ, start_response)

    b"".join(post(routed, path, body={**asked, "stream": stream}).body)

    charge = only_charge(ledger)
    assert (charge["state"], charge["outcome"]) == (state, "upstream_failed")
    assert (charge["input_tokens"] + charge["output_tokens"], charge["cost_usd"]) == (tokens, cost)


REFUSED = b'data: {"error":{"message":"no"}}\n\n'
CREATED = b'data: {"type":"response.created","response":{"id":"r","status":"in_progress","output":[]}}\n\n'
FAILED_LATER = b'data: {"type":"response.failed","response":{"id":"r","status":"failed","error":{"message":"no"}}}\n\n'
STARTED = b'data: {"type":"message_start","message":{"id":"m"}}\n\n'
OVERLOADED = b'data: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'


def routed(ledger: SQLLedger, *pieces: bytes, dialect: Dialect = STANDARD) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return list(pieces)

    normalizing = NormalizeMiddleware(app, dialects={"main": dialect})
    inner = accounting(UpstreamPool(normalizing, retries={"main": 0}), ledger)

    def targeted(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).target = Target("main", "m", PRICE)
        return inner(environ, start_response)

    return targeted


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("path", "pieces"),
    [
        ("/v1/chat/completions", [stating('{"role":"assistant","content":""}', "null"), REFUSED]),
        ("/v1/chat/completions", [stating('{"role":"assistant","content":""}', "null")]),
        ("/v1/responses", [CREATED, FAILED_LATER]),
        ("/v1/messages", [STARTED, OVERLOADED]),
    ],
    ids=["chat", "chat, cut off", "responses", "messages"],
)
def test_an_answer_that_fails_before_its_first_content_is_as_free_as_one_that_fails_at_once(
    path: str, pieces: list[bytes], stream: bool, ledger: SQLLedger
) -> None:
    b"".join(post(routed(ledger, *pieces), path, body={**CHAT, "input": "x", "stream": stream}).body)

    charge = only_charge(ledger)
    assert (charge["state"], charge["outcome"], charge["cost_usd"]) == ("released", "upstream_failed", "0")
    assert [tried["may_be_billed"] for tried in charge["tries"]] == [True]


def test_an_answer_whose_client_left_before_it_failed_costs_its_prompt(ledger: SQLLedger) -> None:
    bill = Bill(ledger, Tokenizer(), Exchange("r", "/", request=Request.parse("chat", json.dumps(STREAM).encode())))
    events = bill.meter(iter([Event(b"a"), Event(b"b", error=UpstreamFailure("no"))]))
    next(events)

    bill.is_abandoned()

    assert next(events) and only_charge(ledger)["outcome"] == "client_gone"
    assert only_charge(ledger)["input_tokens"] > 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_what_a_message_that_fails_before_its_first_content_states_is_booked(stream: bool, ledger: SQLLedger) -> None:
    stating = STARTED.replace(b'"m"', b'"m","usage":{"input_tokens":25,"output_tokens":1}')

    b"".join(post(routed(ledger, stating, OVERLOADED), "/v1/messages", body={**CHAT, "stream": stream}).body)

    charge = only_charge(ledger)
    assert (charge["state"], charge["input_tokens"], charge["output_tokens"]) == ("settled", 25, 1)


@pytest.mark.parametrize(("folds", "output"), [(True, 10), (False, 5)])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_what_the_total_has_beyond_is_billed_as_the_dialect_says_streamed_or_not(
    stream: bool, folds: bool, output: int, ledger: SQLLedger
) -> None:
    usage = b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":20}}'
    whole = b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],'  # noqa: E501
    pieces = [TEXT, FINISH, b'data: {"choices":[],' + usage + b"\n\n", DONE] if stream else [whole + usage]

    app = routed(ledger, *pieces, dialect=Dialect(reasoning_in_total=folds))
    b"".join(post(app, body={**CHAT, "stream": stream}).body)

    assert (only_charge(ledger)["input_tokens"], only_charge(ledger)["output_tokens"]) == (10, output)


@pytest.mark.parametrize("status", ["502 No", "200 OK"])
@pytest.mark.parametrize(("paid", "cost"), [(PAID, "0.004009"), (PAID.replace(b',"cost":0.004', b""), "0.000009")])
def test_of_a_failed_try_what_its_vendor_charges_is_booked_with_the_answer(
    status: str, paid: bytes, cost: str, ledger: SQLLedger
) -> None:
    answers = [(status, paid), ("200 OK", TEXT + USAGE + DONE)]

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        status, body = answers.pop(0)
        start_response(status, [("Content-Type", "text/event-stream")])
        return [body]

    def routed(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).target = Target("main", "m", PRICE)
        return accounting(UpstreamPool(NormalizeMiddleware(app)), ledger)(environ, start_response)

    b"".join(post(routed, body=STREAM).body)

    charge = only_charge(ledger)
    assert not answers
    assert (charge["input_tokens"], charge["output_tokens"], charge["cost_usd"]) == (5, 2, cost)


def test_an_application_that_raises_is_released(ledger: SQLLedger) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        post(accounting(app, ledger))
    assert only_charge(ledger)["state"] == "released"


def test_a_charge_that_cannot_be_settled_holds_nothing_back(
    ledger: SQLLedger, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).tries = [Try("main", "m", error=object())]  # type: ignore[arg-type]
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [TEXT + USAGE + DONE]

    answer = post(accounting(app, ledger), body=STREAM)

    assert b"[DONE]" in b"".join(answer.body)
    assert only_charge(ledger)["state"] == "expired"
    assert "cannot be settled" in caplog.text


def test_a_charge_that_the_ledger_no_longer_knows_is_an_error_in_the_log(
    ledger: SQLLedger, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        ledger.settle(Exchange.of(environ).charge_id, Settlement("completed", "none", Usage(), 0, 0, 200, None, 1))
        return [TEXT + USAGE + DONE]

    answer = post(accounting(app, ledger), body=STREAM)

    assert b"[DONE]" in b"".join(answer.body)
    assert "is not in the ledger, or had ended there" in caplog.text


def test_a_charge_that_cannot_be_counted_holds_nothing_back(
    ledger: SQLLedger, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def count(self, text: str, model: str) -> int:
            raise ArithmeticError

    settled: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).when_booked.append(lambda: settled.append("once"))
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [TEXT + DONE]

    answer = post(accounting(app, ledger, counter=Broken()), body=STREAM)

    assert b"[DONE]" in b"".join(answer.body)
    assert only_charge(ledger)["state"] == "expired"
    assert settled == ["once"]
    assert "cannot be settled" in caplog.text


def test_nothing_is_sent_while_nothing_can_be_billed() -> None:
    class Away:
        def reserve(self, *args: Any) -> None:
            raise LedgerUnavailable

    app = metered(Away(), TEXT)

    answer = post(app, body=STREAM)

    assert answer.code == 503
    assert error_of(answer)["code"] == "ledger_unavailable"
    assert not hasattr(app.app, "body")


def test_a_json_answer_is_settled_and_shows_its_cost(ledger: SQLLedger) -> None:
    completion = (
        b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
    )
    answer = post(metered(ledger, completion))

    content = b"".join(answer.body)
    assert json.loads(content)["usage"]["cost"] == 0.000009
    assert answer.header("Content-Length") == str(len(content))
    assert only_charge(ledger)["outcome"] == "completed"


def test_a_vendor_s_own_cost_beats_any_price(ledger: SQLLedger) -> None:
    usage = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"cost":0.25}}\n\n'

    b"".join(post(metered(ledger, TEXT, usage, DONE), body=STREAM).body)

    assert only_charge(ledger)["cost_usd"] == "0.25"


def test_requests_that_are_no_llm_calls_are_not_charged(ledger: SQLLedger) -> None:
    assert request(accounting(Echo(), ledger), "GET", "/page").code == 200
    assert list(ledger.charges()) == []


def test_a_long_answer_is_counted_as_it_passes_and_in_all(ledger: SQLLedger) -> None:
    chunk = TEXT.replace(b"Hello world", b" word" * 2000)

    b"".join(post(metered(ledger, *[chunk] * 20, DONE), body=STREAM).body)

    assert only_charge(ledger)["output_tokens"] == 40_000


def test_there_is_room_for_more_after_a_long_text_without_spaces(ledger: SQLLedger) -> None:
    bill = Bill(ledger, Tokenizer(), Exchange("r", "/", request=Request.parse("chat", json.dumps(STREAM).encode())))

    list(bill.meter(iter([Event(b"{}", content="a " + "x" * 100_000), Event(b"{}", content="x" * 100_000)])))

    assert bill.room() > 0


@pytest.mark.parametrize("last", [[FLUSH], []], ids=["before the end", "with the end"])
def test_the_gap_before_the_last_events_counts_whether_or_not_they_came_with_the_end(
    ledger: SQLLedger, last: list[Event]
) -> None:
    exchange = Exchange("r", "/", request=Request.parse("chat", json.dumps(STREAM).encode()))
    bill = Bill(ledger, Tokenizer(), exchange)

    list(bill.meter(iter([Event(b"{}", content="Hello"), FLUSH, Event(b"[DONE]"), *last])))

    assert exchange.pace is not None
    assert sum(exchange.pace.counts) == 1
