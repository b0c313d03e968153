"""ledger/endings: however charges end, and in whatever order it is said, balances and sums are what the charges say."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.protocol import Budget, Checkpoint
from sseproxy.ledger.schema import ALL_DAYS, balances, charges, daily_usage
from sseproxy.ledger.statements import SUMS
from tests.harness import PATIENCE

from .conftest import NOON, Completed, NewCharge

GROUP = ("user", "day", "model", "route", "key", "upstream")
DAY = 86400 * 10**6
NEXT = {
    "pending": {"settle": "settled", "release": "released", "expire": "expired"},
    "expired": {"settle": "settled", "release": "released", "note": "pending", "extend": "pending"},
    "settled": {},
    "released": {},
}


def rows(books: SQLLedger, table: Any) -> list[dict[str, Any]]:
    with books.database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def booked(books: SQLLedger) -> tuple[dict[Any, Counter[str]], dict[Any, Counter[str]]]:
    """The sums by group and the balances, as they are kept."""
    sums = {
        tuple(row[name] for name in GROUP): Counter({name: row[name] for name in SUMS})
        for row in rows(books, daily_usage)
    }
    held = {
        (row["user"], row["day"]): Counter(spent=row["spent"], reserved=row["reserved"])
        for row in rows(books, balances)
    }
    return sums, held


def added_up(books: SQLLedger) -> tuple[dict[Any, Counter[str]], dict[Any, Counter[str]]]:
    """The same, of the charges themselves."""
    sums: dict[Any, Counter[str]] = {}
    held: dict[Any, Counter[str]] = {}
    for row in rows(books, charges):
        row |= {"day": row["started_at"] // DAY, "key": row["key"] or "", "requests": 1}
        runs = row["state"] == "pending"
        for day in (row["day"], ALL_DAYS):
            amounts = {"spent": 0, "reserved": row["reserved"]} if runs else {"spent": row["cost"], "reserved": 0}
            held.setdefault((row["user"], day), Counter()).update(amounts)
        if not runs:
            group = tuple(row[name] for name in GROUP)
            sums.setdefault(group, Counter()).update({name: int(row[name]) for name in SUMS})
    return sums, held


@pytest.mark.parametrize("seed", range(6))
def test_sums_and_balances_are_those_of_the_charges_whatever_was_said_of_them(
    books: SQLLedger, new_charge: NewCharge, completed: Completed, seed: int
) -> None:
    chance = random.Random(seed)
    states = {f"c{number}": "pending" for number in range(8)}
    for name in states:
        at = NOON + timedelta(days=chance.randrange(2))
        user, key = chance.choice(("alice", "bob")), chance.choice((None, "k"))
        books.reserve(
            new_charge(name, user, reserved=chance.randrange(900), at=at, key=key, unpriced=chance.random() < 0.5)
        )
    for _ in range(60):
        name, step = chance.choice(list(states)), chance.choice(("settle", "release", "expire", "note", "extend"))
        usage = Usage(chance.randrange(90), output_tokens=chance.randrange(90), cost=chance.choice((None, 1)))
        upstream = chance.choice(("main", "spare", None))
        becomes = NEXT[states[name]].get(step)
        if step == "note":
            books.checkpoint({name: Checkpoint(usage, chance.randrange(500), upstream=upstream)})
        elif step == "extend":
            runs = states[name] == "pending" or becomes == "pending"
            assert books.extend(name, chance.randrange(100), Budget(10**9, "day")) is runs
        elif step == "expire":
            assert books.expire(name) is (becomes is not None)
        else:
            settlement = replace(completed(chance.randrange(500), usage), upstream=upstream)
            assert getattr(books, step)(name, settlement) is (becomes is not None)
        states[name] = becomes or states[name]

        assert {row["id"]: row["state"] for row in rows(books, charges)} == states
        assert booked(books) == added_up(books)


def test_of_many_that_know_better_than_the_guess_one_is_heard(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    names = [f"c{number}" for number in range(6)]
    for name in names:
        books.reserve(new_charge(name))
    work = [(getattr(books, step), name) for name in names for step in ("expire", "settle", "release", "settle")]

    def end(step: Any, name: str) -> bool:
        said: bool = step(name) if step == books.expire else step(name, completed(cost=len(name)))
        return said

    with ThreadPoolExecutor(8) as pool:
        heard = Counter(
            name for (_, name), was in zip(work, pool.map(lambda each: end(*each), work), strict=True) if was
        )

    # Once by whoever ran it, and by whoever took that one for dead, if that came first.
    assert {row["state"] for row in rows(books, charges)} <= {"settled", "released"}
    assert all(1 <= heard[name] <= 2 for name in names)
    assert booked(books) == added_up(books)


def test_an_upstream_that_only_the_guess_had_named_is_in_no_sum(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("c1"))
    books.checkpoint({"c1": Checkpoint(Usage(10), 30, upstream="main")})
    books.expire("c1")

    books.settle("c1", replace(completed(), upstream="spare"))

    assert [(row["upstream"], row["requests"]) for row in books.usage("upstream")] == [("spare", 1)]


def test_a_process_that_others_take_for_dead_again_and_again_keeps_what_it_holds(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    names = [f"c{number}" for number in range(4)]
    for name in names:
        books.reserve(new_charge(name, reserved=100))

    taken = threading.Event()

    def run(name: str) -> bool:
        for number in range(10):
            assert number < 5 or taken.wait(PATIENCE)
            assert books.extend(name, 10, Budget(10**6, "total"))
            books.checkpoint({each: Checkpoint(Usage(number), number, upstream=name) for each in names})
        return books.settle(name, completed(cost=7))

    def take_for_dead(name: str) -> None:
        for number in itertools.count():
            if books.expire(name):
                taken.set()
            if number >= 30 and taken.is_set():
                return

    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(take_for_dead, name) for name in names]
        assert all(pool.map(run, names))
        for guess in guesses:
            guess.result()

    assert {(row["state"], row["cost_usd"]) for row in books.charges()} == {("settled", "0.000000007")}
    assert booked(books) == added_up(books)
