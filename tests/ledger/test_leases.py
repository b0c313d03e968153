"""A process that dies leaves nothing pending, and a process that lives loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from sseproxy.core.usage import Usage
from sseproxy.ledger import leases, schema
from sseproxy.ledger.database import Database
from sseproxy.ledger.leases import Lease, Process
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import Budget, BudgetExceeded, Charge, Checkpoint, Settlement
from tests.harness.clock import Clock

from .conftest import NOON, Completed, NewCharge

RUNNING = {"c1": Checkpoint(Usage(10, output_tokens=3), cost=30, prefix_tokens=2, duration_ms=2000)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def far(url: str, books: SQLLedger, clock: Clock) -> Iterator[SQLLedger]:
    """A ledger in a process of another machine."""
    ledger = SQLLedger(Database(url), lease=30, clock=clock, process=Process("another machine", "7/7"))
    yield ledger
    ledger.close()


@pytest.fixture
def near(url: str, books: SQLLedger, clock: Clock) -> Iterator[SQLLedger]:
    """A ledger in this process, whose clock goes when it is told."""
    ledger = SQLLedger(Database(url), lease=30, clock=clock)
    yield ledger
    ledger.close()


def state_of(books: SQLLedger, charge_id: str = "c1") -> str:
    return next(str(row["state"]) for row in books.charges() if row["id"] == charge_id)


def test_a_charge_of_a_living_process_stays_pending(books: SQLLedger, url: str, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1"))

    other = open_ledger(url)

    assert other.recover() == 0
    assert state_of(books) == "pending"
    other.close()


def test_a_process_elsewhere_is_gone_when_its_lease_ran_out(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge
) -> None:
    far.reserve(new_charge("c1", reserved=1000))
    far.checkpoint(RUNNING)
    assert near.recover() == 0

    clock.now += 29
    assert near.recover() == 0
    clock.now += 1
    assert near.recover() == 1

    (row,) = near.charges()
    assert (row["state"], row["outcome"], row["usage_source"]) == ("expired", "expired", "counted")
    assert (row["input_tokens"], row["output_tokens"], row["prefix_tokens"], row["cost_usd"]) == (
        10,
        3,
        2,
        "0.00000003",
    )
    balance = near.balance("alice", "month", NOON)
    assert (balance.spent, balance.reserved) == (30, 0)
    assert near.usage()[0]["requests"] == 1
    assert near.recover() == 0


def test_whoever_gives_signs_keeps_its_charges(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge
) -> None:
    far.reserve(new_charge("c1"))
    for _ in range(10):
        near.recover()
        clock.now += 20
        far.checkpoint({})

    assert near.recover() == 0
    assert state_of(near) == "pending"


def _outlast_an_outage(far: SQLLedger, near: SQLLedger, clock: Clock, charge: Charge) -> None:
    far.reserve(charge)
    near.checkpoint({})
    near.recover()
    clock.now += 60  # in which nobody could write


def test_the_silence_of_an_outage_is_no_sign_of_death(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge
) -> None:
    _outlast_an_outage(far, near, clock, new_charge("c1"))
    near.checkpoint({})
    assert near.recover() == 0

    for _ in range(3):
        assert state_of(near) == "pending"
        clock.now += 10
        near.checkpoint({})
        near.recover()
    assert state_of(near) == "expired"


def test_a_child_forked_after_an_outage_does_not_go_by_what_its_parent_saw_before(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge
) -> None:
    _outlast_an_outage(far, near, clock, new_charge("c1"))

    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            near.checkpoint({})
            near.recover()
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert state_of(near) == "pending"


def let_lease_run_out(near: SQLLedger, clock: Clock) -> None:
    """A peer sees no sign of any other process for longer than a lease."""
    near.recover()
    clock.now += 31
    near.recover()


def test_what_a_process_that_was_taken_for_dead_says_of_its_charge_takes_the_place_of_the_guess(
    far: SQLLedger,
    near: SQLLedger,
    clock: Clock,
    new_charge: NewCharge,
    completed: Completed,
    caplog: pytest.LogCaptureFixture,
) -> None:
    far.reserve(new_charge("c1", reserved=1000))
    far.checkpoint(RUNNING)
    let_lease_run_out(near, clock)
    assert state_of(near) == "expired"

    assert far.settle("c1", completed(cost=700)) is True
    assert "charge c1 was taken for one of a process that died" in caplog.text
    assert (far.settle("c1", completed(cost=1)), far.release("c1", completed(cost=1)), near.expire("c1")) == (
        False,
    ) * 3

    (row,) = near.charges()
    assert (row["state"], row["usage_source"], row["output_tokens"]) == ("settled", "reported", 5)
    balance = near.balance("alice", "day", NOON)
    assert (balance.spent, balance.reserved) == (700, 0)
    (sums,) = near.usage()
    assert (sums["requests"], sums["output_tokens"], sums["cost_usd"]) == (1, 5, "0.0000007")


def test_what_was_taken_for_lost_and_came_to_nothing_is_given_back(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge
) -> None:
    far.reserve(new_charge("c1"))
    far.checkpoint(RUNNING)
    let_lease_run_out(near, clock)

    assert far.release("c1", Settlement("upstream_failed", "none", Usage(), 0, 0, 502, None, 8)) is True

    assert state_of(near) == "released"
    balance = near.balance("alice", "day", NOON)
    assert (balance.spent, balance.reserved) == (0, 0)


def test_an_answer_whose_process_was_taken_for_dead_goes_on_with_what_it_holds(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("c1", "c2"):
        far.reserve(new_charge(name, reserved=100))
    far.checkpoint(RUNNING)
    let_lease_run_out(near, clock)
    assert near.balance("alice", "day", NOON).reserved == 0

    with pytest.raises(BudgetExceeded) as refused:
        far.extend("c1", 101, Budget(200, "day"))
    assert refused.value.left == 100
    assert far.extend("c1", 100, Budget(200, "day")) is True
    assert caplog.messages == ["charge c1 was taken for one of a process that died; it is pending again"]

    balance = near.balance("alice", "day", NOON)
    assert (balance.spent, balance.reserved) == (0, 200)
    assert [(state_of(near, name)) for name in ("c1", "c2")] == ["pending", "expired"]


def test_what_a_process_notes_of_charges_that_were_taken_for_lost_makes_them_pending_again(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    for name in ("c1", "c2", "c3"):
        far.reserve(new_charge(name, reserved=100))
    far.settle("c3", completed(cost=7))
    let_lease_run_out(near, clock)

    far.checkpoint({**RUNNING, "c2": Checkpoint(Usage(1), cost=5), "c3": Checkpoint(Usage(1), cost=1)})

    rows = {row["id"]: (row["state"], row["outcome"], row["cost_usd"]) for row in near.charges()}
    assert rows == {
        "c1": ("pending", None, "0.00000003"),
        "c2": ("pending", None, "0.000000005"),
        "c3": ("settled", "completed", "0.000000007"),
    }
    balance = near.balance("alice", "day", NOON)
    assert (balance.spent, balance.reserved) == (7, 200)
    assert near.recover() == 0
    let_lease_run_out(near, clock)
    assert near.balance("alice", "day", NOON).spent == 42


def test_a_process_that_was_taken_for_dead_can_go_on(
    far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    far.reserve(new_charge("c1"))
    let_lease_run_out(near, clock)

    far.reserve(new_charge("c2"))
    assert near.recover() == 0
    clock.now += 20
    far.checkpoint({})
    assert near.recover() == 0
    clock.now += 20
    assert near.recover() == 0
    assert far.settle("c2", completed()) is True


def test_several_that_recover_expire_each_charge_once(
    url: str, far: SQLLedger, near: SQLLedger, clock: Clock, new_charge: NewCharge
) -> None:
    for number in range(20):
        far.reserve(new_charge(f"c{number}", reserved=10))
    other = SQLLedger(Database(url), lease=30, clock=clock)
    near.recover()
    other.recover()
    clock.now += 31

    assert near.recover() + other.recover() == 20
    other.close()
    assert near.balance("alice", "total", NOON).reserved == 0


def test_threads_that_begin_a_process_at_once_begin_one(tmp_path: Path) -> None:
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(20):
            database = Database(f"sqlite:///{tmp_path}/{number}.db")
            database.migrate()
            lease, together = Lease(database, 30, time.monotonic), threading.Barrier(8)

            def begin(lease: Lease = lease, together: threading.Barrier = together) -> str:
                together.wait()
                lease.keep()
                return lease.owner

            with ThreadPoolExecutor(8) as pool:
                owners = {each.result() for each in [pool.submit(begin) for _ in range(8)]}
            with database.read() as connection:
                assert {row.id for row in connection.execute(select(schema.owners))} == owners
            assert len(owners) == 1
            database.close()
    finally:
        sys.setswitchinterval(switch_interval)


def test_a_process_that_leaves_nothing_is_forgotten(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1"))
    books.release("c1", Settlement("refused", "none", Usage(), 0, 0, 400, None, 1))
    books.close()

    assert owners_in(books) == []


def test_a_process_that_closes_with_work_undone_is_not_forgotten(books: SQLLedger, new_charge: NewCharge) -> None:
    books.reserve(new_charge("c1"))
    books.close()

    assert len(owners_in(books)) == 1


def owners_in(books: SQLLedger) -> list[str]:
    from sqlalchemy import select

    from sseproxy.ledger.schema import owners

    with books.database.read() as connection:
        return list(connection.scalars(select(owners.c.id)))


CHILD = """
import sys
from datetime import datetime, timezone
from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import open_ledger
from sseproxy.ledger.protocol import Charge, Checkpoint

