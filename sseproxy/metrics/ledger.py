"""A ledger that is timed: :class:`TimedLedger` around any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeVar

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

T = TypeVar("T")
_OPERATIONS: Final = sorted(name for name in vars(Ledger) if not name.startswith("_") and name != "close")


class TimedLedger(Ledger):
    """Does what another ledger does, and writes down how long that took."""

    def __init__(self, ledger: Ledger, instruments: Instruments) -> None:
        self._ledger = ledger
        self._instruments = instruments
        self._note = instruments.tally.note
        self._count_durations = self._count  # bound once, not for each note
        for operation in _OPERATIONS:  # from 0: Prometheus sees no increase in what begins with the first error
            instruments.ledger_errors.labels(operation)

    def _count(self, operation: str, seconds: Sequence[float]) -> None:
        self._instruments.ledger.labels(operation).observe_all(seconds)

    def _timed(self, operation: str, do: Callable[..., T], *given: object) -> T:
        begun = perf_counter()
        try:
            return do(*given)
        except LedgerUnavailable:
            self._instruments.ledger_errors.labels(operation).inc()
            raise
        finally:
            self._note(((self._count_durations, operation), perf_counter() - begun))

    def reserve(self, charge: Charge, budget: Budget | None = None) -> None:
        self._timed("reserve", self._ledger.reserve, charge, budget)

    def settle(self, charge_id: str, settlement: Settlement) -> bool:
        return self._timed("settle", self._ledger.settle, charge_id, settlement)

    def extend(self, charge_id: str, more: int, budget: Budget) -> bool:
        return self._timed("extend", self._ledger.extend, charge_id, more, budget)

    def release(self, charge_id: str, settlement: Settlement) -> bool:
        return self._timed("release", self._ledger.release, charge_id, settlement)

    def knows(self, charge_id: str) -> bool:
        return self._timed("knows", self._ledger.knows, charge_id)

    def find_key(self, secret_hash: str) -> Key | None:
        return self._timed("find_key", self._ledger.find_key, secret_hash)

    def ping(self) -> None:
        self._timed("ping", self._ledger.ping)

    def close(self) -> None:
        self._ledger.close()

    def checkpoint(self, running: Mapping[str, Checkpoint]) -> None:
        # Every few seconds in each process that charges anybody, also while no answer ends.
        self._instruments.ease()
        self._timed("checkpoint", self._ledger.checkpoint, running)

    def recover(self) -> int:
        return self._timed("recover", self._ledger.recover)

    def expire(self, charge_id: str) -> bool:
        return self._timed("expire", self._ledger.expire, charge_id)

    def balance(self, user: str, per: Period, at: datetime) -> Balance:
        return self._timed("balance", self._ledger.balance, user, per, at)

    def usage(
        self,
        by: GroupBy = "user",
        *,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        return self._timed("usage", partial(self._ledger.usage, by, user=user, since=since, until=until))
