"""A ledger that goes on while its database is away: what ends meanwhile is written to a file and booked later.

Nothing is booked twice, since the ledger itself ends each charge once. Nothing is lost with the process: a line is on
the disk before anybody is told. How lines become bookings is said in :mod:`sseproxy.ledger.journal_entries`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar

from sseproxy.core.outage import Outage
from sseproxy.ledger.doubtful import Doubtful
from sseproxy.ledger.journal_entries import Ended, Noted, Replay, Reserved, bounded_charge, bounded_result, encode
from sseproxy.ledger.journal_file import JournalFile
from sseproxy.ledger.protocol import (
    Balance,
    Budget,
    BudgetExceeded,
    Charge,
    Checkpoint,
    DuplicateCharge,
    GroupBy,
    Key,
    Ledger,
    LedgerUnavailable,
    Period,
    Settlement,
)
from sseproxy.ledger.troubles import Troubles
from sseproxy.ledger.unwritten import Unwritten

T = TypeVar("T")
log = logging.getLogger("sseproxy.accounting")

#: After a failure no request looks for so long whether the ledger is back: the bookkeeper does so before, each second.
_PAUSE: Final = 3.0
#: A database that does not even refuse lets who asks wait for so long, at most.
_PATIENCE: Final = 10.0
#: A failure that took less (a deadlock, a statement refused) refuses nobody else: who asks next hardly waits.
_SLOW: Final = 2.0


class JournalingLedger:
    """A :class:`~sseproxy.ledger.protocol.Ledger` around another one.

    :ivar ledger: the other one.
    :param path: the journal; one for each ledger. All processes of a machine share it.
    :param serve: let requests in while the ledger is away, and journal their reservations. Budgets cannot be checked
        then.
    :param prepare: called before a journal is replayed, e.g. to migrate a database that was away at the start.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        path: str | os.PathLike[str],
        serve: bool = False,
        *,
        prepare: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self._file = JournalFile(path)
        self._troubles = Troubles(self._file.path, serve)
        self._unwritten = Unwritten(self._file)
        self._serve = serve
        self._prepare = prepare
        self._clock = clock
        self._outage = Outage(pause=_PAUSE, patience=_PATIENCE, clock=clock)
        self._doubtful = Doubtful(ledger, clock)
        # Of this process's charges. Changed by single steps, which need no lock that a fork could copy held.
        self._only_here: set[str] = set()
        self._noted: dict[str, int] = {}

    def reserve(self, charge: Charge, budget: Budget | None = None) -> None:
        """Book a pending charge; see :meth:`Ledger.reserve`. With ``serve`` in the journal, if need be."""
        if self._outage.bars():
            if not self._serve:
                raise LedgerUnavailable(in_doubt=False)
            return self._reserve_here(charge)
        try:
            self._ask(self.ledger.reserve, charge, budget)
        except LedgerUnavailable as error:
            try:
                if not self._serve:
                    raise
                self._reserve_here(charge)
            except LedgerUnavailable:
                if error.in_doubt:
                    self._doubtful.add(charge.id)
                raise

    def _reserve_here(self, charge: Charge) -> None:
        try:
            self._file.append(encode(Reserved(self._file.owner(), bounded_charge(charge))))
        except OSError as error:
            log.error("the ledger is away, and the journal %s cannot be written: %s", self._file.path, error)
            raise LedgerUnavailable() from error
        self._only_here.add(charge.id)

    def extend(self, charge_id: str, more: int, budget: Budget) -> bool:
        """Hold back more for a pending charge; see :meth:`Ledger.extend`.

        With ``serve``, while the ledger is away or does not know the charge yet: nothing is held back, nothing refused.
        """
        if self._serve and charge_id in self._only_here:
            return True
        if not self._outage.bars():
            with suppress(LedgerUnavailable):
                return self._ask(self.ledger.extend, charge_id, more, budget)
        if not self._serve:
            raise LedgerUnavailable()
        return True

    def settle(self, charge_id: str, settlement: Settlement) -> bool:
        """Turn a running charge into a settled one; see :meth:`Ledger.settle`. ``True`` also if it was journalled."""
        return self._end(charge_id, settlement, False)

    def release(self, charge_id: str, settlement: Settlement) -> bool:
        """Give a running charge back; see :meth:`Ledger.release`. ``True`` also if it was journalled."""
        return self._end(charge_id, settlement, True)

    def _end(self, charge_id: str, settlement: Settlement, released: bool) -> bool:
        if charge_id not in self._only_here and not self._outage.bars():
            try:
                return self._ask(self.ledger.release if released else self.ledger.settle, charge_id, settlement)
            except LedgerUnavailable:
                pass
        line = encode(Ended(charge_id, bounded_result(settlement), released))
        try:
            self._file.append(line)
            self._only_here.discard(charge_id)
        except OSError as error:
            self._unwritten.add(charge_id, line, error)
        return True

    def checkpoint(self, running: Mapping[str, Checkpoint]) -> None:
        """Write down what is known of running charges; see :meth:`Ledger.checkpoint`. Replays first."""
        self.replay()
        if not self._outage.bars():
            with suppress(LedgerUnavailable):
                self._ask(self.ledger.checkpoint, {id: running[id] for id in running if id not in self._only_here})
                self._noted.clear()
                return
        self._note_here(running)

    def _note_here(self, running: Mapping[str, Checkpoint]) -> None:
        sizes = {each: known.usage.input_tokens + known.usage.output_tokens for each, known in running.items()}
        changed = [each for each, size in sizes.items() if self._noted.get(each) != size]
        try:
            if changed:
                # Not synced: checkpoints come again and again, and are meant for killed processes, not for power cuts.
                self._file.append(*(encode(Noted(each, bounded_result(running[each]))) for each in changed), sync=False)
        except OSError as error:
            raise LedgerUnavailable(reason=f"nor can the journal be written: {error}") from error
        self._noted = sizes

    def replay(self) -> int:
        """Bring what stands in the journal into the ledger, if that answers. Costs next to nothing with nothing to do.

        :returns: how many charges were ended by this very call.
        """
        return self._replay()[0]

    def _replay(self) -> tuple[int, bool]:
        """How many, and whether nothing is left that could be brought in."""
        ended, complete = 0, True
        try:
            if self._troubles.is_away or self._doubtful or self._unwritten or self._file.has_lines():
                self._outage.look()
                ended, complete = self._ask(self._catch_up)
        except LedgerUnavailable:
            return 0, False
        except OSError as error:
            self._troubles.begin_of_journal(error)
            return 0, True  # what it says later still takes the place of what is taken for lost until then
        if complete:
            self._troubles.end_of_journal()
        return ended, complete

    def _catch_up(self) -> tuple[int, bool]:
        if self._prepare is not None:
            self._prepare()
        self.ledger.ping()
        self._outage.end()
        self._doubtful.release()
        ended = self._book_unwritten()
        brought, complete = self._bring_in() if self._file.has_lines() else (0, True)
        ended += brought + self._book_unwritten()
        self._troubles.end()
        return ended, complete

    def _bring_in(self) -> tuple[int, bool]:
        with self._file.alone() as alone:
            if not alone:
                return 0, False
            replay = Replay(self._file, self.ledger, self._only_here.discard)
            try:
                replay.run()
            finally:
                if replay.applied:
                    log.warning("%d charges were booked from the journal %s", replay.applied, self._file.path)
            return replay.applied, True

    def _book_unwritten(self) -> int:
        """End what waits in memory alone."""
        replay = Replay(self._file, self.ledger, self._only_here.discard)
        self._unwritten.book(replay, self._only_here)
        return replay.applied

    def recover(self) -> int:
        """Expire what dead processes left pending, after what they had journalled; see :meth:`Ledger.recover`."""
        _, complete = self._replay()
        return self.ledger.recover() if complete else 0

    def expire(self, charge_id: str) -> bool:
        """Book a pending charge whose process died; see :meth:`Ledger.expire`."""
        return self.ledger.expire(charge_id)

    def knows(self, charge_id: str) -> bool:
        """Whether the ledger has such a charge already; see :meth:`Ledger.knows`."""
        return self.ledger.knows(charge_id)

    def find_key(self, secret_hash: str) -> Key | None:
        """The key with this hash; see :meth:`Ledger.find_key`.

        :raises LedgerUnavailable: nobody knows now, which is no reason to say that there is none.
        """
        if self._serve and self._outage.bars():
            raise LedgerUnavailable()
        try:
            return self.ledger.find_key(secret_hash)
        except LedgerUnavailable as error:
            self._troubles.begin(error)  # no outage: whoever reads need not have waited, nor need who writes
            raise

    def ping(self) -> None:
        """Return if requests can be let in: the ledger answers, or with ``serve`` the journal can be written."""
        try:
            self.ledger.ping()
            self._outage.end()
        except LedgerUnavailable:
            if not self._serve:
                raise
            try:
                self._file.check()
            except OSError as error:
                raise LedgerUnavailable() from error

    def close(self) -> None:
        """Bring in what can be, and let go of everything. What is left is the next start's."""
        self._unwritten.write()
        if self._unwritten or not self._outage.bars():
            self.replay()
        with suppress(OSError):
            self._file.let_go()
        self.ledger.close()

    def balance(self, user: str, per: Period, at: datetime) -> Balance:
        """As the ledger knows it: without what stands in the journal."""
        return self.ledger.balance(user, per, at)

    def usage(
        self,
        by: GroupBy = "user",
        *,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """As the ledger knows it: without what stands in the journal."""
        return self.ledger.usage(by, user=user, since=since, until=until)

    def _ask(self, do: Callable[..., T], *given: object) -> T:
        """Do what asks the ledger: what comes of it is known to all who would ask next."""
        asked_at = self._clock()
        try:
            answer = do(*given)
        except LedgerUnavailable as error:
            if self._serve or self._clock() - asked_at >= _SLOW:
                self._outage.begin()
            self._troubles.begin(error)
            raise
        except (BudgetExceeded, DuplicateCharge):
            self._outage.end()
            raise
        self._outage.end()
        return answer
