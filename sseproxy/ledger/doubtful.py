"""Reservations whose outcome is unknown, as the database's answer was lost: nobody else would ever end them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sseproxy.core.usage import Usage
from sseproxy.ledger.protocol import Ledger, Settlement

#: More than can be in flight at a time.
_MOST: Final = 10_000
#: Seconds in which one may still get booked: a commit can wait for the disk while everything else is answered.
_DOUBT: Final = 60.0
_NOTHING: Final = Settlement("refused", "none", Usage(), 0, 0, 503, None, 0)


class Doubtful:
    """The doubtful reservations of one process, each released once it is found. Changed in atomic steps, without a
    lock.

    :param clock: monotonic seconds.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._until: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, charge_id: str) -> None:
        """Note one that may be booked, or may still get booked."""
        if len(self._until) < _MOST:
            self._until[charge_id] = self._clock() + _DOUBT

    def release(self) -> None:
        """Release those that are found, and forget those that are too old to be booked any more.

        :raises LedgerUnavailable: it is away again.
        """
        for charge_id, until in list(self._until.items()):
            if self._ledger.release(charge_id, _NOTHING) or self._clock() >= until:
                self._until.pop(charge_id, None)
