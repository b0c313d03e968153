"""The contract of a ledger, on every store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from sseproxy.core.tries import Try
from sseproxy.core.usage import Usage
from sseproxy.ledger import engine
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import (
    Budget,
    BudgetExceeded,
    Checkpoint,
    DuplicateCharge,
    Ledger,
    LedgerUnavailable,
    Settlement,
)

from .conftest import NOON, Completed, NewCharge


def only_charge(books: SQLLedger) -> dict[str, object]:
    (row,) = books.charges()
    return row


def money(books: SQLLedger, user: str = "alice", at: datetime = NOON) -> set[tuple[int, int]]:
    """Spent and reserved, which must be the same in all periods here."""
    balances = [books.balance(user, per, at) for per in ("total", "month", "week", "day")]
    return {(balance.spent, balance.reserved) for balance in balances}


def test_a_database_ledger_keeps_the_protocol(books: SQLLedger) -> None:
    ledger: Ledger = books

    ledger.ping()


def test_a_reserved_charge_is_pending_and_holds_its_money_back(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1", reserved=1000, key="key_1"))

    row = only_charge(books)

    assert (row["id"], row["state"], row["outcome"], row["usage_source"]) == ("c1", "pending", None, "none")
    assert (row["key"], row["cost_usd"], row["started_at"]) == ("key_1", "0", "2026-11-21T12:00:00.000+00:00")
    assert money(books) == {(0, 1000)}


def test_a_settled_charge_says_what_it_became(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1", reserved=1000))

    assert books.settle("c1", completed(cost=700)) is True

    row = only_charge(books)
    assert (row["state"], row["outcome"], row["usage_source"]) == ("settled", "completed", "reported")
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (10, 4, 5)
    assert (row["reasoning_tokens"], row["prefix_tokens"], row["cost_usd"]) == (2, 3, "0.0000007")
    assert (row["status"], row["first_token_ms"], row["duration_ms"], row["unpriced"]) == (200, 12, 340, False)
    assert money(books) == {(700, 0)}


def test_settling_twice_changes_nothing(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1"))
    books.settle("c1", completed(cost=700))

    assert books.settle("c1", completed(cost=9999)) is False
    assert books.release("c1", completed(cost=0)) is False

    assert only_charge(books)["cost_usd"] == "0.0000007"
    assert money(books) == {(700, 0)}
    assert books.usage()[0]["requests"] == 1


def test_a_released_charge_gives_its_money_back(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1", reserved=1000))

    assert books.release("c1", Settlement("refused", "none", Usage(), 0, 0, 429, None, 8)) is True

    row = only_charge(books)
    assert (row["state"], row["outcome"], row["status"], row["cost_usd"]) == ("released", "refused", 429, "0")
    assert money(books) == {(0, 0)}


def test_a_released_charge_keeps_what_the_vendor_took(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1"))

    books.release("c1", Settlement("upstream_failed", "reported", Usage(), 0, 55, 500, None, 8))

    assert money(books) == {(55, 0)}


def test_a_charge_without_a_price_is_unpriced_unless_the_vendor_names_its_cost(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    for name, cost in (("c1", None), ("c2", 55)):
        books.reserve(new_charge(name, unpriced=True))
        books.settle(name, completed(cost=cost or 0, usage=Usage(10, cost=cost)))

    assert {row["id"]: row["unpriced"] for row in books.charges()} == {"c1": True, "c2": False}
    assert books.usage()[0]["unpriced"] == 1


def test_a_settled_charge_says_who_answered_and_what_was_tried(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("a", unpriced=True))
    tries = (Try("main", "m", error="upstream_unreachable", reached=False), Try("spare", "n", 200))
    books.checkpoint({"a": Checkpoint(Usage(), 0, upstream="main", upstream_model="m", tries=tries[:1])})
    assert [each["error"] for each in only_charge(books)["tries"]] == ["upstream_unreachable"]  # type: ignore[attr-defined]

    books.settle("a", replace(completed(), upstream="spare", upstream_model="n", tries=tries, unpriced=False))

    row = only_charge(books)
    assert (row["upstream"], row["upstream_model"], row["unpriced"]) == ("spare", "n", False)
    assert row["tries"] == [
        {**asdict(tries[0]), "may_be_billed": False},
        {**asdict(tries[1]), "may_be_billed": False},
    ]
    assert [group["upstream"] for group in books.usage("upstream")] == ["spare"]


def test_a_vendor_s_error_code_that_is_no_text_is_booked_with_the_rest(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("a"))
    tries = (Try("main", "m", 200, "no\ud800"), Try("spare", "n\udfff", 200))

    assert books.settle("a", replace(completed(), tries=tries))

    row = only_charge(books)
    assert [(each["error"], each["upstream_model"]) for each in row["tries"]] == [("no?", "m"), (None, "n?")]  # type: ignore[attr-defined]


def test_who_was_reserved_for_answered_unless_it_is_said_otherwise(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("a"))
    books.settle("a", completed())

    row = only_charge(books)
    assert (row["upstream"], row["upstream_model"]) == ("main", "m")
    assert row["tries"] == [{**asdict(Try("main", "m", 200)), "may_be_billed": False}]


def test_an_unknown_charge_is_not_pending(books: SQLLedger, completed: Completed) -> None:
    assert books.settle("nobody", completed()) is False
    assert money(books) == {(0, 0)}


def test_an_id_is_taken_once(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1", reserved=1000))

    with pytest.raises(DuplicateCharge):
        books.reserve(new_charge("c1", reserved=5))

    assert money(books) == {(0, 1000)}


def test_a_time_without_a_zone_is_refused(books: SQLLedger, new_charge: NewCharge) -> None:
    with pytest.raises(ValueError, match="time zone"):
        books.reserve(new_charge(at=datetime(2026, 11, 21)))


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "ü" * 4000, "x" * 100_000, "", "'; DROP TABLE charges; --"])
def test_any_name_can_be_booked(books: SQLLedger, new_charge: NewCharge, completed: Completed, name: str) -> None:
    books.reserve(new_charge("c1", user=name, model=name, key=name, route=name, upstream=name, upstream_model=name))

    assert books.settle("c1", completed(cost=5))
    assert books.balance(name, "total", NOON).spent == 5


def test_long_names_that_begin_alike_stay_apart(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge(user="x" * 5000 + "a", reserved=1))
    books.reserve(new_charge(user="x" * 5000 + "b", reserved=2))

    assert books.balance("x" * 5000 + "a", "total", NOON).reserved == 1


def test_absurd_figures_do_not_break_the_sums(books: SQLLedger, new_charge: NewCharge) -> None:
    for number in range(3):
        books.reserve(new_charge(f"c{number}", reserved=10**30))
        books.settle(
            f"c{number}", Settlement("completed", "reported", Usage(10**30, output_tokens=-5), 0, 10**30, 200, 1, 1)
        )

    (row,) = books.usage()
    assert (row["input_tokens"], row["output_tokens"]) == (3 * 2**53, 0)
    assert money(books) == {(3 * 2**53, 0)}


def test_a_charge_belongs_to_the_periods_in_which_it_started(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    last_second = datetime(2026, 11, 30, 23, 59, 59, tzinfo=timezone.utc)
    books.reserve(new_charge("c1", at=last_second.astimezone(timezone(timedelta(hours=9)))))
    books.settle("c1", completed(cost=7))

    next_month = last_second + timedelta(seconds=1)
    assert books.balance("alice", "month", last_second).spent == 7
    assert books.balance("alice", "month", next_month).spent == 0
    assert books.balance("alice", "week", next_month).spent == 7
    assert books.balance("alice", "day", next_month).spent == 0


def test_a_budget_refuses_what_does_not_fit(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    budget = Budget(limit=1_500_000_000, per="month")
    books.reserve(new_charge("c1", reserved=1_000_000_000), budget)

    with pytest.raises(BudgetExceeded) as refused:
        books.reserve(new_charge("c2", reserved=500_000_001), budget)

    failure = refused.value
    assert (failure.status, failure.type, failure.code) == (429, "insufficient_quota", "insufficient_quota")
    assert (failure.left, failure.renews_at) == (500_000_000, datetime(2026, 12, 1, tzinfo=timezone.utc))
    assert "0.5 USD" in failure.message
    assert "2026-12-01" in failure.message
    assert money(books) == {(0, 1_000_000_000)}
    assert only_charge(books)["id"] == "c1"


def test_a_budget_can_be_spent_to_the_last(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    budget = Budget(limit=1000, per="day")
    books.reserve(new_charge("c1", reserved=400), budget)
    books.settle("c1", completed(cost=600))

    books.reserve(new_charge("c2", reserved=400), budget)

    with pytest.raises(BudgetExceeded, match="0 USD are left"):
        books.reserve(new_charge("c3", reserved=1), budget)


def test_a_budget_renews_with_its_period(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    budget = Budget(limit=1000, per="day")
    books.reserve(new_charge("c1", reserved=1000), budget)
    books.settle("c1", completed(cost=1000))

    books.reserve(new_charge("c2", reserved=1000, at=NOON + timedelta(hours=12)), budget)

    with pytest.raises(BudgetExceeded):
        books.reserve(new_charge("c3", reserved=1000, at=NOON + timedelta(hours=11)), budget)


def test_a_prepaid_budget_never_renews(books: SQLLedger, new_charge: NewCharge) -> None:
    budget = Budget(limit=1000, per="total")
    books.reserve(new_charge(reserved=1000), budget)

    with pytest.raises(BudgetExceeded) as refused:
        books.reserve(new_charge(reserved=1, at=NOON + timedelta(days=4000)), budget)

    assert refused.value.renews_at is None


def test_an_overdrawn_user_has_nothing_left(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1", reserved=10))
    books.settle("c1", completed(cost=5000))

    with pytest.raises(BudgetExceeded) as refused:
        books.reserve(new_charge(reserved=0), Budget(limit=1000, per="month"))

    assert refused.value.left == 0


def test_a_budget_given_late_counts_what_was_spent_before(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("c1"))
    books.settle("c1", completed(cost=700))

    with pytest.raises(BudgetExceeded):
        books.reserve(new_charge(reserved=400), Budget(limit=1000, per="week"))


def test_a_running_charge_can_hold_back_more(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    budget = Budget(limit=1000, per="month")
    books.reserve(new_charge("c1", reserved=400), budget)

    assert books.extend("c1", 600, budget) is True
    assert money(books) == {(0, 1000)}

    books.settle("c1", completed(cost=950))
    assert money(books) == {(950, 0)}


def test_what_a_budget_does_not_cover_is_not_held_back(books: SQLLedger, new_charge: NewCharge) -> None:
    budget = Budget(limit=1000, per="month")
    books.reserve(new_charge("c1", reserved=400), budget)

    with pytest.raises(BudgetExceeded) as refused:
        books.extend("c1", 601, budget)

    assert refused.value.left == 600
    assert money(books) == {(0, 400)}
    books.release("c1", Settlement("refused", "none", Usage(), 0, 0, 429, None, 8))
    assert money(books) == {(0, 0)}


def test_a_charge_that_ended_holds_nothing_back(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1"))
    books.settle("c1", completed(cost=700))

    assert books.extend("c1", 5, Budget(limit=1000, per="month")) is False
    assert money(books) == {(700, 0)}


def in_threads(number: int, work: Callable[[int], object]) -> list[object]:
    """Run at once; the barrier lets all start together."""
    barrier = threading.Barrier(number)

    def start(index: int) -> object:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(start, range(number)))


def test_concurrent_requests_cannot_overrun_a_budget(books: SQLLedger, new_charge: NewCharge) -> None:
    budget = Budget(limit=10_000, per="month")

    def ask(number: int) -> int:
        try:
            books.reserve(new_charge(f"c{number}", reserved=1000), budget)
        except BudgetExceeded:
            return 0
        return 1

    assert sum(map(int, map(str, in_threads(24, ask)))) == 10
    assert money(books) == {(0, 10_000)}


def test_of_many_that_settle_a_charge_one_does(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1"))

    def end(number: int) -> bool:
        return (books.settle if number % 2 else books.release)("c1", completed(cost=number))

    assert in_threads(16, end).count(True) == 1
    assert books.usage()[0]["requests"] == 1


def test_threads_of_several_users_lose_nothing(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    def work(worker: int) -> None:
        for number in range(20):
            charge = new_charge(f"c{worker}-{number}", user=f"u{number % 3}")
            books.reserve(charge, Budget(10**12, "week"))
            assert books.settle(charge.id, completed(cost=10))

    in_threads(12, work)

    rows = books.usage()
    assert [row["requests"] for row in rows] == [84, 84, 72]
    assert sum(books.balance(f"u{number}", "total", NOON).spent for number in range(3)) == 2400
    assert {books.balance(f"u{number}", "total", NOON).reserved for number in range(3)} == {0}


def forked(work: Iterable[Callable[[], object]]) -> list[int]:
    """Run each in a forked child; exit codes."""
    children = []
    for job in work:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                job()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_processes_share_the_books(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("before"))

    def work(child: int) -> None:
        for number in range(25):
            books.reserve(new_charge(f"c{child}-{number}"), Budget(10**12, "month"))
            assert books.settle(f"c{child}-{number}", completed(cost=10))

    assert forked(partial(work, child) for child in range(4)) == [0] * 4
    assert books.settle("before", completed(cost=10))

    assert books.usage()[0]["requests"] == 101
    assert money(books) == {(1010, 0)}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="open files are looked up in /proc")
def test_no_connection_is_carried_over_a_fork(sqlite_books: SQLLedger, new_charge: NewCharge) -> None:
    sqlite_books.reserve(new_charge("c1"))
    sqlite_books.ping()

    def look() -> None:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        assert not [link for link in links if os.path.exists(link) and "books.db" in os.readlink(link)]

    assert forked([look]) == [0]
    sqlite_books.ping()
    with pytest.raises(AssertionError):
        look()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_open_what_has_taken_the_place_of_its_parent_s_file(
    sqlite_books: SQLLedger, tmp_path: Path
) -> None:
    sqlite_books.ping()
    for path in tmp_path.glob("books.db*"):
        path.unlink()

    def look() -> None:
        with pytest.raises(LedgerUnavailable):
            sqlite_books.ping()

    assert forked([look]) == [0]
    assert not (tmp_path / "books.db").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_what_a_child_leaves_pending_is_its_own(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("parent", reserved=1))

    assert forked([lambda: books.reserve(new_charge("child", reserved=2))]) == [0]

    assert books.recover() == 1
    states = {row["id"]: row["state"] for row in books.charges()}
    assert states == {"parent": "pending", "child": "expired"}


def test_a_checkpoint_is_seen_before_the_end(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1"))

    books.checkpoint({"c1": Checkpoint(Usage(10, output_tokens=3), cost=30, duration_ms=2000)})

    row = only_charge(books)
    assert (row["state"], row["output_tokens"], row["cost_usd"], row["usage_source"]) == (
        "pending",
        3,
        "0.00000003",
        "counted",
    )
    assert money(books) == {(0, 1000)}
    assert books.usage()[0]["cost_usd"] == "0.00000003"


def test_a_checkpoint_that_comes_late_changes_nothing(
    books: SQLLedger, new_charge: NewCharge, completed: Completed
) -> None:
    books.reserve(new_charge("c1"))
    books.settle("c1", completed(cost=700))

    books.checkpoint({"c1": Checkpoint(Usage(1), cost=1), "unknown": Checkpoint(Usage(1), cost=1)})

    assert only_charge(books)["cost_usd"] == "0.0000007"


def test_closed_books_open_again(books: SQLLedger, new_charge: NewCharge, completed: Completed) -> None:
    books.reserve(new_charge("c1"))
    books.close()
    books.close()

    assert books.settle("c1", completed())


def test_two_ledgers_on_one_database_see_each_other(
    books: SQLLedger, url: str, new_charge: NewCharge, completed: Completed
) -> None:
    other = open_ledger(url)
    books.reserve(new_charge("c1"))

    assert other.settle("c1", completed(cost=700))
    assert books.settle("c1", completed(cost=700)) is False
    other.close()


def test_a_database_that_is_away_is_a_503(new_charge: NewCharge) -> None:
    with pytest.raises(LedgerUnavailable) as failure:
        open_ledger("postgresql://user:hunter2@127.0.0.1:1/books")

    assert (failure.value.status, failure.value.type, failure.value.code) == (503, "server_error", "ledger_unavailable")
    assert "hunter2" not in str(failure.value)


def test_a_connection_that_the_server_closed_is_replaced(
    new_database: Callable[[], str], new_charge: NewCharge, completed: Completed
) -> None:
    import psycopg

    url = new_database()
    books = open_ledger(url)
    books.reserve(new_charge("c1"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert books.settle("c1", completed())
    books.close()


def test_a_database_that_others_hold_is_a_503_and_books_nothing(
    tmp_path: object, new_charge: NewCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    books = open_ledger(f"sqlite:///{tmp_path}/books.db")
    books.reserve(new_charge("c1"))
    other = sqlite3.connect(f"{tmp_path}/books.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerUnavailable):
        books.reserve(new_charge("c2"))
    with pytest.raises(LedgerUnavailable):
        books.settle("c1", Settlement("completed", "none", Usage(), 0, 0, 200, None, 1))
    with pytest.raises(LedgerUnavailable):
        books.ping()

    other.execute("ROLLBACK")
    other.close()
    books.ping()
    books.reserve(new_charge("c2"))
    assert money(books) == {(0, 2000)}
    books.close()


def test_books_in_memory_are_books(new_charge: NewCharge, completed: Completed) -> None:
    books = open_ledger("sqlite://")
    books.reserve(new_charge("c1"), Budget(10**9, "day"))

    in_threads(4, lambda _: books.settle("c1", completed(cost=700)))

    assert money(books) == {(700, 0)}
    assert books.usage("day")[0]["requests"] == 1
