"""A ledger that is timed: :class:`TimedLedger` around any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from time import perf_counter
from types import TracebackType
from typing import Any

from sseproxy.ledger.protocol import (
    Balance,
    Budget,
    Charge,
    Checkpoint,
    GroupBy,
    Key,
    Ledger,
    LedgerUnavailable,
    Period,
    Settlement,
)
from sseproxy.metrics.instruments import Instruments


class TimedLedger(Ledger):
    """Does what another ledger does, and writes down how long that took."""

    def __init__(self, ledger: Ledger, instruments: Instruments) -> None:
        self._ledger = ledger
        self._errors = instruments.ledger_errors
        self._duration_of = lru_cache(maxsize=None)(instruments.ledger.labels)  # there are as many as methods

    def _timed(self, operation: str) -> _Timed:
        return _Timed(self, operation)

    def note(self, operation: str, seconds: float, error: BaseException | None) -> None:
        """Write down one operation that is over."""
        if isinstance(error, LedgerUnavailable):
            self._errors.labels(operation).inc()
        self._duration_of(operation).observe(seconds)

    def reserve(self, charge: Charge, budget: Budget | None = None) -> None:
        with self._timed("reserve"):
            self._ledger.reserve(charge, budget)

    def settle(self, charge_id: str, settlement: Settlement) -> bool:
        with self._timed("settle"):
            return self._ledger.settle(charge_id, settlement)

    def extend(self, charge_id: str, more: int, budget: Budget) -> bool:
        with self._timed("extend"):
            return self._ledger.extend(charge_id, more, budget)

    def release(self, charge_id: str, settlement: Settlement) -> bool:
        with self._timed("release"):
            return self._ledger.release(charge_id, settlement)

    def find_key(self, secret_hash: str) -> Key | None:
        with self._timed("find_key"):
            return self._ledger.find_key(secret_hash)

    def ping(self) -> None:
        with self._timed("ping"):
            self._ledger.ping()

    def close(self) -> None:
        self._ledger.close()

    def checkpoint(self, running: Mapping[str, Checkpoint]) -> None:
        with self._timed("checkpoint"):
            self._ledger.checkpoint(running)

    def recover(self) -> int:
        with self._timed("recover"):
            return self._ledger.recover()

    def expire(self, charge_id: str) -> bool:
        with self._timed("expire"):
            return self._ledger.expire(charge_id)

    def balance(self, user: str, per: Period, at: datetime) -> Balance:
        with self._timed("balance"):
            return self._ledger.balance(user, per, at)

    def usage(
        self,
        by: GroupBy = "user",
        *,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        with self._timed("usage"):
            return self._ledger.usage(by, user=user, since=since, until=until)


class _Timed:
    """One operation, from its beginning to its end."""

    __slots__ = ("_begun", "_ledger", "_operation")

    def __init__(self, ledger: TimedLedger, operation: str) -> None:
        self._ledger = ledger
        self._operation = operation

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ledger.note(self._operation, perf_counter() - self._begun, error)
