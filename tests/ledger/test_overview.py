"""What the dashboard reads beside the reports, against what the charges say one by one; on both databases."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sseproxy.core.pricing import usd_to_nano
from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.overview import FAILED, OUTCOMES, Overview, Quality
from sseproxy.ledger.protocol import Checkpoint, Settlement

from .conftest import Completed, NewCharge

DAY_ONE = datetime(2026, 11, 1, tzinfo=timezone.utc)
END = DAY_ONE + timedelta(days=5)


def book(books: SQLLedger, new_charge: NewCharge, number: int, seed: int) -> list[dict[str, Any]]:
    """Charges of all ends and none, some without a first token, a few outside of the five days; what was booked."""
    dice = random.Random(seed)
    booked = []
    for index in range(number):
        at = DAY_ONE + timedelta(seconds=dice.choice([-1, 5 * 86_400, *(dice.randrange(5 * 86_400) for _ in range(8))]))
        model = dice.choice(["m1", "m2", "m3"])
        outcome = dice.choice([*OUTCOMES[:4], "pending"])
        ms = dice.choice([None, 0, 7, 7, dice.randrange(5000), int(dice.lognormvariate(6, 1))])
        charge = new_charge(f"c{index}", model=model, at=at)
        books.reserve(charge)
        if outcome != "pending":
            books.settle(charge.id, Settlement(outcome, "reported", Usage(3, 1, 0, 2, 1), 0, 1_000, 200, ms, 9000))
        booked.append({"at": at, "model": model, "outcome": outcome, "ms": ms})
    return booked


def expected(rows: list[dict[str, Any]]) -> Quality:
    times = sorted(row["ms"] for row in rows if row["ms"] is not None)
    percentiles = {percent: times[math.ceil(len(times) * percent / 100) - 1] for percent in (50, 95, 99) if times}
    outcomes = Counter(row["outcome"] for row in rows)
    return Quality(len(rows), {name: outcomes[name] for name in OUTCOMES}, percentiles)


@pytest.mark.parametrize("slot", ["day", "hour"])
@pytest.mark.parametrize("seed", [1, 2])
def test_outcomes_and_percentiles_are_those_of_counting_one_by_one(
    books: SQLLedger, new_charge: NewCharge, seed: int, slot: Any
) -> None:
    rows = book(books, new_charge, 150, seed)
    ended = [row for row in rows if DAY_ONE <= row["at"] < END and row["outcome"] != "pending"]
    found = Overview(books.database).quality(DAY_ONE, END, slot)

    def begin(at: datetime) -> datetime:
        return at.replace(minute=0, second=0) if slot == "hour" else at.replace(hour=0, minute=0, second=0)

    assert found.every == 1
    assert found.all == expected(ended)
    assert found.all.errors == sum(row["outcome"] in FAILED for row in ended) > 0
    assert found.models == {
        model: expected([row for row in ended if row["model"] == model]) for model in {row["model"] for row in ended}
    }
    assert found.slots == {
        start: expected([row for row in ended if begin(row["at"]) == start])
        for start in {begin(row["at"]) for row in ended}
    }


def test_of_nothing_there_is_no_percentile(books: SQLLedger, new_charge: NewCharge) -> None:
    overview = Overview(books.database)
    assert overview.quality(DAY_ONE, END).all == Quality(0, dict.fromkeys(OUTCOMES, 0), {})

    charge = new_charge(at=DAY_ONE)
    books.reserve(charge)
    books.release(charge.id, Settlement("refused", "none", Usage(), 0, 0, 503, None, 9))
    assert overview.quality(DAY_ONE, END).all == Quality(1, {**dict.fromkeys(OUTCOMES, 0), "refused": 1}, {})


@pytest.mark.parametrize("apart", [timedelta(minutes=30), timedelta(seconds=1), timedelta(microseconds=16_667)])
def test_a_large_range_is_sampled_evenly_and_boundedly(
    books: SQLLedger, new_charge: NewCharge, apart: timedelta
) -> None:
    for index in range(240):
        charge = new_charge(f"s{index}", at=DAY_ONE + apart * index)
        books.reserve(charge)
        books.settle(charge.id, Settlement("completed", "reported", Usage(), 0, 0, 200, 100 + index, 900))
    found = Overview(books.database).quality(DAY_ONE, END, sample=60)

    assert found.every == 4
    assert 45 <= found.all.requests <= 75
    assert len(found.slots) == (240 * apart).days + 1 - (apart.seconds == 1800)
    assert 200 <= found.all.percentiles[50] <= 240


def test_hours_add_up_to_what_the_report_says(books: SQLLedger, new_charge: NewCharge) -> None:
    book(books, new_charge, 120, 3)
    hours = Overview(books.database).hours(DAY_ONE, END)
    whole = books.usage("day", since=DAY_ONE, until=END)

    for name in ("requests", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "pending"):
        assert sum(row[name] for row in hours) == sum(row[name] for row in whole), name
    assert sum(usd_to_nano(row["cost_usd"]) for row in hours) == sum(usd_to_nano(row["cost_usd"]) for row in whole)
    assert [row["hour"] for row in hours] == sorted({row["hour"] for row in hours})


def test_what_runs_is_what_is_pending_with_its_last_checkpoint(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    for index in range(5):
        books.reserve(new_charge(f"r{index}", user=f"u{index}", key="key_1", at=DAY_ONE + timedelta(hours=index)))
    books.settle("r4", completed())
    books.checkpoint({"r3": Checkpoint(Usage(11, output_tokens=22), cost=2_000)})
    count, rows = Overview(books.database).running(most=3)

    assert count == 4
    assert [row["id"] for row in rows] == ["r3", "r2", "r1"]
    assert rows[0] == {
        "id": "r3", "user": "u3", "key": "key_1", "model": "m", "route": "/v1/chat/completions", "upstream": "main",
        "started_at": DAY_ONE + timedelta(hours=3), "input_tokens": 11, "output_tokens": 22, "cost_usd": "0.000002",
    }  # fmt: skip
