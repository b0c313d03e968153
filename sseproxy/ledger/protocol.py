"""What a ledger promises, and the plain data that goes in and comes out. No SQL, no clock, no I/O.

Money is an integer count of nano-USD, times are aware datetimes. A charge goes from ``pending`` to ``settled``,
``released`` or ``expired`` exactly once; a second attempt changes nothing and returns ``False``. With one exception:
``expired`` is set by others for a process that they take for dead. When that process checkpoints or ends the charge
after all, or had journalled its end, that replaces the expiry, and every sum is as if there had been none.
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
"""The token counts that reports sum up, besides the number and the cost of charges."""
CHARGE_ROW: Final = (
    "id", "user", "key", "route", "model", "upstream", "upstream_model", "state", "outcome", "usage_source",
    "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "prefix_tokens", "cost_usd", "status",
    "started_at", "first_token_ms", "duration_ms", "unpriced", "tries",
)  # fmt: skip
"""The columns of a charge in reports."""
RETRY_AFTER: Final = 5.0
"""``Retry-After`` while the database is away: nobody knows when it is back."""


class LedgerUnavailable(Failure):
    """The ledger's database cannot be reached or written; nothing was booked by this call, as far as is known.

    :param reason: the database's message, for the log; never sent to a client.
    :param in_doubt: it may be booked all the same, and only the database's answer lost.
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
    """A request's charge before anything is sent.

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
    """How a charge ended.

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
    """The state of a running charge: it is booked at this if its process dies now."""

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
    """A prompt and its answer.

    :ivar request: the request's JSON, with the prompt prefix in it.
    :ivar answer: the visible text.
    :ivar hidden: reasoning, refusals, names and arguments of tool calls.
    """

    request: str
    answer: str
    hidden: str


@dataclass(frozen=True)
class Balance:
    """What a user has spent in one period, and what running requests hold.

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
        """Whether the key is accepted at this moment."""
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
        """Settle a charge of this process, pending or wrongly expired, and move its money from reserved to spent.

        :returns: ``False`` if it was settled or released before, or is unknown; then nothing was changed.
        """

    def extend(self, charge_id: str, more: int, budget: Budget) -> bool:
        """Hold ``more`` nano-USD for a charge of this process, pending or wrongly expired.

        :returns: ``False`` if it was settled or released, or is unknown; then nothing was changed.
        :raises BudgetExceeded: with them the user's period would exceed ``budget.limit``.
        """

    def release(self, charge_id: str, settlement: Settlement) -> bool:
        """Release a charge of this process: refused, or failed before anything was generated.

        ``settlement.cost`` is 0 unless the vendor reported one. Returns as :meth:`settle` does.
        """

    def knows(self, charge_id: str) -> bool:
        """Whether there is such a charge, in whatever state."""

    def find_key(self, secret_hash: str) -> Key | None:
        """The key whose secret has this SHA-256 (hex), also if it is revoked or expired: ask :meth:`Key.is_valid`."""

    def ping(self) -> None:
        """Return if the database answers and, after a failed write, accepts another one."""

    def close(self) -> None:
        """Close all connections. Idempotent."""

    def checkpoint(self, running: Mapping[str, Checkpoint]) -> None:
        """Checkpoint running charges, by id, in one transaction, and renew this process's lease.

        Settled or released charges are left unchanged; expired ones become pending again. Must be called at least every
        third of the lease, even with nothing to report, while any charge is pending.
        """

    def recover(self) -> int:
        """Expire the pending charges of processes that are gone, at their last checkpoint.

        A process of this machine is gone if it does not run; any other, if it did not renew its lease for the lease's
        length in this process's own (monotonic) time. So call it every few seconds.

        :returns: how many charges this call expired.
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
