"""What a ledger promises, and the plain data that goes in and comes out. No SQL, no clock, no I/O.

Money is an integer count of nano-USD, times are aware datetimes. A charge goes from ``pending`` to ``settled``,
``released`` or ``expired`` exactly once; whoever comes second is told so (``False``) and changes nothing. With one
exception: ``expired`` is what others say of a process that they take for dead. What the process itself says of its
charge, or what it had journalled, takes the place of that: that it runs, and it is pending again, or how it ended.
Every sum is then as if it had been said at first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import msgspec

from sseproxy.core.allowance import Budget as Budget
from sseproxy.core.allowance import Period as Period
from sseproxy.core.failure import Failure
from sseproxy.core.tries import Try
from sseproxy.core.usage import Usage

State = Literal["pending", "settled", "released", "expired"]
Outcome = Literal["completed", "client_gone", "upstream_failed", "refused", "expired"]
UsageSource = Literal["reported", "counted", "mixed", "none"]
GroupBy = Literal["user", "model", "day", "route", "key", "upstream"]
COUNTS: Final = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
"""What is added up of charges, beside their number and their cost."""
CHARGE_ROW: Final = (
    "id", "user", "key", "route", "model", "upstream", "upstream_model", "state", "outcome", "usage_source",
    "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "prefix_tokens", "cost_usd", "status",
    "started_at", "first_token_ms", "duration_ms", "unpriced", "tries",
)  # fmt: skip
"""What there is to read of a charge."""
RETRY_AFTER: Final = 5.0
"""Seconds after which to try again where the database is away: nobody knows when it is back."""


class LedgerUnavailable(Failure):
    """The ledger's database cannot be reached or written; nothing was booked by this call, as far as is known.

    :param reason: what the database says of it, for the log; no client is told.
    :param in_doubt: it may be booked all the same, and only the answer lost.
    """

    def __init__(
        self,
        message: str = "The ledger is not available; try again later.",
        *,
        reason: str = "",
        in_doubt: bool = True,
    ) -> None:
        super().__init__(message, status=503, type="server_error", code="ledger_unavailable", retry_after=RETRY_AFTER)
        self.reason = reason or message
        self.in_doubt = in_doubt


class DuplicateCharge(Failure):
    """A charge of this id is in the ledger already; nothing was booked by this call."""

    def __init__(self, charge_id: str) -> None:
        super().__init__(f"A charge with id {charge_id!r} exists already.", status=500, code="duplicate_charge")
        self.charge_id = charge_id


class BudgetExceeded(Failure):
    """The reservation does not fit into what is left of the user's budget; nothing was booked.

    :param left: nano-USD not yet spent or reserved in this period; never negative.
    :param renews_at: when the next period begins; ``None`` for a prepaid budget.
    """

    def __init__(self, message: str, *, left: int, renews_at: datetime | None) -> None:
        super().__init__(message, status=429, type="insufficient_quota", code="insufficient_quota")
        self.left = left
        self.renews_at = renews_at


class Charge(msgspec.Struct, frozen=True):
    """What is known of a request before anything is sent.

    :param id: made by the caller, unique for ever; the idempotency key of all later steps.
    :param key: id of the API key, if the request came with one.
    :param reserved: nano-USD held back from the user's balance while the request runs.
    :param started_at: aware; decides the day, week and month the charge belongs to, whenever it ends.
    :param upstream: where it goes first; the settlement says who answered.
    :param unpriced: no price is known for the model, or not wherever it may go: its tokens may be booked at 0.
    """

    id: str
    user: str
    key: str | None
    route: str
    model: str
    upstream: str
    upstream_model: str
    reserved: int
    started_at: datetime
    unpriced: bool = False


class Settlement(msgspec.Struct, frozen=True):
    """What a charge became.

    :param outcome: see :data:`Outcome`.
    :param usage_source: see :data:`UsageSource`.
    :param prefix_tokens: the part of ``usage.input_tokens`` that the proxy's own prompt prefix is.
    :param cost: nano-USD.
    :param status: HTTP status of the upstream; ``None`` if it never answered.
    :param first_token_ms: from the request to the first token; ``None`` if there was none.
    :param upstream: the one that answered, or was asked last; ``None``: as it was reserved. So ``upstream_model``.
    :param tries: each time the request went to an upstream.
    :param unpriced: no price is known for what answered; the charge counts as unpriced if it was reserved as such too.
    """

    outcome: str
    usage_source: str
    usage: Usage
    prefix_tokens: int
    cost: int
    status: int | None
    first_token_ms: int | None
    duration_ms: int
    upstream: str | None = None
    upstream_model: str | None = None
    tries: tuple[Try, ...] = ()
    unpriced: bool = True


class Checkpoint(msgspec.Struct, frozen=True):
    """What is known of a running charge: what it is booked at if its process dies now."""

    usage: Usage
    cost: int
    usage_source: str = "counted"
    prefix_tokens: int = 0
    status: int | None = None
    first_token_ms: int | None = None
    duration_ms: int = 0
    upstream: str | None = None
    upstream_model: str | None = None
    tries: tuple[Try, ...] = ()


@dataclass(frozen=True)
class Content:
    """What was asked and answered.

    :ivar request: the request's JSON, with the prompt prefix in it.
    :ivar answer: the visible text.
    :ivar hidden: reasoning, refusals, names and arguments of tool calls.
    """

    request: str
    answer: str
    hidden: str


@dataclass(frozen=True)
class Balance:
    """What a user has spent in one period, and what running requests hold back.

    :param period: the period's name: ``2026-11-21``, ``2026-W47``, ``2026-11`` or ``total``.
    :param renews_at: when the next period begins; ``None`` for ``total``.
    """

    user: str
    period: str
    spent: int
    reserved: int
    renews_at: datetime | None


@dataclass(frozen=True)
class Key:
    """An API key without its secret."""

    id: str
    user: str
    label: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether the key opens the door at this moment."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


class Ledger(Protocol):
    """Who owes what. Safe from many threads and several processes, and after a fork.

    Every method raises :class:`LedgerUnavailable` if the database is away.
    """

    def reserve(self, charge: Charge, budget: Budget | None = None) -> None:
        """Book a pending charge and hold back ``charge.reserved``, both or neither.

        :raises BudgetExceeded: with this charge the user's period would exceed ``budget.limit``.
        :raises DuplicateCharge: the id is taken.
        """

    def settle(self, charge_id: str, settlement: Settlement) -> bool:
        """Turn a charge that this process runs into a settled one and move its money from reserved to spent.

        Pending, or expired for want of a sign.

        :returns: ``False`` if it was settled or released before, or is unknown; then nothing was changed.
        """

    def extend(self, charge_id: str, more: int, budget: Budget) -> bool:
        """Hold back ``more`` nano-USD for a charge that this process runs: pending, or expired for want of a sign.

        :returns: ``False`` if it was settled or released, or is unknown; then nothing was changed.
        :raises BudgetExceeded: with them the user's period would exceed ``budget.limit``.
        """

    def release(self, charge_id: str, settlement: Settlement) -> bool:
        """Give a charge that this process runs back: refused, or failed before anything was produced.

        ``settlement.cost`` is 0 unless the vendor reported one. Returns as :meth:`settle` does.
        """

    def knows(self, charge_id: str) -> bool:
        """Whether there is such a charge, whatever became of it."""

    def find_key(self, secret_hash: str) -> Key | None:
        """The key whose secret has this SHA-256 (hex), also if it is revoked or expired: ask :meth:`Key.is_valid`."""

    def ping(self) -> None:
        """Return if the database answers; after a write that failed, only when it takes another one."""

    def close(self) -> None:
        """Let go of all connections. Safe to call twice."""

    def checkpoint(self, running: Mapping[str, Checkpoint]) -> None:
        """Write down what is known of running charges, by id, in one transaction, and show that this process lives.

        Charges that were settled or released are left as they are; expired ones are pending again. Call it at least
        every third of the lease, also with nothing to report, while any charge is pending.
        """

    def recover(self) -> int:
        """Expire the pending charges of processes that are gone, at their last checkpoint.

        A process of this machine is gone if it does not run; any other, if it gave no sign during a whole lease of this
        process's own (monotonic) time. So call it every few seconds.

        :returns: how many charges were expired by this very call.
        """

    def expire(self, charge_id: str) -> bool:
        """Book a pending charge whose process died, at its last checkpoint; ``False`` if it had ended."""

    def balance(self, user: str, per: Period, at: datetime) -> Balance:
        """What the user has spent and reserved in the period that contains ``at``."""

    def usage(
        self,
        by: GroupBy = "user",
        *,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """Sums per group over the charges that started in ``since <= t < until``.

        :returns: rows as :func:`sseproxy.ledger.reports.usage` describes them.
        """
