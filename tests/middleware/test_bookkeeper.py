"""middleware/bookkeeper: what running charges have come to, written down while they run."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from sseproxy.core.sse import Event
from sseproxy.ledger import engine
from sseproxy.ledger.database import Database
from sseproxy.ledger.leases import Process
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import Budget, Charge, LedgerUnavailable
from sseproxy.middleware.accounting import AccountingMiddleware
from sseproxy.middleware.bill import Bill
from sseproxy.middleware.bookkeeper import Bookkeeper
from sseproxy.middleware.meter import Counter
from sseproxy.tokenizer import Tokenizer
from sseproxy.wsgi.exchange import Exchange, Target, User
from tests.harness import PATIENCE, wait_until

from .apps import CHAT, post
from .test_accounting import PRICE


class Speechless(Tokenizer):
    """Cannot count."""

    def count(self, text: str, model: str) -> int:
        raise RuntimeError("no vocabulary")


def running_bill(ledger: Any, *, streamed: bool = True, counter: Counter | None = None) -> Bill:
    bills: list[Bill] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        exchange.read_request(environ)
        exchange.target, exchange.asked_model = Target("main", "m", PRICE), "m"
        bills.append(Bill(ledger, counter or Tokenizer(), exchange))
        start_response("200 OK", [])
        return []

    post(app, body={**CHAT, "stream": streamed})
    return bills[0]


def words(*contents: str) -> Iterator[Any]:
    for content in contents:
        yield Event(data=b"{}", read=True, content=content)


def test_a_note_books_what_has_passed_so_far() -> None:
    ledger = open_ledger("sqlite://")
    keeper = Bookkeeper(ledger, interval=3600)
    bill = running_bill(ledger)
    keeper.add(bill)
    events = bill.meter(words("Hello world", " and more"))
    next(events)

    keeper.note()
    (charge,) = ledger.charges()
    assert (charge["state"], charge["output_tokens"], charge["usage_source"]) == ("pending", 2, "counted")
    next(events)
    keeper.note()
    (charge,) = ledger.charges()
    assert charge["output_tokens"] == 4

    bill.settle("completed")
    keeper.note()
    (charge,) = ledger.charges()
    assert charge["state"] == "settled"
    keeper.close()
    ledger.close()


def test_a_charge_that_cannot_be_counted_keeps_no_other_from_being_noted(caplog: pytest.LogCaptureFixture) -> None:
    ledger = open_ledger("sqlite://")
    keeper = Bookkeeper(ledger, interval=3600)
    bills = [running_bill(ledger, counter=Speechless()), running_bill(ledger)]
    for bill in bills:
        keeper.add(bill)
    next(bills[1].meter(words("Hello world")))

    keeper.note()

    assert [charge["output_tokens"] for charge in ledger.charges()] == [0, 2]
    assert f"charge {bills[0].id} cannot be noted now: RuntimeError('no vocabulary')" in caplog.messages
    for bill in bills:
        bill.settle("completed")
    keeper.close()
    ledger.close()


@pytest.mark.parametrize("streamed", [True, False])
def test_nothing_is_kept_of_an_exchange_that_is_over(streamed: bool) -> None:
    kept: list[weakref.ref[Bill]] = []

    class Watching(Bookkeeper):
        def add(self, bill: Bill) -> None:
            super().add(bill)
            kept.append(weakref.ref(bill))

    def answering(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream" if streamed else "application/json")])
        return [b'data: {"choices":[]}\n\ndata: [DONE]\n\n' if streamed else b'{"choices":[]}']

    ledger = open_ledger("sqlite://")
    keeper = Watching(ledger, interval=3600)
    answer = post(
        AccountingMiddleware(answering, ledger, Tokenizer(), bookkeeper=keeper), body={**CHAT, "stream": streamed}
    )
    b"".join(answer.body)
    answer.close()
    del answer

    assert [bill() for bill in kept] == [None]
    keeper.close()
    ledger.close()


def test_it_knows_how_many_answers_run() -> None:
    ledger = open_ledger("sqlite://")
    keeper = Bookkeeper(ledger, interval=3600)
    bills = [running_bill(ledger), running_bill(ledger), running_bill(ledger, streamed=False)]
    assert keeper.running(streamed=True) == keeper.running(streamed=False) == 0
    keeper.start()
    for bill in bills:
        keeper.add(bill)
    assert (keeper.running(streamed=True), keeper.running(streamed=False)) == (2, 1)

    bills[0].settle("completed")
    bills[2].release("refused")
    assert (keeper.running(streamed=True), keeper.running(streamed=False)) == (1, 0)
    bills[1].settle("completed")
    keeper.close()
    ledger.close()


def test_what_a_dead_process_holds_comes_back_though_nobody_can_be_charged_for_want_of_it(tmp_path: Path) -> None:
    url, now, clock = f"sqlite:///{tmp_path}/books.db", datetime.now(timezone.utc), [1000.0]
    open_ledger(url).close()
    dead = SQLLedger(Database(url), process=Process("another machine", "7/7"))
    dead.reserve(Charge("c1", "alice", None, "/v1", "m", "main", "m", 10**9, now))
    ledger = SQLLedger(Database(url), clock=lambda: clock[0])
    keeper = Bookkeeper(ledger, interval=0.01)

    def answering(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}']

    inner = AccountingMiddleware(answering, ledger, Tokenizer(), bookkeeper=keeper)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        exchange.user, exchange.target = User("alice", budget=Budget(10**9, "total")), Target("main", "m", PRICE)
        return inner(environ, start_response)

    assert post(app).code == 429

    def comes_back() -> bool:
        clock[0] += 1
        return dead.balance("alice", "total", now).reserved == 0

    wait_until(comes_back)

    assert post(app).code == 200
    keeper.close()
    ledger.close()
    dead.close()


def test_the_log_says_why_running_charges_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    ledger = open_ledger(f"sqlite:///{tmp_path}/books.db")
    keeper = Bookkeeper(ledger, interval=0.01)
    other = Database(f"sqlite:///{tmp_path}/books.db")
    with other.write():
        keeper.start()
        wait_until(lambda: "running charges could not be noted: database is locked" in caplog.messages)
    keeper.close()
    other.close()
    ledger.close()


def test_a_request_that_no_thread_is_left_to_keep_books_for_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ledger = open_ledger("sqlite://")
    keeper = Bookkeeper(ledger, interval=3600)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(threading.Thread, "start", none_left)
        with pytest.raises(LedgerUnavailable, match="no thread left"):
            keeper.start()
    keeper.start()
    keeper.close()
    ledger.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 on: there are other threads
def test_a_forked_child_starts_with_no_bills_of_its_parent_s() -> None:
    ledger = open_ledger("sqlite://")
    keeper = Bookkeeper(ledger, interval=3600)
    bill = running_bill(ledger)
    keeper.start()
    keeper.add(bill)
    child = os.fork()
    if child == 0:
        if keeper.running(streamed=True):
            os._exit(9)
        keeper.start()
        keeper.add(running_bill(ledger))
        os._exit(keeper.running(streamed=True))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 1
    bill.settle("completed")
    keeper.close()
    ledger.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 on: there are other threads
def test_a_child_that_is_forked_during_the_first_start_starts_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger("sqlite://")
    keeper = Bookkeeper(ledger, interval=3600)
    children: list[int] = []

    class Forking(threading.Thread):
        def start(self) -> None:
            monkeypatch.undo()
            if (child := os.fork()) == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(int(PATIENCE))
                keeper.start()
                os._exit(sum(thread.name == "sseproxy-bookkeeper" for thread in threading.enumerate()))
            children.append(child)
            super().start()

    monkeypatch.setattr(threading, "Thread", Forking)
    keeper.start()

    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 1
    keeper.close()
    ledger.close()
