"""While the database is away nothing is lost and nothing booked twice; while it is there, a journal changes nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import datetime
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sseproxy.core.tries import Try
from sseproxy.core.usage import Usage
from sseproxy.ledger import engine
from sseproxy.ledger.database import Database
from sseproxy.ledger.journal import JournalingLedger
from sseproxy.ledger.journal_file import LINE_LIMIT, JournalFile
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.opening import open_journaled
from sseproxy.ledger.protocol import (
    Budget,
    BudgetExceeded,
    Charge,
    Checkpoint,
    Ledger,
    LedgerUnavailable,
    Settlement,
)
from tests.harness.clock import Clock

from . import test_ledger
from .conftest import NOON, Completed, NewCharge


class Switched:
    """A ledger that can be away. ``deaf``: it does what it is told, and its answer is lost.

    ``silent``: for so many seconds, before it fails.
    """

    def __init__(self, ledger: SQLLedger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.away = self.deaf = False
        self.silent = 0
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.asked += 1
            if self.away:
                self.clock.now += self.silent
                raise LedgerUnavailable(in_doubt=False)
            answer = getattr(self.ledger, name)(*args, **options)
            if self.deaf:
                raise LedgerUnavailable()
            return answer

        return call


class Journalling(JournalingLedger):
    """With the listing that the contract's tests look at."""

    def charges(self, **which: Any) -> Any:
        return self.ledger.charges(**which)  # type: ignore[attr-defined]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A journal knows nothing of the database, so that one will do."""
    return f"sqlite:///{tmp_path}/books.db"


@pytest.fixture
def books(url: str, tmp_path: Path) -> Iterator[Journalling]:
    """What the contract of a ledger is tested with here."""
    ledger = Journalling(open_ledger(url), tmp_path / "usage.journal", True)
    yield ledger
    ledger.close()
    assert list(tmp_path.glob("usage.journal*")) == []


