"""ledger/ledger: holding back more for a charge that runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.protocol import Budget, BudgetExceeded, Charge, Settlement

from .conftest import NOON

Make = Callable[..., Charge]
End = Callable[..., Settlement]


def held(books: SQLLedger) -> int:
    return books.balance("alice", "month", NOON).reserved


def test_what_is_held_grows_and_is_given_back_at_the_end(books: SQLLedger, new_charge: Make, completed: End) -> None:
    charge = new_charge(reserved=100)
    books.reserve(charge)

    assert books.extend(charge.id, 50, Budget(150, "month")) is True
    assert held(books) == 150
    books.settle(charge.id, completed(cost=120))
    balance = books.balance("alice", "month", NOON)
    assert (balance.spent, balance.reserved) == (120, 0)


def test_more_than_is_left_is_refused_and_changes_nothing(books: SQLLedger, new_charge: Make, completed: End) -> None:
    other, charge = new_charge(reserved=30), new_charge(reserved=100)
    books.reserve(other)
    books.reserve(charge)

    with pytest.raises(BudgetExceeded) as caught:
        books.extend(charge.id, 21, Budget(150, "month"))
    assert caught.value.left == 20
    assert held(books) == 130
    books.release(charge.id, completed(cost=0))
    assert held(books) == 30


def test_a_charge_that_has_ended_holds_nothing_any_more(books: SQLLedger, new_charge: Make, completed: End) -> None:
    charge = new_charge()
    books.reserve(charge)
    books.settle(charge.id, completed())

    assert books.extend(charge.id, 1, Budget(10**9, "month")) is False
    assert books.extend("nobody", 1, Budget(10**9, "month")) is False
    assert held(books) == 0


def test_many_at_once_hold_no_more_than_the_budget(books: SQLLedger, new_charge: Make) -> None:
    charges = [new_charge(reserved=10) for _ in range(8)]
    for charge in charges:
        books.reserve(charge)

    def extend(charge: Charge) -> int:
        got = 0
        for _ in range(5):
            try:
                got += books.extend(charge.id, 10, Budget(200, "month"))
            except BudgetExceeded:
                break
        return got

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(extend, charges)) == 12
    assert held(books) == 200
