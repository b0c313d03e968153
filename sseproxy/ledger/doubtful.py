"""Reservations of which the ledger did not say whether it booked them: nobody else would ever end them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sseproxy.core.usage import Usage
from sseproxy.ledger.protocol import Ledger, Settlement

#: More than can be under way at a time.
_MOST: Final = 10_000
#: Seconds in which it may still book one: a commit can wait for the disk while all else is answered.
_DOUBT: Final = 60.0
_NOTHING: Final = Settlement("refused", "none", Usage(), 0, 0, 503, None, 0)


class Doubtful:
    """Those of one process, each to be given back once it is found. Changed by single steps, which need no lock.

    :param clock: monotonic seconds.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._until: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, charge_id: str) -> None:
        """One that may be booked, or may be yet."""
        if len(self._until) < _MOST:
            self._until[charge_id] = self._clock() + _DOUBT

    def release(self) -> None:
        """Give back those that are found, and forget those that are so old that they never will be.

        :raises LedgerUnavailable: it is away again.
        """
        for charge_id, until in list(self._until.items()):
            if self._ledger.release(charge_id, _NOTHING) or self._clock() >= until:
                self._until.pop(charge_id, None)