# The whole contract holds with a journal around the ledger.
globals().update(
    {
        name: test
        for name, test in vars(test_ledger).items()
        if name.startswith("test_") and "books" in signature(test).parameters
    }
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inner(sqlite_books: SQLLedger, clock: Clock) -> Switched:
    return Switched(sqlite_books, clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.journal"


@pytest.fixture
def open_one(inner: Switched, path: Path, clock: Clock) -> Callable[..., JournalingLedger]:
    """Opens one more ledger on the same database and journal, as another process would."""

    def create(serve: bool = True) -> JournalingLedger:
        ledger: Ledger = inner  # type: ignore[assignment]
        return JournalingLedger(ledger, path, serve, clock=clock)

    return create


@pytest.fixture
def serving(open_one: Callable[..., JournalingLedger]) -> JournalingLedger:
    return open_one()


@pytest.fixture
def refusing(open_one: Callable[..., JournalingLedger]) -> JournalingLedger:
    return open_one(serve=False)


def states(books: SQLLedger) -> dict[str, tuple[object, object, object]]:
    return {str(row["id"]): (row["state"], row["outcome"], row["cost_usd"]) for row in books.charges()}


SETTLED = ("settled", "completed", "0.0000007")


def test_a_settlement_waits_for_the_ledger(
    inner: Switched, refusing: JournalingLedger, path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    refusing.reserve(new_charge("c1", reserved=1000))
    inner.away = True

    assert refusing.settle("c1", completed(cost=700)) is True
    assert path.read_bytes().count(b"\n") == 1
    assert refusing.replay() == 0

    inner.away = False
    assert refusing.replay() == 1
    assert states(inner.ledger) == {"c1": SETTLED}
    assert inner.ledger.balance("alice", "total", NOON).spent == 700
    assert path.read_bytes() == b""


def test_a_journalled_settlement_says_too_that_its_vendor_named_the_cost(
    inner: Switched, refusing: JournalingLedger, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    for name, cost in (("c1", None), ("c2", 55)):
        refusing.reserve(new_charge(name, unpriced=True))
        inner.away = True
        refusing.settle(name, completed(cost=cost or 0, usage=Usage(10, cost=cost)))
        inner.away = False
        clock.now += 2
        assert refusing.replay() == 1

    assert {row["id"]: row["unpriced"] for row in inner.ledger.charges()} == {"c1": True, "c2": False}


def test_a_request_is_refused_while_the_ledger_is_away(
    inner: Switched, refusing: JournalingLedger, path: Path, new_charge: NewCharge
) -> None:
    inner.away = True

    with pytest.raises(LedgerUnavailable):
        refusing.reserve(new_charge("c1"))

    assert not path.exists()
    with pytest.raises(LedgerUnavailable):
        refusing.ping()


def test_a_request_is_served_from_the_journal_if_it_is_to_be(
    inner: Switched, serving: JournalingLedger, new_charge: NewCharge, completed: Completed
) -> None:
    inner.away = True
    serving.reserve(new_charge("c1"), Budget(0, "day"))
    serving.reserve(new_charge("c2"))
    serving.ping()
    assert serving.settle("c1", completed(cost=700))
    assert serving.release("c2", Settlement("refused", "none", Usage(), 0, 0, 429, None, 8))

    inner.away = False

    assert serving.replay() == 2
    assert states(inner.ledger) == {"c1": SETTLED, "c2": ("released", "refused", "0")}
    assert serving.replay() == 0
    with pytest.raises(BudgetExceeded):
        serving.reserve(new_charge("c3"), Budget(0, "day"))


def test_a_charge_may_be_reserved_here_and_settled_there(
    inner: Switched, serving: JournalingLedger, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    inner.away = True
    serving.reserve(new_charge("c1"))
    inner.away = False
    clock.now += 10

    # The ledger is back, and does not know the charge yet.
    assert serving.settle("c1", completed(cost=700))
    assert serving.replay() == 1
    assert states(inner.ledger) == {"c1": SETTLED}


def test_a_running_charge_goes_over_into_the_ledger(
    inner: Switched, serving: JournalingLedger, path: Path, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    inner.away = True
    serving.reserve(new_charge("c1", reserved=1000))
    inner.away = False
    clock.now += 10

    assert serving.replay() == 0
    assert states(inner.ledger) == {"c1": ("pending", None, "0")}
    assert path.read_bytes() == b""
    assert serving.settle("c1", completed(cost=700))
    assert path.read_bytes() == b""
    assert states(inner.ledger) == {"c1": SETTLED}


def test_what_another_process_runs_is_its_own_to_bring_in(
    inner: Switched,
    open_one: Callable[..., JournalingLedger],
    path: Path,
    clock: Clock,
    new_charge: NewCharge,
    completed: Completed,
) -> None:
    one, other = open_one(), open_one()
    inner.away = True
    one.reserve(new_charge("c1"))
    other.reserve(new_charge("c2"))
    one.reserve(new_charge("c3"))
    one.settle("c3", completed(cost=700))
    inner.away = False
    clock.now += 10

    assert other.replay() == 1
    assert states(inner.ledger) == {"c2": ("pending", None, "0"), "c3": SETTLED}
    one.replay()
    other.replay()
    assert states(inner.ledger).keys() == {"c1", "c2", "c3"}
    assert path.read_bytes() == b""
    assert one.settle("c1", completed())
    assert other.settle("c2", completed())


def test_what_the_ledger_did_without_saying_so_is_not_done_twice(
    inner: Switched, serving: JournalingLedger, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    inner.deaf = True
    serving.reserve(new_charge("c1", reserved=1000))
    serving.settle("c1", completed(cost=700))
    clock.now += 10
    inner.deaf = False
    serving.reserve(new_charge("c2", reserved=1000))
    inner.deaf = True
    serving.settle("c2", completed(cost=700))
    inner.deaf = False

    serving.replay()

    assert states(inner.ledger) == {"c1": SETTLED, "c2": SETTLED}
    balance = inner.ledger.balance("alice", "total", NOON)
    assert (balance.spent, balance.reserved) == (1400, 0)
    assert inner.ledger.usage()[0]["requests"] == 2


def test_a_refused_request_that_was_booked_all_the_same_is_given_back(
    inner: Switched, refusing: JournalingLedger, new_charge: NewCharge
) -> None:
    inner.deaf = True
    with pytest.raises(LedgerUnavailable):
        refusing.reserve(new_charge("c1", reserved=1000))
    inner.deaf = False

    refusing.replay()

    assert states(inner.ledger) == {"c1": ("released", "refused", "0")}
    assert inner.ledger.balance("alice", "total", NOON).reserved == 0


def test_a_refused_request_that_the_ledger_books_only_later_is_given_back_then(
    inner: Switched, refusing: JournalingLedger, clock: Clock, new_charge: NewCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*_: object) -> None:
        raise LedgerUnavailable

    late = new_charge("c1", reserved=1000)
    with monkeypatch.context() as slow, pytest.raises(LedgerUnavailable):
        slow.setattr(inner.ledger, "reserve", give_up)
        refusing.reserve(late)
    refusing.replay()
    inner.ledger.reserve(late)  # whose commit the database had only put off

    refusing.replay()
    assert states(inner.ledger) == {"c1": ("released", "refused", "0")}
    inner.asked = 0
    refusing.replay()
    assert inner.asked == 0


def test_of_a_refused_request_that_the_ledger_never_books_it_is_not_asked_for_ever(
    inner: Switched, refusing: JournalingLedger, clock: Clock, new_charge: NewCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*_: object) -> None:
        raise LedgerUnavailable

    with monkeypatch.context() as slow, pytest.raises(LedgerUnavailable):
        slow.setattr(inner.ledger, "reserve", give_up)
        refusing.reserve(new_charge())
    clock.now += 61
    refusing.replay()
    inner.asked = 0

    refusing.replay()
    assert inner.asked == 0


def test_a_request_that_is_refused_for_want_of_a_journal_too_is_given_back(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge
) -> None:
    path.mkdir()
    inner.deaf = True
    with pytest.raises(LedgerUnavailable):
        serving.reserve(new_charge("c1", reserved=1000))
    inner.deaf = False
    path.rmdir()

    serving.replay()

    assert states(inner.ledger) == {"c1": ("released", "refused", "0")}


def test_of_requests_that_the_ledger_never_heard_of_none_is_given_back(
    inner: Switched, refusing: JournalingLedger, new_charge: NewCharge
) -> None:
    inner.away = True
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            refusing.reserve(new_charge())
    inner.away, inner.asked = False, 0

    refusing.replay()

    assert inner.asked == 1, "whether it is back"


def test_what_comes_into_doubt_while_others_are_given_back_is_given_back_too(
    inner: Switched, refusing: JournalingLedger, new_charge: NewCharge
) -> None:
    def reserve_unheard(name: str) -> None:
        inner.deaf = True
        with pytest.raises(LedgerUnavailable):
            refusing.reserve(new_charge(name, reserved=1000))
        inner.deaf = False

    release = inner.ledger.release
    late = iter(["c2"])

    def release_meanwhile(charge_id: str, settlement: Settlement) -> bool:
        for name in late:
            reserve_unheard(name)
        return release(charge_id, settlement)

    inner.ledger.release = release_meanwhile  # type: ignore[method-assign]
    reserve_unheard("c1")

    refusing.replay()
    refusing.replay()

    assert {state for state, _, _ in states(inner.ledger).values()} == {"released"}
    assert inner.ledger.balance("alice", "total", NOON).reserved == 0


def test_a_replay_that_is_broken_off_is_begun_again(
    inner: Switched, serving: JournalingLedger, path: Path, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    inner.away = True
    for number in range(9):
        serving.reserve(new_charge(f"c{number}"))
        serving.settle(f"c{number}", completed(cost=700))
    inner.away = False
    settle = inner.ledger.settle
    left = iter([True] * 4)

    def fail_at_last(charge_id: str, settlement: Settlement) -> bool:
        if not next(left, False):
            raise LedgerUnavailable()
        return settle(charge_id, settlement)

    inner.ledger.settle = fail_at_last  # type: ignore[method-assign]
    serving.replay()
    assert path.stat().st_size > 0
    inner.ledger.settle = settle  # type: ignore[method-assign]

    assert serving.replay() == 5
    assert set(states(inner.ledger).values()) == {SETTLED}
    assert inner.ledger.balance("alice", "total", NOON).spent == 6300


def test_a_key_cannot_be_looked_up_while_the_ledger_is_away(inner: Switched, serving: JournalingLedger) -> None:
    assert serving.find_key("0" * 64) is None
    inner.away = True

    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            serving.find_key("0" * 64)


def test_a_ledger_that_is_away_is_not_asked_for_every_request(
    inner: Switched, serving: JournalingLedger, clock: Clock, new_charge: NewCharge
) -> None:
    inner.away = True
    for _ in range(20):
        serving.reserve(new_charge())
    assert inner.asked == 1

    clock.now += 5
    serving.reserve(new_charge())
    assert inner.asked == 2


@pytest.mark.parametrize("serve", [False, True])
def test_while_one_looks_whether_the_ledger_is_back_nobody_else_asks(
    serve: bool,
    inner: Switched,
    open_one: Callable[..., JournalingLedger],
    clock: Clock,
    new_charge: NewCharge,
    completed: Completed,
) -> None:
    books = open_one(serve)
    books.reserve(new_charge("running", reserved=10))
    asked: list[int] = []

    def ask_meanwhile() -> None:
        before = inner.asked
        for name in ("c1", "c2"):
            with nullcontext() if serve else pytest.raises(LedgerUnavailable):
                books.reserve(new_charge(name))
            with nullcontext() if serve else pytest.raises(LedgerUnavailable):
                books.extend("running", 1, Budget(10**9, "day"))
        books.settle("running", completed(cost=700))
        asked.append(inner.asked - before)
        raise LedgerUnavailable(in_doubt=False)

    inner.away, inner.silent = True, 5
    books.settle("unknown", completed(cost=700))
    inner.away = False
    inner.ledger.ping = ask_meanwhile  # type: ignore[method-assign]
    for _ in range(3):
        clock.now += 1
        books.replay()

    assert asked == [0, 0, 0]


def test_a_failure_that_comes_at_once_refuses_nobody_else(
    inner: Switched, refusing: JournalingLedger, new_charge: NewCharge, completed: Completed
) -> None:
    refusing.reserve(new_charge("running"))
    inner.away = True
    refusing.settle("running", completed(cost=700))
    inner.away = False

    refusing.reserve(new_charge("c1"))

    assert states(inner.ledger)["c1"] == ("pending", None, "0")


def test_who_holds_back_more_and_finds_the_ledger_back_lets_the_next_request_in(
    inner: Switched, refusing: JournalingLedger, clock: Clock, new_charge: NewCharge
) -> None:
    refusing.reserve(new_charge("running"))
    inner.away, inner.silent = True, 5
    with pytest.raises(LedgerUnavailable):
        refusing.reserve(new_charge("c1"))
    inner.away = False
    clock.now += 3

    assert refusing.extend("running", 1, Budget(10**9, "day"))
    refusing.reserve(new_charge("c2"))

    assert states(inner.ledger).keys() == {"running", "c2"}


def test_what_fails_while_a_replay_goes_on_refuses_nobody_after_it(
    inner: Switched, refusing: JournalingLedger, new_charge: NewCharge, completed: Completed
) -> None:
    refusing.reserve(new_charge("running"))
    inner.away, inner.silent = True, 5
    refusing.settle("running", completed(cost=700))
    inner.away = False
    settle = inner.ledger.settle

    def settle_meanwhile(charge_id: str, settlement: Settlement) -> bool:
        inner.away = True
        with pytest.raises(LedgerUnavailable):
            refusing.reserve(new_charge("c1"))
        inner.away = False
        return settle(charge_id, settlement)

    inner.ledger.settle = settle_meanwhile  # type: ignore[method-assign]
    assert refusing.replay() == 1

    refusing.reserve(new_charge("c2"))

    assert states(inner.ledger) == {"running": SETTLED, "c2": ("pending", None, "0")}


def test_a_ledger_that_says_that_it_is_ready_lets_the_next_request_in(
    inner: Switched, refusing: JournalingLedger, new_charge: NewCharge
) -> None:
    inner.away, inner.silent = True, 5
    with pytest.raises(LedgerUnavailable):
        refusing.reserve(new_charge("c1"))
    inner.away = False

    refusing.ping()
    refusing.reserve(new_charge("c2"))

    assert states(inner.ledger) == {"c2": ("pending", None, "0")}


def test_a_replay_with_nothing_to_do_asks_nobody(inner: Switched, serving: JournalingLedger, path: Path) -> None:
    assert serving.replay() == 0
    assert inner.asked == 0
    assert not path.exists()


def test_a_torn_line_spoils_no_other(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    inner.away = True
    serving.reserve(new_charge("c1"))
    with path.open("ab") as file:
        file.write(b'{"is":"ended","id":"c1","beca')
    serving.settle("c1", completed(cost=700))
    with path.open("ab") as file:
        file.write(b'{"is":')
    inner.away = False

    assert serving.replay() == 1
    assert states(inner.ledger) == {"c1": SETTLED}
    assert Path(f"{path}.rejected").read_bytes() == b'{"is":"ended","id":"c1","beca\n{"is":\n'


@pytest.mark.parametrize("line", [b"\0" * 5000, b"[]", b'{"is":"x"}', b"\xff\n", b"x" * 3 * LINE_LIMIT])
def test_what_is_no_entry_is_set_aside(inner: Switched, serving: JournalingLedger, path: Path, line: bytes) -> None:
    path.write_bytes(line)

    assert serving.replay() == 0
    assert path.read_bytes() == b""
    assert Path(f"{path}.rejected").exists()


def test_an_end_that_the_books_know_no_charge_for_is_set_aside_with_a_warning_for_the_books_that_do(
    inner: Switched,
    refusing: JournalingLedger,
    path: Path,
    new_charge: NewCharge,
    completed: Completed,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusing.reserve(new_charge("c1"))
    inner.away = True
    refusing.settle("c1", completed(cost=700))

    other = open_journaled(f"sqlite:///{path.parent}/other.db", path)
    other.close()
    _, warning = (record.getMessage() for record in caplog.records if record.name == "sseproxy.accounting")
    assert "charge c1 " in warning and " 0.0000007 USD " in warning and f"{path}.rejected" in warning

    Path(f"{path}.rejected").rename(path)
    right = open_journaled(inner.ledger.database.url.render_as_string(), path)
    assert states(inner.ledger) == {"c1": SETTLED}
    right.close()


def test_a_line_names_no_other_file(inner: Switched, serving: JournalingLedger, path: Path) -> None:
    path.write_text('{"is":"reserved","owner":"../../x","charge":{}}\n')

    serving.replay()

    assert path.read_bytes() == b""


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "ü" * 4000, "x" * 100_000, ""])
def test_any_name_fits_into_a_line(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge, completed: Completed, name: str
) -> None:
    inner.away = True
    serving.reserve(new_charge("c1", user=name, model=name, key=name, route=name, upstream=name, upstream_model=name))
    tried = (Try(name, name, 503, name), Try("main", "m", 200)) * 20
    serving.checkpoint({"c1": Checkpoint(Usage(1), cost=30, tries=tried)})
    serving.settle("c1", replace(completed(), cost=10**30, usage=Usage(10**30, output_tokens=-5), tries=tried))
    assert max(map(len, path.read_bytes().splitlines())) < LINE_LIMIT
    inner.away = False

    assert serving.replay() == 1
    assert serving.balance(name, "total", NOON).spent == 2**53
    (row,) = inner.ledger.charges()
    assert row["tries"][-1]["error"] is None and len(row["tries"]) >= 2


def test_a_time_without_a_zone_is_refused_here_too(
    inner: Switched, serving: JournalingLedger, new_charge: NewCharge
) -> None:
    inner.away = True

    with pytest.raises(ValueError, match="time zone"):
        serving.reserve(new_charge(at=datetime(2026, 11, 21)))


def test_a_journal_that_cannot_be_written_refuses_requests_and_keeps_settlements(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    serving.reserve(new_charge("c1"))
    inner.away = True
    path.mkdir()

    assert serving.settle("c1", completed(cost=700))
    with pytest.raises(LedgerUnavailable):
        serving.reserve(new_charge("c2"))
    with pytest.raises(LedgerUnavailable):
        serving.ping()
    path.rmdir()
    inner.away = False

    assert serving.replay() == 1
    assert states(inner.ledger) == {"c1": SETTLED}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("owner_of", ["the journal", "its folder"])
def test_what_root_makes_beside_a_journal_belongs_to_its_owner(path: Path, owner_of: str) -> None:
    stranger = 65534
    if owner_of == "the journal":
        path.touch()
    os.chown(path if owner_of == "the journal" else path.parent, stranger, stranger)
    file = JournalFile(path)

    with file.alone():
        file.append(b"line")
        file.set_aside(b"line")
        file.owner()

    assert {each.stat().st_uid for each in path.parent.glob(f"{path.name}*")} == {stranger}
    file.let_go()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_was_there_before_is_not_given_away(path: Path, tmp_path: Path) -> None:
    (tmp_path / "shadow").touch()
    path.touch()
    os.chown(path, 65534, 65534)
    path.with_name(f"{path.name}.lock").symlink_to(tmp_path / "shadow")

    with JournalFile(path).alone():
        pass

    assert (tmp_path / "shadow").stat().st_uid == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process on this system")
def test_a_disk_without_room_for_a_line_lets_no_request_in(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge
) -> None:
    import resource

    inner.away = True
    serving.reserve(new_charge("c1"))
    serving.ping()
    written = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LINE_LIMIT // 2, limits[1]))
    try:
        with pytest.raises(LedgerUnavailable):
            serving.ping()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    serving.ping()
    assert path.read_bytes() == written


def test_what_cannot_be_written_stands_in_nobodys_way(
    inner: Switched, serving: JournalingLedger, new_charge: NewCharge, completed: Completed
) -> None:
    serving.reserve(new_charge("c1"))
    inner.away = True
    serving.reserve(new_charge("c2"))
    for long in ("c1", "c2"):
        assert serving.settle(long, completed(outcome="x" * LINE_LIMIT))
    serving.reserve(new_charge("c3"))
    assert serving.settle("c3", completed(cost=700))
    inner.away = False

    assert serving.replay() == 3
    long = ("settled", "x" * LINE_LIMIT, "0.0000007")
    assert states(inner.ledger) == {"c1": long, "c2": long, "c3": SETTLED}
    assert serving.replay() == 0


def test_a_settlement_in_memory_waits_for_no_disk(
    inner: Switched, refusing: JournalingLedger, path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    refusing.reserve(new_charge("c1"))
    inner.away = True
    path.mkdir()
    refusing.settle("c1", completed(cost=700))
    inner.away = False

    refusing.replay()

    assert states(inner.ledger) == {"c1": SETTLED}
    path.rmdir()


def test_a_ledger_that_can_only_be_read_does_not_answer_again(
    sqlite_books: SQLLedger,
    path: Path,
    new_charge: NewCharge,
    completed: Completed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    books = SQLLedger(Database(sqlite_books.database.url.render_as_string()))
    journaling = JournalingLedger(books, path)
    books.reserve(new_charge("c1"))
    with sqlite_books.database.write():
        journaling.settle("c1", completed(cost=700))

        assert journaling.replay() == 0
        with pytest.raises(LedgerUnavailable):
            journaling.ping()
        assert "the ledger answers again" not in caplog.messages

    assert journaling.replay() == 1
    journaling.ping()
    assert caplog.messages[-1] == "the ledger answers again"
    journaling.close()


def test_the_log_says_why_the_ledger_is_away_and_clients_do_not_hear_of_it(
    sqlite_books: SQLLedger,
    path: Path,
    new_charge: NewCharge,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    locked = SQLLedger(Database(sqlite_books.database.url.render_as_string()))
    unreachable = SQLLedger(Database("postgresql://user:hunter2@127.0.0.1:1/books"))
    with sqlite_books.database.write():
        for books in (locked, unreachable):
            with pytest.raises(LedgerUnavailable) as failure:
                JournalingLedger(books, path).reserve(new_charge(user="eve"))
            assert failure.value.message == "The ledger is not available; try again later."

    of_sqlite, of_postgresql = caplog.messages
    assert of_sqlite.endswith(": database is locked")
    assert "refused" in of_postgresql.partition(f"{path}: ")[2] and "\n" not in of_postgresql
    assert "eve" not in caplog.text and "hunter2" not in caplog.text
    locked.close()


def test_checkpoints_are_journalled_too_and_only_if_they_say_something_new(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge
) -> None:
    serving.reserve(new_charge("c1"))
    inner.away = True
    serving.checkpoint({"c1": Checkpoint(Usage(10, output_tokens=3), cost=30)})
    size = path.stat().st_size
    serving.checkpoint({"c1": Checkpoint(Usage(10, output_tokens=3), cost=30, duration_ms=2000)})
    assert path.stat().st_size == size
    inner.away = False

    serving.replay()

    assert states(inner.ledger) == {"c1": ("pending", None, "0.00000003")}


def test_what_was_journalled_goes_before_what_is_taken_for_lost(
    inner: Switched, path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    pytest.importorskip("fcntl")
    inner.ledger.reserve(new_charge("c1"))
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            mine = Switched(inner.ledger, inner.clock)
            ledger = JournalingLedger(mine, path, True)  # type: ignore[arg-type]
            ledger.reserve(new_charge("c2"))
            mine.away = True
            ledger.settle("c2", completed(cost=700))
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    url = inner.ledger.database.url.render_as_string()
    opened = open_journaled(url, path)

    assert states(inner.ledger) == {"c1": ("pending", None, "0"), "c2": SETTLED}
    opened.close()


def test_what_was_journalled_takes_the_place_of_what_was_taken_for_lost(
    inner: Switched, refusing: JournalingLedger, clock: Clock, new_charge: NewCharge, completed: Completed
) -> None:
    refusing.reserve(new_charge("c1", reserved=1000))
    inner.away = True
    refusing.settle("c1", completed(cost=700))
    assert inner.ledger.expire("c1")  # by a machine that still reached the ledger

    inner.away = False
    clock.now += 2
    assert [refusing.replay(), refusing.replay()] == [1, 0]

    assert states(inner.ledger) == {"c1": SETTLED}
    balance = inner.ledger.balance("alice", "month", NOON)
    assert (balance.spent, balance.reserved) == (700, 0)


def test_a_journal_that_cannot_be_read_keeps_nobodys_charges_pending(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge
) -> None:
    pytest.importorskip("fcntl")
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            inner.ledger.reserve(new_charge("c1"))
        os._exit(0)
    os.waitpid(child, 0)
    path.mkdir()

    assert serving.recover() == 1


def test_a_journal_that_cannot_be_read_is_told_of_once_and_when_that_changes_or_is_over(
    serving: JournalingLedger, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("fcntl")
    path.mkdir()
    for _ in range(3):
        serving.replay()
    path.rmdir()
    path.symlink_to(path)
    for _ in range(3):
        serving.replay()
    path.unlink()
    for _ in range(3):
        serving.replay()

    assert [message.rpartition(": ")[0] or message for message in caplog.messages] == [
        f"the journal {path} cannot be read or written: [Errno {errno.EISDIR}] Is a directory",
        f"the journal {path} cannot be read or written: [Errno {errno.ELOOP}] Too many levels of symbolic links",
        f"the journal {path} can be read and written again",
    ]


def test_a_journal_that_cannot_even_be_looked_for_keeps_nothing_from_being_noted(
    inner: Switched, clock: Clock, tmp_path: Path, new_charge: NewCharge, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no_folder").touch()
    ledger: Ledger = inner  # type: ignore[assignment]
    books = JournalingLedger(ledger, tmp_path / "no_folder" / "usage.journal", clock=clock)
    books.reserve(new_charge("c1"))

    books.checkpoint({"c1": Checkpoint(Usage(10, output_tokens=3), cost=30, prefix_tokens=2, duration_ms=2000)})

    assert [row["input_tokens"] for row in inner.ledger.charges()] == [10]
    assert "Not a directory" in caplog.text


CHILD = """
import sys, threading
from datetime import datetime, timezone
from sseproxy.core.usage import Usage
from sseproxy.ledger.opening import open_journaled
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.protocol import Charge, Checkpoint, LedgerUnavailable, Settlement

ledger = open_journaled(sys.argv[1], sys.argv[2], serve=True)
at = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
name = sys.argv[3]

def charge(number):
    return Charge(f"{name}-{number}", "alice", None, "/v1", "m", "main", "m", 1000, at)

def settle(number):
    ledger.settle(f"{name}-{number}", Settlement("completed", "reported", Usage(10), 0, 700, 200, 1, 1))

def away(*args):
    raise LedgerUnavailable

for number in range(4):
    ledger.reserve(charge(number))
for method in ("reserve", "settle", "release", "checkpoint", "ping"):
    setattr(ledger.ledger, method, away)
for number in range(4, 8):
    ledger.reserve(charge(number))
ledger.checkpoint({f"{name}-{number}": Checkpoint(Usage(5), cost=30) for number in (3, 7)})
for number in (0, 1, 2, 4, 5, 6):
    settle(number)
print("written", flush=True)
number = 8
while True:
    ledger.reserve(charge(number))
    settle(number)
    print(number, flush=True)
    number += 1
"""


def killed_while_writing(url: str, path: Path, names: list[str]) -> dict[str, int]:
    """Processes that journal as fast as they can, until kill -9; what each had been told is on the disk."""
    children = {
        name: subprocess.Popen([sys.executable, "-c", CHILD, url, str(path), name], stdout=subprocess.PIPE)
        for name in names
    }
    last: dict[str, int] = {}
    for name, child in children.items():
        assert child.stdout
        assert child.stdout.readline() == b"written\n"
        for _ in range(20):
            last[name] = int(child.stdout.readline())
    for name, child in children.items():
        assert child.stdout
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        last[name] = max([last[name], *(int(each) for each in rest if each)])
        child.stdout.close()
        child.wait()
    return last


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_kill_9_between_the_journal_and_the_ledger_loses_nothing(
    store: str, url: str, path: Path, request: pytest.FixtureRequest
) -> None:
    if store == "postgresql":
        url = request.getfixturevalue("new_database")()
    pytest.importorskip("fcntl")
    open_ledger(url).close()
    last = killed_while_writing(url, path, ["a", "b"])

    opened = open_journaled(url, path)

    assert isinstance(opened.ledger, SQLLedger)
    found = states(opened.ledger)
    for name in last:
        told = {f"{name}-{number}" for number in range(8, last[name] + 1)}
        assert {found[each] for each in told | {f"{name}-{number}" for number in (0, 1, 2, 4, 5, 6)}} == {SETTLED}
        assert {found[f"{name}-{number}"] for number in (3, 7)} == {("expired", "expired", "0.00000003")}
    assert {state for state, _, _ in found.values()} == {"settled", "expired"}
    settled = sum(state == "settled" for state, _, _ in found.values())
    balance = opened.balance("alice", "total", NOON)
    # A reservation whose settlement was killed in between is expired at nothing.
    assert (balance.spent, balance.reserved) == (700 * settled + 4 * 30, 0)
    opened.close()
    assert sorted(path.parent.glob("usage.journal*")) == [path, Path(f"{path}.lock")]
    assert path.read_bytes() == b""


def test_threads_and_processes_write_whole_lines(
    inner: Switched,
    open_one: Callable[..., JournalingLedger],
    clock: Clock,
    new_charge: NewCharge,
    completed: Completed,
) -> None:
    ledgers = [open_one() for _ in range(4)]
    inner.away = True

    def work(worker: int) -> None:
        for number in range(20):
            ledger = ledgers[worker % 4]
            ledger.reserve(new_charge(f"c{worker}-{number}"))
            ledger.settle(f"c{worker}-{number}", completed(cost=10))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inner.away = False

    assert ledgers[0].replay() == 160
    assert inner.ledger.balance("alice", "total", NOON).spent == 1600


def test_a_replay_meets_those_who_still_write(
    inner: Switched, open_one: Callable[..., JournalingLedger], path: Path, clock: Clock, new_charge: NewCharge
) -> None:
    """The database comes and goes while four threads work and two of them replay; each charge is booked once."""
    ledgers = [open_one() for _ in range(2)]
    done = Settlement("completed", "reported", Usage(1), 0, 10, 200, 1, 1)

    def work(worker: int) -> None:
        ledger = ledgers[worker % 2]
        for number in range(60):
            inner.away = number % 6 < 3
            clock.now += 0.4
            ledger.reserve(new_charge(f"c{worker}-{number}"))
            if number % 5 == worker:
                ledger.replay()
            ledger.settle(f"c{worker}-{number}", done)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inner.away = False
    for _ in range(2):
        for ledger in ledgers:
            ledger.replay()

    assert {state for state, _, _ in states(inner.ledger).values()} == {"settled"}
    assert len(states(inner.ledger)) == 240
    balance = inner.ledger.balance("alice", "total", NOON)
    assert (balance.spent, balance.reserved) == (2400, 0)
    assert path.read_bytes() == b""


def test_the_proxy_may_start_without_its_database(
    new_database: Callable[[], str], path: Path, new_charge: NewCharge, completed: Completed
) -> None:
    url = "postgresql://user:secret@127.0.0.1:1/books"
    with pytest.raises(LedgerUnavailable):
        open_journaled(url, path)

    opened = open_journaled(url, path, serve=True)
    opened.reserve(new_charge("c1"))
    opened.settle("c1", completed(cost=700))
    opened.close()

    later = open_journaled(new_database(), path, serve=True)
    assert later.balance("alice", "total", NOON).spent == 700
    later.close()


def test_a_forked_child_writes_under_its_own_name(
    inner: Switched, serving: JournalingLedger, new_charge: NewCharge
) -> None:
    pytest.importorskip("fcntl")
    inner.away = True
    serving.reserve(new_charge("parent"))
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            serving.reserve(new_charge("child"))
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    inner.away = False

    assert serving.replay() == 1
    assert states(inner.ledger) == {"parent": ("pending", None, "0"), "child": ("expired", "expired", "0")}


def _come_back_from_silence(inner: Switched, refusing: JournalingLedger, clock: Clock, charge: Charge) -> None:
    """The ledger was away when a charge was to be reserved, and answers again."""
    inner.away, inner.silent = True, 5
    with pytest.raises(LedgerUnavailable):
        refusing.reserve(charge)
    inner.away = False
    clock.now += 5


def test_a_reservation_that_succeeds_ends_the_pause(
    inner: Switched,
    refusing: JournalingLedger,
    path: Path,
    clock: Clock,
    new_charge: NewCharge,
    completed: Completed,
) -> None:
    _come_back_from_silence(inner, refusing, clock, new_charge("c1"))

    refusing.reserve(new_charge("c2"))
    refusing.settle("c2", completed(cost=700))

    assert not path.exists()
    assert states(inner.ledger) == {"c2": SETTLED}


def test_a_refusal_for_want_of_money_ends_the_pause(
    inner: Switched, refusing: JournalingLedger, clock: Clock, new_charge: NewCharge
) -> None:
    _come_back_from_silence(inner, refusing, clock, new_charge("c1"))

    with pytest.raises(BudgetExceeded):
        refusing.reserve(new_charge("c2", reserved=1000), Budget(1, "total"))
    refusing.reserve(new_charge("c3"))

    assert list(states(inner.ledger)) == ["c3"]


@pytest.mark.parametrize("back", ["journal", "ledger"])
def test_what_waits_in_memory_is_tried_once_more_at_the_end(
    inner: Switched, serving: JournalingLedger, path: Path, new_charge: NewCharge, completed: Completed, back: str
) -> None:
    serving.reserve(new_charge("c1"))
    inner.away = True
    path.mkdir()
    serving.settle("c1", completed(cost=700))
    if back == "journal":
        path.rmdir()
    else:
        inner.away = False

    with suppress(LedgerUnavailable):
        serving.close()

    if back == "ledger":
        assert states(inner.ledger) == {"c1": SETTLED}
    else:
        assert b'"c1"' in path.read_bytes()


def test_more_is_held_back_only_where_the_ledger_can_do_it(
    inner: Switched, serving: JournalingLedger, refusing: JournalingLedger, new_charge: NewCharge
) -> None:
    serving.reserve(new_charge("c1", reserved=100))
    assert serving.extend("c1", 50, Budget(10**9, "day"))
    assert inner.ledger.balance("alice", "total", NOON).reserved == 150
    inner.away = True

    assert serving.extend("c1", 50, Budget(0, "day"))
    with pytest.raises(LedgerUnavailable):
        refusing.extend("c1", 50, Budget(0, "day"))
