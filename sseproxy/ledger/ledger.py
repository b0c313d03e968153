"""The ledger in a database: SQLite in a file, or PostgreSQL for several machines; the same code for both.

Every method is one transaction. A charge leaves ``pending`` by ``UPDATE ... WHERE state = 'pending'``, and its money is
moved in that transaction, so that neither a second caller nor a crash can book it twice or lose it: see
:mod:`sseproxy.ledger.endings`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final

from sseproxy.core.pricing import nano_to_usd
from sseproxy.ledger import endings, keys, reports
from sseproxy.ledger.bounds import bounded_amount, bounded_name, bounded_names, cached_bounded_name
from sseproxy.ledger.database import Database
from sseproxy.ledger.engine import shown
from sseproxy.ledger.leases import Lease, Process
from sseproxy.ledger.periods import day_of, days_of, period_name, renewal
from sseproxy.ledger.protocol import (
    Balance,
    Budget,
    BudgetExceeded,
    Charge,
    Checkpoint,
    DuplicateCharge,
    GroupBy,
    Key,
    LedgerUnavailable,
    Period,
    Settlement,
)
from sseproxy.ledger.schema import micros, moment

#: Larger budgets, which all charges together never reach, are passed to statements as this.
_MOST: Final = 2**62


def open_ledger(url: str, *, lease: float = 30.0) -> SQLLedger:
    """Open the books; create or migrate them where needed, and expire the charges of dead processes.

    :param url: see :class:`~sseproxy.ledger.database.Database`.
    :param lease: seconds after which a process of another machine that does not renew its lease counts as gone.
    :raises ValueError: the URL is not supported.
    :raises RuntimeError: the driver is not installed.
    :raises LedgerUnavailable: the database cannot be opened.
    """
    ledger = SQLLedger(Database(url), lease=lease)
    with opening(ledger.database):
        ledger.database.migrate()
        ledger.recover()
    return ledger


@contextmanager
def opening(database: Database) -> Iterator[None]:
    """Around the first steps: if one fails, close the database and report why it cannot be opened.

    :raises LedgerUnavailable: with the database's message, without the password.
    """
    try:
        yield
    except BaseException as error:
        database.close()
        if isinstance(error, LedgerUnavailable):
            reason = database.refused() or error.reason
            message = f"The ledger {shown(database.url)} cannot be opened: {reason}"
            raise LedgerUnavailable(message) from error
        raise


class SQLLedger:
    """A :class:`~sseproxy.ledger.protocol.Ledger`, with what the command line needs: keys and listings.

    :param clock: monotonic seconds; only leases are measured with it.
    :param process: the holder of charges reserved here; by default this process.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        process: Process | None = None,
    ) -> None:
        self.database = database
        self._lease = Lease(database, lease, clock, process)

    def reserve(self, charge: Charge, budget: Budget | None = None) -> None:
        """Book a pending charge; see :meth:`Ledger.reserve`."""
        self._lease.keep()
        user, route, model, upstream, upstream_model = _names(
            charge.user, charge.route, charge.model, charge.upstream, charge.upstream_model
        )
        key = cached_bounded_name(charge.key)
        reserved, started_at = bounded_amount(charge.reserved), micros(charge.started_at)
        row = (
            charge.id, user, key, route, model, upstream, upstream_model, "pending", reserved, int(charge.unpriced),
            started_at, self._lease.owner,
        )  # fmt: skip
        try:
            if not self._add(row, budget, started_at, reserved):
                self.database.run(partial(self._add_and_hold, row, budget, user, started_at, reserved))
        except self.database.integrity_error:
            raise DuplicateCharge(charge.id) from None

    def _add(self, row: Sequence[Any], budget: Budget | None, at: int, amount: int) -> bool:
        """Add a charge by one statement, which nearly always works; whether it did."""
        statements = self.database.statements
        if budget is None:
            return bool(statements.triggers or not amount) and self.database.execute(statements.add_charge, row) == 1
        if statements.add_within is None:
            return False
        first, last = days_of(budget.per, day_of(at))
        most = budget.limit if budget.limit < _MOST else _MOST
        return self.database.execute(statements.add_within, (*row, first, last, most)) == 1

    def _add_and_hold(
        self, row: Sequence[Any], budget: Budget | None, user: str, at: int, amount: int, cursor: Any
    ) -> None:
        statements = self.database.statements
        if statements.triggers:
            statements.add_charge.run(cursor, row)
            self._check(cursor, budget, user, at, amount)
        else:
            self._hold(cursor, budget, user, at, amount)
            statements.add_charge.run(cursor, row)

    def _hold(self, cursor: Any, budget: Budget | None, user: str, started_at: int, amount: int) -> None:
        """Hold money for a user's running request, and refuse it if the budget is exceeded."""
        if amount:
            self.database.statements.hold_money.run(cursor, (user, day_of(started_at), amount))
        self._check(cursor, budget, user, started_at, amount)

    def _check(self, cursor: Any, budget: Budget | None, user: str, started_at: int, amount: int) -> None:
        """Refuse a request if the budget is exceeded with its money held."""
        if budget is None:
            return
        used = sum(self._balance(cursor, user, budget.per, started_at))
        if used > budget.limit:
            raise _exceeded(budget, used - amount, amount, moment(started_at))

    def _balance(self, cursor: Any, user: str, per: Period, at: int) -> tuple[int, int]:
        """What the user has spent and reserved in the period that contains a moment."""
        asked = (user, *days_of(per, day_of(at)))
        # PostgreSQL sums BIGINT as NUMERIC.
        spent, reserved = map(int, self.database.statements.read_balance.run(cursor, asked).fetchone())
        return spent, reserved

    def extend(self, charge_id: str, more: int, budget: Budget) -> bool:
        """Hold more for a running charge; see :meth:`Ledger.extend`."""
        statements = self.database.statements

        def hold(cursor: Any) -> bool:
            if statements.extend_charge.run(cursor, (charge_id, more)).rowcount != 1:
                return False
            user, started_at = statements.read_start.run(cursor, (charge_id,)).fetchone()
            self._hold(cursor, budget, user, started_at, more)
            return True

        while not self.database.run(hold):
            if not endings.in_state(self.database, [charge_id], "pending", "expired"):
                return False
            endings.reopen(self.database, charge_id)  # unless a checkpoint does so at the same time
        return True

    def settle(self, charge_id: str, settlement: Settlement) -> bool:
        """Turn a running charge into a settled one; see :meth:`Ledger.settle`."""
        return endings.end(self.database, charge_id, "settled", settlement)

    def release(self, charge_id: str, settlement: Settlement) -> bool:
        """Give a running charge back; see :meth:`Ledger.release`."""
        return endings.end(self.database, charge_id, "released", settlement)

    def expire(self, charge_id: str) -> bool:
        """Book a charge whose process died at its last checkpoint; see :meth:`Ledger.expire`."""
        return endings.expire(self.database, charge_id)

    def knows(self, charge_id: str) -> bool:
        """Whether there is such a charge; see :meth:`Ledger.knows`."""
        with self.database.look_up() as cursor:
            return self.database.statements.read_start.run(cursor, (charge_id,)).fetchone() is not None

    def checkpoint(self, running: Mapping[str, Checkpoint]) -> None:
        """Checkpoint running charges; see :meth:`Ledger.checkpoint`."""
        self._lease.keep()
        if self._note(running) < len(running):
            # Each in its own transaction, to keep the order of locks: first a charge, then its user's balances.
            expired = endings.in_state(self.database, running, "expired")
            self._note({each: running[each] for each in expired if endings.reopen(self.database, each)})
        self.database.sync()

    def _note(self, running: Mapping[str, Checkpoint]) -> int:
        """Checkpoint those of the charges that are pending; how many these were."""
        if not running:
            return 0
        # Always sorted: two processes that checkpoint the same charges cannot deadlock.
        rows = [(*endings.result(running[charge_id]), charge_id) for charge_id in sorted(running)]
        with self.database.write() as cursor:
            return int(self.database.statements.note_charge.run_many(cursor, rows).rowcount)

    def recover(self) -> int:
        """Expire what dead processes left pending; see :meth:`Ledger.recover`."""
        expired = 0
        for owner in self._lease.lost():
            expired += sum(self.expire(charge_id) for charge_id in self._lease.pending_of(owner))
            self._lease.forget(owner)
        return expired

    def balance(self, user: str, per: Period, at: datetime) -> Balance:
        """What the user has spent and reserved; see :meth:`Ledger.balance`."""
        with self.database.look_up() as cursor:
            spent, reserved = self._balance(cursor, bounded_name(user), per, micros(at))
        return Balance(user, period_name(per, at), spent, reserved, renewal(per, at))

    def usage(
        self,
        by: GroupBy = "user",
        *,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Sums per group; see :func:`sseproxy.ledger.reports.usage`."""
        with self.database.read() as connection:
            return reports.usage(connection, by, user=cached_bounded_name(user), since=since, until=until)

    def charges(
        self,
        *,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The charges themselves, read as they are taken; see :func:`sseproxy.ledger.reports.charge_rows`."""
        with self.database.read() as connection:
            yield from reports.charge_rows(
                connection, user=cached_bounded_name(user), since=since, until=until, state=state, limit=limit
            )

    def find_key(self, secret_hash: str) -> Key | None:
        """The key with this hash; see :meth:`Ledger.find_key`."""
        return keys.find_key(self.database, secret_hash)

    def create_key(
        self, user: str, at: datetime, *, label: str = "", expires_at: datetime | None = None
    ) -> tuple[Key, str]:
        """Make a key; see :func:`sseproxy.ledger.keys.create_key`."""
        return keys.create_key(self.database, user, at, label=label, expires_at=expires_at)

    def list_keys(self, user: str | None = None) -> list[Key]:
        """All keys, or those of one user, the oldest first."""
        return keys.list_keys(self.database, user)

    def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Make a key invalid from this moment, in every process; ``False`` if it is unknown or already revoked."""
        return keys.revoke_key(self.database, key_id, at)

    def ping(self) -> None:
        """Return if the database answers and, after a failed write, accepts another one; see :meth:`Ledger.ping`."""
        with self.database.look_up() as cursor:
            self.database.statements.read_balance.run(cursor, ("", 0, 0)).fetchone()
        if self.database.writes.fail:
            self.checkpoint({})

    def close(self) -> None:
        """Give up the lease and all connections."""
        self._lease.give_up()
        self.database.close()


_names: Final = lru_cache(256)(bounded_names)
"""Cached, as most requests have the same few names."""


def _exceeded(budget: Budget, used: int, needed: int, at: datetime) -> BudgetExceeded:
    left = max(0, budget.limit - used)
    renews_at = renewal(budget.per, at)
    per = "" if budget.per == "total" else f" per {budget.per}"
    when = "" if renews_at is None else f" It renews at {renews_at:%Y-%m-%d %H:%M} UTC."
    return BudgetExceeded(
        f"The budget of {nano_to_usd(budget.limit)} USD{per} does not cover this request: {nano_to_usd(left)} USD are "
        f"left, up to {nano_to_usd(needed)} USD are needed.{when}",
        left=left,
        renews_at=renews_at,
    )
