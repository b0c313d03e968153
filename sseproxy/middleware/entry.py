"""What the ledger is told of one exchange: the charge, what that has come to by now, and what it became."""

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
    """Of an exchange that begins now.

    :ivar target: where the exchange goes; once it is answered, whose answer it is.
    :ivar status: of the upstream's response head.
    """

    status: int | None = None

    def __init__(self, exchange: Exchange, meter: Meter) -> None:
        self._exchange, self._meter = exchange, meter
        self.id = _new_id()
        self.started = datetime.now(timezone.utc)
        self.target = exchange.target or NOWHERE

    def charge(self) -> Charge:
        """As it is reserved, without what it is to hold."""
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
        """What it has come to. Safe from another thread."""
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
            tries=tuple(map(copy, self._exchange.tries)),  # another thread may be trying on
        )

    def settlement(self, outcome: Outcome, usage: Usage, source: str) -> Settlement:
        """What it became.

        :param source: where the usage comes from.
        """
        exchange = self._exchange
        prefix_tokens = self._meter.prefix_tokens() if usage.input_tokens else 0
        return Settlement(
            outcome, source, usage, prefix_tokens, self.cost(usage), self.status, exchange.first_token_ms,
            exchange.elapsed_ms(), self.target.upstream, self.target.model, tuple(exchange.tries),
            unpriced=self.target.price is None,
        )  # fmt: skip

    def cost(self, usage: Usage) -> int:
        """What such usage costs in nano-USD, with what failed tries did."""
        return max(cost_of(usage, self.target.price, self.started), self._meter.stated_cost) + self._exchange.sunk


def _new_id() -> str:
    """A charge's ID, which begins with its time: so the books' index of IDs grows at its end alone, however large."""
    return f"chg_{time_ns() // 1_000_000:012x}{urandom(10).hex()}"
