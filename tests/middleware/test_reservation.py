"""middleware/reservation: what a charge holds of a budget, and how seldom that costs a look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

import pytest

from sseproxy.core.allowance import Budget
from sseproxy.core.chat import Request
from sseproxy.core.pricing import FlatPrice
from sseproxy.core.sse import Event
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import BudgetExceeded, Charge
from sseproxy.middleware.bill import Bill
from sseproxy.middleware.meter import Meter
from sseproxy.middleware.reservation import Reservation, rough_tokens
from sseproxy.prices import TablePrice, find_price
from sseproxy.wsgi.client import Linger
from sseproxy.wsgi.exchange import Exchange, Target, User
from tests.harness import PATIENCE

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
NANO = 1000
"""A token of output, at 1 USD per million; input costs nothing unless a test says otherwise."""


class Words:
    """Counts words, and how often it was asked and for how much."""

    def __init__(self) -> None:
        self.calls = 0
        self.characters = 0

    def count(self, text: str, model: str) -> int:
        self.calls += 1
        self.characters += len(text)
        return len(text.split())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLLedger]:
    ledger = open_ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    ledger.close()


def request_of(**fields: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    return Request.parse("completions" if "prompt" in fields else "chat", json.dumps(body).encode())


class Answer:
    """One answer and its reservation."""

    number = 0

    def __init__(self, ledger: SQLLedger, tokens: int, *, price: str | TablePrice = "0", **fields: Any) -> None:
        request = request_of(**fields)
        self.words = Words()
        self.meter = Meter(request, self.words)
        budget = Budget(tokens * NANO, "month")
        applied = price if isinstance(price, TablePrice) else FlatPrice(Decimal(price), Decimal(1))
        self.held = Reservation(ledger, budget, request, applied, self.meter, NOW)
        Answer.number += 1
        self.held.make(Charge(f"c{Answer.number}", "alice", None, "/", "m", "main", "m", 0, NOW))

    def say(self, text: str) -> bool:
        """Whether it may not say any more."""
        self.meter.add(text, "")
        return self.held.is_passed(text, "")

    def run(self, most: int, text: str = "word ") -> int:
        """How many words it could say."""
        return next((number for number in range(1, most + 1) if self.say(text)), most)


def held(ledger: SQLLedger) -> int:
    return ledger.balance("alice", "month", NOW).reserved // NANO


def test_a_stream_may_say_what_the_budget_pays_for_and_a_word_more(ledger: SQLLedger) -> None:
    assert Answer(ledger, 5000).run(10**5) in range(5000, 5010)


def test_a_stream_that_begins_on_what_is_left_may_use_that_up(ledger: SQLLedger) -> None:
    answer = Answer(ledger, 20_000, price="1", prompt="word " * 5_000)  # whose bytes cost more than is left
    assert held(ledger) == 20_000

    assert answer.run(10**5) in range(15_000, 15_010)


@pytest.mark.parametrize("left", [2_000_000, 1_400_000], ids=["more is held", "what is left"])
def test_a_stream_behind_a_long_prompt_may_say_what_its_own_prices_pay_for(ledger: SQLLedger, left: int) -> None:
    price = find_price("gemini-2.5-pro")
    assert isinstance(price, TablePrice)
    answer = Answer(ledger, left, price=price, prompt="word " * 300_000)

    said = answer.run(10**5)
    usage, _ = answer.meter.total()

    assert said < 10**5 and usage.input_tokens > 200_000
    assert left * NANO <= price.cost(usage, NOW) <= (left * NANO) * 1.001


def test_a_stream_whose_process_was_taken_for_dead_may_say_the_rest_too(ledger: SQLLedger) -> None:
    answer = Answer(ledger, 5000)
    assert answer.run(500) == 500
    assert ledger.expire(f"c{Answer.number}")

    assert 500 + answer.run(10**5) in range(5000, 5010)


def test_a_long_answer_costs_few_looks_and_each_word_is_counted_about_once(ledger: SQLLedger) -> None:
    answer = Answer(ledger, 10**9)

    assert answer.run(50_000) == 50_000
    assert answer.words.calls < 80
    assert answer.words.characters < 3 * 50_000 * len("word ")
    assert 50_000 <= held(ledger) <= 2 * 65_536


def test_an_answer_within_its_first_reservation_costs_next_to_nothing(ledger: SQLLedger) -> None:
    answer = Answer(ledger, 10**9)

    assert answer.run(800) == 800
    assert answer.words.calls == 0
    assert held(ledger) == 4096


def test_a_stream_holds_little_where_little_is_left(ledger: SQLLedger) -> None:
    for number in range(16):
        assert held(ledger) == 4096 * number
        Answer(ledger, 31 * 4096 - 1)
    assert held(ledger) == 4096 * 15 + 1024

    Answer(ledger, 16 * 4096 + 1024)
    assert held(ledger) == 4096 * 15 + 2 * 1024


def test_a_stream_that_says_no_more_than_little_holds_no_more(ledger: SQLLedger) -> None:
    Answer(ledger, 10**9, max_tokens=2000)

    assert held(ledger) == 2000


def test_room_is_found_by_counting_without_the_ledger_as_long_as_enough_is_held(ledger: SQLLedger) -> None:
    answer = Answer(ledger, 10**9)
    answer.run(1000)  # more bytes than tokens are held
    calls = answer.words.calls
    for _ in range(160):
        answer.run(4)
        assert answer.held.room() >= 50

    assert answer.words.calls - calls < 20
    assert held(ledger) == 4096


def test_two_streams_share_what_is_left(ledger: SQLLedger) -> None:
    one, two = Answer(ledger, 3000), Answer(ledger, 3000)
    said = [0, 0]
    running = {0: one, 1: two}
    while running:
        for number, answer in list(running.items()):
            said[number] += 1
            if answer.say("word "):
                del running[number]

    assert sum(said) in range(3000, 3030)


def test_without_a_budget_nothing_is_held_and_nothing_ends_the_answer(ledger: SQLLedger) -> None:
    price = FlatPrice(Decimal(1), Decimal(1))
    bill = Bill(ledger, Words(), Exchange("r", "/", request=request_of(), target=Target("main", "m", price)))
    events = [Event(b"{}", read=True, content="word ")] * 5000

    assert list(bill.meter(iter(events))) == events
    assert bill.room() > 0
    assert ledger.balance("anonymous", "month", datetime.now(timezone.utc)).reserved == 0
    bill.release("refused")


def test_what_is_read_on_after_its_client_left_ends_with_the_budget_too(ledger: SQLLedger) -> None:
    user = User("alice", budget=Budget(5000 * NANO, "month"))
    target = Target("main", "m", FlatPrice(Decimal(0), Decimal(1)))
    bill = Bill(
        ledger, Words(), Exchange("r", "/", request=request_of(), user=user, target=target, linger=Linger(PATIENCE))
    )
    events = bill.meter(repeat(Event(b"{}", read=True, content="word "), 20_000))
    next(events)

    bill.read_on()
    bill.hung_up()

    (charge,) = ledger.charges()
    assert (charge["state"], charge["outcome"]) == ("settled", "client_gone")
    assert charge["output_tokens"] in range(5000, 5010)


def test_what_was_lingered_before_a_stream_is_closed_is_not_lingered_again(
    ledger: SQLLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("sseproxy.wsgi.client.monotonic", lambda: now)
    linger = Linger(PATIENCE)
    linger.left()
    bill = Bill(ledger, Words(), Exchange("r", "/", request=request_of(), target=Target("main", "m"), linger=linger))
    events = bill.meter(repeat(Event(b"{}", read=True, content="word "), 100))
    next(events)

    now += PATIENCE
    bill.read_on()
    bill.hung_up()

    (charge,) = ledger.charges()
    assert (charge["outcome"], charge["output_tokens"]) == ("client_gone", 1)


def test_a_client_s_own_limit_is_all_that_is_held(ledger: SQLLedger) -> None:
    Answer(ledger, 10**6, max_tokens=50, n=3)

    assert held(ledger) == 150


@pytest.mark.parametrize(
    ("fields", "answers"),
    [({"best_of": 20}, 20), ({"best_of": 2, "n": 3}, 3), ({"best_of": 5, "n": 3}, 5), ({"best_of": 5, "n": 0}, 5),
     ({"best_of": None}, 1), ({"best_of": "5"}, 5), ({"n": 5.0}, 5), ({"n": "5"}, 5), ({"best_of": -5}, 1),
     ({"n": " 5 "}, 5), ({"n": "+5.0"}, 5), ({"n": "nan"}, 1), ({"n": True}, 1),
     ({"best_of": 5, "prompt": ["a", "b"]}, 10)],
)  # fmt: skip
def test_the_answers_of_which_the_best_come_back_are_held_for_too(
    ledger: SQLLedger, fields: dict[str, Any], answers: int
) -> None:
    Answer(ledger, 10**6, **{"prompt": "hi", "stream": False, "max_tokens": 40, **fields})

    assert held(ledger) == 40 * answers


@pytest.mark.parametrize(
    "asking",
    [
        {"max_completion_tokens": 30_000},
        {"max_tokens": 30_000, "reasoning_effort": "high"},
        {"max_tokens": 30_000, "reasoning": {"effort": "low", "exclude": True}},
        {"max_tokens": 30_000, "reasoning": {"enabled": True}},
        {"max_tokens": 30_000, "reasoning": {"max_tokens": 2000}},
        {"max_tokens": 30_000, "thinking": {"type": "enabled", "budget_tokens": 20_000}},
        {"max_completion_tokens": 30_000, "reasoning": {"summary": "auto"}},
    ],
)
def test_a_stream_that_may_reason_unseen_holds_all_that_it_may_come_to(
    ledger: SQLLedger, asking: dict[str, Any]
) -> None:
    Answer(ledger, 10**6, n=2, **asking)

    assert held(ledger) == 2 * 30_000


@pytest.mark.parametrize(
    "asking",
    [
        {"max_tokens": 30_000},
        {"max_completion_tokens": 30_000, "reasoning_effort": "none"},
        {"max_completion_tokens": 30_000, "reasoning": {"effort": "minimal"}},
        {"max_tokens": 30_000, "reasoning": {"enabled": False}},
        {"max_completion_tokens": 30_000, "thinking": {"type": "disabled"}},
        {"max_tokens": 30_000, "reasoning": None, "reasoning_effort": None, "thinking": None},
        {"max_tokens": 30_000, "max_completion_tokens": None},
    ],
)
def test_a_stream_that_shows_all_its_tokens_holds_no_more_than_a_little(
    ledger: SQLLedger, asking: dict[str, Any]
) -> None:
    Answer(ledger, 10**6, **asking)

    assert held(ledger) == 4096


def test_limits_of_tokens_count_such_a_stream_as_any_other() -> None:
    assert rough_tokens(request_of(max_completion_tokens=30_000)) == rough_tokens(request_of(max_tokens=30_000))


def test_a_stream_that_may_reason_unseen_and_states_no_limit_holds_what_whole_answers_do(ledger: SQLLedger) -> None:
    Answer(ledger, 5000, reasoning_effort="high")
    Answer(ledger, 5000, stream=False)

    assert held(ledger) == 2 * 4096


@pytest.mark.parametrize("whole", [{"stream": False, "max_tokens": 400}, {"max_completion_tokens": 400}])
def test_what_cannot_be_ended_midway_begins_on_what_is_left_one_at_a_time(
    ledger: SQLLedger, whole: dict[str, Any]
) -> None:
    Answer(ledger, 1000, **whole)
    Answer(ledger, 1000, **whole)
    Answer(ledger, 1000, **whole)
    assert held(ledger) == 1200, "the budget and no more than one reservation"

    with pytest.raises(BudgetExceeded) as caught:
        Answer(ledger, 1000, **whole)
    assert caught.value.left == 0
    assert caught.value.retry_after == 1, "nothing is spent yet: what runs will give money back"


def test_a_stream_that_cannot_pay_for_its_input_does_not_begin(ledger: SQLLedger) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        Answer(ledger, 20, price="1000")

    assert caught.value.retry_after == (datetime(2026, 12, 1, tzinfo=timezone.utc) - NOW).total_seconds()
    assert held(ledger) == 0


def test_text_whose_every_byte_is_a_token_is_ended_in_time(ledger: SQLLedger) -> None:
    assert Answer(ledger, 2000).run(10**5, "\u00e9 ") in range(2000, 2010)


def test_text_that_comes_by_letters_may_be_as_long_as_any_other(ledger: SQLLedger) -> None:
    answer = Answer(ledger, 500)
    letters = cycle("internationalization ")

    said = next(number for number in range(10**6) if answer.say(next(letters)))

    assert said // len("internationalization ") in range(500, 510)
