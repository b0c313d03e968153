"""One charge of one exchange: reserved before anything is sent, metered while the answer passes, settled exactly once.

The ledger's ``UPDATE … WHERE state = 'pending'`` guarantees "once"; the lock here only saves needless ledger calls.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final

from sseproxy.core.chunk import ByChoice
from sseproxy.core.failure import Failure
from sseproxy.core.normalize import Completion, failure_events
from sseproxy.core.pace import Pace
from sseproxy.core.possible_end import TERMINAL
from sseproxy.core.pricing import dearest
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import Usage
from sseproxy.core.usage_so_far import TotalOfBeginning
from sseproxy.ledger.protocol import Checkpoint, Ledger, Outcome
from sseproxy.middleware.entry import NOWHERE, Entry
from sseproxy.middleware.meter import Counter, Meter
from sseproxy.middleware.reservation import Reservation, end_of_budget
from sseproxy.middleware.shown_usage import ShownUsage, shown_completion
from sseproxy.wsgi.client import ClientGone
from sseproxy.wsgi.closing import call_once
from sseproxy.wsgi.exchange import Exchange, Target

log = logging.getLogger("sseproxy.accounting")
USAGE_GRACE: Final = 1.0
"""Seconds to wait for the usage of an answer whose finish has passed, after its client left."""


class Bill:
    """The charge of one exchange, reserved by the constructor.

    :param forget: called with the charge's ID when it has ended.
    :raises BudgetExceeded: too little of the user's budget is left; nothing may be sent.
    :raises LedgerUnavailable: nothing could be billed, so nothing may be sent.
    """

    _reservation: Reservation | None = None
    _client_left = _overdrawn = False
    _events: Iterator[Event] = iter(())

    def __init__(
        self, ledger: Ledger, counter: Counter, exchange: Exchange, forget: Callable[[str], object] = lambda _: None
    ) -> None:
        self._ledger, self._exchange, self._forget = ledger, exchange, forget
        billed = exchange.billed
        self._meter = Meter(billed, counter)
        self._entry = entry = Entry(exchange, self._meter)
        self.id = exchange.charge_id = entry.id
        self._ended = threading.Lock()  # acquired by whoever ends the charge, never released
        budget = exchange.user.budget if exchange.user else None
        if budget is None:
            ledger.reserve(entry.charge())
        else:
            price = dearest(entry.target.prices)
            self._reservation = Reservation(ledger, budget, billed, price, self._meter, entry.started)
            self._reservation.make(entry.charge())

    def answered(self, status: int) -> None:
        """Note the upstream's response head; another upstream than the one reserved for may have answered."""
        self._entry.status = status
        self._answered_by(self._exchange.target or NOWHERE)

    def answered_by(self, target: Target) -> None:
        """Note the model that the answer itself names."""
        self._exchange.target = target
        self._answered_by(target)

    def _answered_by(self, target: Target) -> None:
        self._entry.target = target
        self._meter.model = target.model or self._meter.model

    def meter(self, events: Iterator[Event], shown: ShownUsage | None = None) -> Iterator[Event]:
        """The transform that meters the events and settles before the last one leaves.

        :param shown: puts the settled usage into a chat or completions stream; None: there is none to show.
        """
        self._events = events
        self._pace = self._exchange.pace = Pace()
        return self._metered(events, shown)

    def _metered(self, events: Iterator[Event], shown: ShownUsage | None) -> Iterator[Event]:
        fresh, last = False, None
        try:
            for event in events:
                if event is FLUSH:
                    if fresh:
                        fresh = False
                        self._pace.step(monotonic())
                    yield event
                    continue
                fresh = True
                if self._read(event) and shown is not None:
                    if event.data == DONE:
                        if (receipt := shown.event(last)) is not None:
                            yield receipt
                    elif event.usage is not None and shown.takes(event):
                        continue
                yield event
                last = event
                if self._overdrawn and not self._ended.locked():
                    self.settle("refused")
                    assert self._exchange.request is not None
                    yield from failure_events(end_of_budget(), self._exchange.request.api)
                    return
            if fresh:  # the last read brought events and the end of the stream, without a FLUSH between
                self._pace.step(monotonic())
        except Exception:
            self._break_off()
            raise

    def seen(self, content: str, hidden: str, times: Sequence[float]) -> None:
        """Do for plain events, which bypass it, what :meth:`meter` does; valid while there is :meth:`room`."""
        self._count(content, hidden, at=times[0])
        self._pace.step(*times)

    def _read(self, event: Event) -> bool:
        """Meter one event; whether there may be more in it than text."""
        if isinstance(event.usage, TotalOfBeginning):  # counts what came before this event
            self._meter.report(event.usage)
        if event.content or event.hidden:
            self._count(event.content, event.hidden, event.by_choice)
            if event.usage is None and event.finish is None and event.error is None and not event.type:
                return False
        if event.finish is not None:  # counted before the usage: one in the same event is final
            self._meter.finishes += 1
        self.report(event.usage)
        if event.error is not None:
            self._exchange.failure = str(event.error.code or event.error.type)
            if self._meter.is_silent:
                self._exchange.note_failure(event.error)
            self._break_off()
        elif event.data == DONE or event.type in TERMINAL:
            self.settle("completed")
        return True

    def room(self) -> int:
        """The most output tokens that may pass before counting or the ledger is needed, which may block."""
        room = self._meter.room()
        return room if self._reservation is None else self._reservation.room(room)

    def complete(self, events: Iterator[Event]) -> Iterator[Event]:
        """The transform, outside :meth:`meter`, that settles an answer without an end marker when it ends."""
        yield from events
        self.settle("completed")

    def _count(self, content: str, hidden: str, by_choice: ByChoice = (), at: float | None = None) -> None:
        if self._exchange.first_token_ms is None:
            self._exchange.first_token_ms = self._exchange.elapsed_ms(at)
        self._meter.add(content, hidden, by_choice)
        if self._reservation is not None:
            self._overdrawn = self._reservation.is_passed(content, hidden)

    def read_completion(self, completion: Completion, client_left: bool) -> bytes:
        """Settle a JSON answer by its usage; returns the answer with its cost added."""
        self._client_left = client_left
        for event in completion.course:
            self._read(event)
        if not completion.course:
            if completion.content or completion.hidden:
                self._count(completion.content, completion.hidden, completion.by_choice)
            self.report(completion.usage)
        self.settle("completed")
        return shown_completion(completion, self._exchange)

    def report(self, usage: Usage | None) -> None:
        """Note usage that was found elsewhere than in a metered event."""
        if usage is not None:
            self._meter.report(usage)

    def settle(self, outcome: Outcome) -> None:
        """Book the metered usage. Later calls change nothing."""
        if self._ended.acquire(False):
            self._book("client_gone" if self._client_left else outcome, self._meter.total)

    def release(self, outcome: Outcome) -> None:
        """Release the charge, as there is no answer; usage or cost that a vendor reports for it is booked all the
        same."""
        if self._ended.acquire(False):
            stated = self._exchange.usage or Usage(cost=0)
            source = "reported" if stated.input_tokens or stated.output_tokens or self._entry.cost(stated) else "none"
            self._book(outcome, lambda: (stated, source), released=source == "none")

    def failed(self, status: int) -> None:
        """End the charge of an answer with this error status. A client that left pays for its prompt, unless that try
        was free."""
        self._entry.status = status
        if status == ClientGone.STATUS:
            tries = self._exchange.tries
            (self.release if tries and tries[-1].is_free else self.settle)("client_gone")
        else:
            self.release("refused" if status < 500 or self._exchange.cut_short else "upstream_failed")

    def _break_off(self) -> None:
        """End the charge of an answer that failed midway. Before any content it counts as one that failed at once."""
        if self._exchange.cut_short:
            self.settle("refused")
        elif self._meter.is_silent and not self._client_left:
            self.release("upstream_failed")
        else:
            self.settle("upstream_failed")

    def is_abandoned(self) -> None:
        """The answer is about to be interrupted as nobody reads it: its breaking off is then no upstream failure."""
        self._client_left = True

    def read_on(self) -> None:
        """The answer is being closed. If it has not ended, the client left: read on for as long as the policy says."""
        if not self._ended.locked():
            self._client_left = True
            self._read_for(self._exchange.linger.left() or (USAGE_GRACE if self._meter.awaits_usage else 0.0))

    def hung_up(self) -> None:
        """The answer and the upstream connection are closed: nothing more is generated while tokens are counted
        here."""
        if not self._ended.locked():
            self._client_left = True
            self.settle("client_gone")

    def _read_for(self, seconds: float) -> None:
        """Read on, for the exact usage, what the upstream still sends and the budget still covers; it is only
        metered."""
        deadline = monotonic() + seconds
        with contextlib.suppress(Failure, ValueError):  # ValueError: another thread is in the middle of reading
            while not (self._ended.locked() or self._overdrawn) and monotonic() < deadline:
                if (event := next(self._events, None)) is None:
                    return
                if event is not FLUSH:
                    self._read(event)

    def runs(self, streamed: bool) -> bool:
        """Whether it is still running and its answer is streamed (or not). Safe from another thread."""
        return not self._ended.locked() and streamed == bool(self._exchange.billed and self._exchange.billed.stream)

    def so_far(self) -> Checkpoint | None:
        """The running charge so far; None when it has ended. Safe from another thread."""
        if self._ended.locked():
            return None
        return self._entry.checkpoint()

    def _book(self, outcome: Outcome, read: Callable[[], tuple[Usage, str]], *, released: bool = False) -> None:
        exchange = self._exchange
        try:
            usage, source = read()
            settlement = self._entry.settlement(outcome, usage, source)
            exchange.outcome, exchange.usage, exchange.cost = outcome, usage, settlement.cost
            self._let_go()
            if not (self._ledger.release if released else self._ledger.settle)(self.id, settlement):
                log.error("charge %s of %s is not in the ledger, or had ended there", self.id, exchange.request_id)
        except Failure as failure:
            log.error("charge %s of %s stays pending: %s", self.id, exchange.request_id, failure.message)
        except Exception:
            log.exception("charge %s of %s cannot be settled; it expires as last noted", self.id, exchange.request_id)
            self._let_go()
            with contextlib.suppress(Failure):
                self._ledger.expire(self.id)

    def _let_go(self) -> None:
        self._forget(self.id)
        if self._exchange.when_booked:
            call_once(self._exchange.when_booked)
