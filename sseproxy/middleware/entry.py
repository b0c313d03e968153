"""The ledger records of one exchange: the charge, its checkpoints and its settlement."""

from __future__ import annotations

from copy import copy
from datetime import datetime, timezone
from os import urandom
from time import time_ns
from typing import Final

from sseproxy.core.pricing import cost_of
from sseproxy.core.usage import Usage
from sseproxy.ledger.protocol import Charge, Checkpoint, Outcome, Settlement
from sseproxy.middleware.auth import ANONYMOUS
from sseproxy.middleware.meter import Meter
from sseproxy.wsgi.exchange import Exchange, Target

NOWHERE: Final = Target("app", "")


class Entry:
    """Makes the records of an exchange that begins now.

    :ivar target: where the request goes; once it is answered, who answered.
    :ivar status: the upstream's response status.
    """

    status: int | None = None

    def __init__(self, exchange: Exchange, meter: Meter) -> None:
        self._exchange, self._meter = exchange, meter
        self.id = _new_id()
        self.started = datetime.now(timezone.utc)
        self.target = exchange.target or NOWHERE

    def charge(self) -> Charge:
        """The charge to reserve; the amount is for the reservation to fill in."""
        exchange = self._exchange
        return Charge(
            id=self.id,
            user=(exchange.user or ANONYMOUS).name,
            key=exchange.key,
            route=exchange.route or exchange.path,
            model=exchange.asked_model,
            upstream=self.target.upstream,
            upstream_model=self.target.model,
            reserved=0,
            started_at=self.started,
            unpriced=exchange.billed is not None and not all(self.target.prices),
        )

    def checkpoint(self) -> Checkpoint:
        """The usage and cost so far. Safe from another thread."""
        usage, source = self._meter.so_far()
        return Checkpoint(
            usage=usage,
            cost=self.cost(usage),
            usage_source=source,
            prefix_tokens=self._meter.prefix_tokens(),
            status=self.status,
            first_token_ms=self._exchange.first_token_ms,
            duration_ms=self._exchange.elapsed_ms(),
            upstream=self.target.upstream,
            upstream_model=self.target.model,
            tries=tuple(map(copy, self._exchange.tries)),  # another thread may be changing the last one
        )

    def settlement(self, outcome: Outcome, usage: Usage, source: str) -> Settlement:
        """The final record.

        :param source: ``reported``, ``counted``, ``mixed`` or ``none``, see :meth:`Meter.total`.
        """
        exchange = self._exchange
        prefix_tokens = self._meter.prefix_tokens() if usage.input_tokens else 0
        return Settlement(
            outcome, source, usage, prefix_tokens, self.cost(usage), self.status, exchange.first_token_ms,
            exchange.elapsed_ms(), self.target.upstream, self.target.model, tuple(exchange.tries),
            unpriced=self.target.price is None,
        )  # fmt: skip

    def cost(self, usage: Usage) -> int:
        """The cost of this usage in nano-USD, including that of failed tries."""
        return max(cost_of(usage, self.target.price, self.started), self._meter.stated_cost) + self._exchange.sunk


def _new_id() -> str:
    """A charge's ID. It begins with the time, so that a B-tree index of IDs grows only at its end."""
    return f"chg_{time_ns() // 1_000_000:012x}{urandom(10).hex()}"
