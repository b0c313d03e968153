"""Reports add up to what the charges say, whatever time is asked for."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import event

from sseproxy.core.pricing import usd_to_nano
from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.protocol import Checkpoint, GroupBy, Settlement
from sseproxy.ledger.reports import usage_of_days

from .conftest import NOON, Completed, NewCharge

GROUPS: tuple[GroupBy, ...] = ("user", "model", "day", "route", "key", "upstream")
SUMS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")


def book_at_random(books: SQLLedger, new_charge: NewCharge, number: int, dice: random.Random) -> None:
    """Charges of all states, over ten days around the end of a month, several at the very edges of days."""
    for index in range(number):
        at = datetime(2026, 11, 26, tzinfo=timezone.utc) + timedelta(days=dice.randrange(10))
        at += timedelta(microseconds=dice.choice([0, 1, 86_399_999_999, dice.randrange(86_400_000_000)]))
        charge = new_charge(
            f"c{index}",
            user=dice.choice(["alice", "bob", "carol"]),
            key=dice.choice([None, "key_1", "key_2"]),
            model=dice.choice(["m1", "m2"]),
            route=dice.choice(["/v1/chat/completions", "/gpt/summary"]),
            upstream=dice.choice(["main", "demo"]),
            unpriced=dice.random() < 0.2,
            at=at,
        )
        books.reserve(charge)
        usage = Usage(dice.randrange(1000), dice.randrange(10), 0, dice.randrange(100), dice.randrange(10))
        end = dice.choice(["settle", "settle", "release", "checkpoint", "nothing"])
        if end in ("settle", "release"):
            cost = dice.randrange(10**6)
            getattr(books, end)(charge.id, Settlement("completed", "reported", usage, 0, cost, 200, 1, 2))
        elif end == "checkpoint":
            books.checkpoint({charge.id: Checkpoint(usage, cost=dice.randrange(10**6))})


def add_up(rows: list[dict[str, Any]], by: GroupBy) -> dict[Any, dict[str, Any]]:
    groups: dict[Any, dict[str, Any]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        name = row["started_at"][:10] if by == "day" else row[by]
        group = groups[name]
        group["requests"] += 1
        group["pending"] += row["state"] == "pending"
        group["unpriced"] += row["unpriced"]
        group["cost"] += usd_to_nano(row["cost_usd"])
        for column in SUMS:
            group[column] += row[column]
    return groups


def test_sums_are_those_of_the_charges_at_every_edge(books: SQLLedger, new_charge: NewCharge) -> None:
    dice = random.Random(4)
    book_at_random(books, new_charge, 150, dice)
    midnight = datetime(2026, 12, 1, tzinfo=timezone.utc)
    tokyo = timezone(timedelta(hours=9))
    times: list[datetime | None] = [
        None,
        midnight,
        midnight + timedelta(microseconds=1),
        midnight - timedelta(microseconds=1),
        midnight.replace(tzinfo=tokyo),
        midnight + timedelta(hours=12),
        midnight + timedelta(hours=13),
        midnight - timedelta(days=3),
        midnight + timedelta(days=400),
    ]
    for by in GROUPS:
        for since, until in [(dice.choice(times), dice.choice(times)) for _ in range(12)]:
            user = dice.choice([None, "alice", "nobody"])
            rows = books.usage(by, user=user, since=since, until=until)
            expected = add_up(list(books.charges(user=user, since=since, until=until)), by)

            assert {row[by] for row in rows} == set(expected)
            for row in rows:
                group = expected[row[by]]
                assert usd_to_nano(row["cost_usd"]) == group["cost"]
                assert {name: row[name] for name in (*SUMS, "requests", "pending", "unpriced")} == {
                    name: group[name] for name in (*SUMS, "requests", "pending", "unpriced")
                }


def test_a_row_has_the_columns_that_are_promised(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1"))
    books.settle("c1", completed())

    assert list(books.usage("model")[0]) == [
        "user",
        "model",
        "requests",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_usd",
        "pending",
        "unpriced",
    ]
    assert list(next(iter(books.charges()))) == [
        "id",
        "user",
        "key",
        "route",
        "model",
        "upstream",
        "upstream_model",
        "state",
        "outcome",
        "usage_source",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "prefix_tokens",
        "cost_usd",
        "status",
        "started_at",
        "first_token_ms",
        "duration_ms",
        "unpriced",
        "tries",
    ]


def test_a_group_of_one_user_names_the_user(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge(user="alice", model="both"))
    books.reserve(new_charge(user="bob", model="both"))
    books.reserve(new_charge(user="bob", model="bobs"))

    assert {row["model"]: row["user"] for row in books.usage("model")} == {"both": None, "bobs": "bob"}


def test_the_dearest_comes_first_and_days_come_in_order(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    for number, (user, cost) in enumerate([("a", 5), ("b", 9), ("c", 7)]):
        books.reserve(new_charge(f"c{number}", user=user, at=NOON - timedelta(days=cost)))
        books.settle(f"c{number}", completed(cost=cost))

    assert [row["user"] for row in books.usage()] == ["b", "c", "a"]
    assert [row["day"] for row in books.usage("day")] == ["2026-11-12", "2026-11-14", "2026-11-16"]


def test_charges_are_listed_the_oldest_first_and_a_limit_keeps_the_newest(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    for number in (3, 1, 2):
        books.reserve(new_charge(f"c{number}", at=NOON + timedelta(minutes=number)))
    books.settle("c2", completed())

    assert [row["id"] for row in books.charges()] == ["c1", "c2", "c3"]
    assert [row["id"] for row in books.charges(limit=2)] == ["c2", "c3"]
    assert [row["id"] for row in books.charges(state="pending")] == ["c1", "c3"]
    assert [row["id"] for row in books.charges(since=NOON + timedelta(minutes=2))] == ["c2", "c3"]
    assert [row["id"] for row in books.charges(until=NOON + timedelta(minutes=2))] == ["c1"]
    assert list(books.charges(user="nobody")) == []


def test_empty_books_have_no_rows(books: SQLLedger) -> None:
    assert [books.usage(by) for by in GROUPS] == [[]] * 6
    assert books.usage(since=NOON, until=NOON - timedelta(days=1)) == []


def test_an_unknown_grouping_is_refused(books: SQLLedger) -> None:
    with pytest.raises(ValueError, match="no such grouping: 'colour'; expected one of day, key"):
        books.usage("colour")  # type: ignore[arg-type]


def test_a_report_of_pending_charges_looks_at_no_other(sqlite_books: SQLLedger) -> None:
    from sseproxy.ledger.reports import _group_of, _pending_charges

    for by in GROUPS:
        for user in (None, "alice"):
            query = _pending_charges([_group_of(by)], user, 0, 1).compile(sqlite_books.database.engine)
            with sqlite_books.database.read() as connection:
                plan = connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {query}", tuple(query.params[name] for name in query.positiontup or ())
                ).all()

            assert "charges_pending" in str(plan)


@pytest.mark.parametrize("seed", [1, 2])
def test_whole_days_by_four_groupings_at_once_are_the_four_reports(
    books: SQLLedger, new_charge: NewCharge, seed: int
) -> None:
    book_at_random(books, new_charge, 120, random.Random(seed))
    since, until = datetime(2026, 11, 28, tzinfo=timezone.utc), datetime(2026, 12, 3, tzinfo=timezone.utc)
    with books.database.read() as connection:
        found = usage_of_days(connection, since, until)
        with pytest.raises(ValueError, match="whole days"):
            usage_of_days(connection, since, NOON)

    assert found == {by: books.usage(by, since=since, until=until) for by in ("user", "key", "day", "model")}
    assert sum(row["requests"] for row in found["user"]) > 0


def test_a_charge_that_ends_while_a_report_is_read_is_in_it_once(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("c1"))
    books.checkpoint({"c1": Checkpoint(Usage(1), cost=30)})
    queries = 0

    def end(*_: object) -> None:
        nonlocal queries
        queries += 1
        if queries == 3:
            books.settle("c1", completed(cost=700))

    event.listen(books.database.engine, "before_execute", end)
    (row,) = books.usage()
    assert (row["requests"], row["cost_usd"]) == (1, "0.00000003")

    (row,) = books.usage()
    assert (row["requests"], row["cost_usd"]) == (1, "0.0000007")