books = open_ledger(sys.argv[1])
at = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
for name in ("c1", "c2"):
    books.reserve(Charge(name, "alice", None, "/v1", "m", "main", "m", 1000, at))
books.checkpoint({"c1": Checkpoint(Usage(10, output_tokens=3), cost=30)})
print("booked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(url: str) -> str:
    """The URL of books that a process with two running streams was killed over."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    assert child.stdout.readline() == b"booked\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    return url


@pytest.mark.skipif(not leases._PROC.exists(), reason="processes are looked up in /proc")
def test_the_next_start_recovers_what_a_killed_process_left(killed: str) -> None:
    books = open_ledger(killed)

    rows = {row["id"]: (row["state"], row["cost_usd"], row["usage_source"]) for row in books.charges()}
    assert rows == {"c1": ("expired", "0.00000003", "counted"), "c2": ("expired", "0", "none")}
    balance = books.balance("alice", "total", NOON)
    assert (balance.spent, balance.reserved) == (30, 0)
    assert owners_in(books) == []
    books.close()


def test_a_killed_process_loses_no_committed_charge(killed: str) -> None:
    books = open_ledger(killed)

    assert sorted(str(row["id"]) for row in books.charges()) == ["c1", "c2"]
    books.close()


def test_this_process_runs() -> None:
    assert not Process.current().is_gone()


@pytest.mark.skipif(not leases._PROC.exists(), reason="processes are looked up in /proc")
def test_a_dead_process_is_gone_even_while_its_parent_has_not_looked() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    process = Process(Process.current().place, leases._life_of(child) or "")
    assert not process.is_gone()

    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

    assert process.is_gone()
    os.waitpid(child, 0)
    assert process.is_gone()


@pytest.mark.skipif(not leases._PROC.exists(), reason="processes are looked up in /proc")
def test_a_later_process_with_the_same_id_is_another_one() -> None:
    now = Process.current()

    assert Process(now.place, f"{os.getpid()}/1").is_gone()


def test_of_a_process_elsewhere_nothing_is_known() -> None:
    assert not Process("another machine", "1/1").is_gone()
    assert not Process("", "1/1").is_gone()
