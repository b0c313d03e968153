"""How much of its user's budget one charge holds, and how far its answer may go on it.

A stream holds a small amount, a little more where plenty of the budget is left, and doubles it as it grows: so a long
answer takes few ledger calls, and no two answers spend the same money. An answer that cannot be ended midway, or that
may reason unseen, holds all it may cost; if that does not fit, one such answer may begin on what is left. So all
answers together never settle above the budget plus one reservation, as long as requests state their output limits.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from math import inf
from sys import maxsize
from typing import Any, Final

from msgspec.structs import replace

from sseproxy.core.allowance import Budget
from sseproxy.core.chat import Request, peek_count, peek_field, peek_number
from sseproxy.core.failure import Failure
from sseproxy.core.output_limit import output_limit
from sseproxy.core.pricing import Price
from sseproxy.core.tokens import most_tokens, texts_of
from sseproxy.core.usage import Usage
from sseproxy.ledger.protocol import BudgetExceeded, Charge, Ledger
from sseproxy.middleware.meter import Meter

log = logging.getLogger("sseproxy.accounting")

FIRST_STREAMED: Final = 1024
"""Output tokens that a stream holds money for at first, unless its client sets a lower limit."""
AMPLE: Final = 4096
"""The same, where plenty is left: most answers have fewer bytes than that, so their tokens need no counting."""
PLENTY: Final = 16
"""How many streams of that size the rest of the budget must pay for to be plenty."""
ASSUMED_WHOLE: Final = 4096
"""The most output tokens that any other answer is assumed to have, where its client sets no limit."""
BYTES_PER_TOKEN: Final = 4
NEAR: Final = 8
"""More is reserved when all but one NEAR-th of the held tokens are used."""
BUSY_RETRY: Final = 1.0
"""``Retry-After`` where running answers hold what is left: nobody knows when one ends."""
IN_PASSING: Final = 16 * 1024
"""The most bytes of text that are counted outside of the stream's own thread."""
ATTEMPTS: Final = 4
"""How often to try to reserve what is left while other requests change it."""


class Reservation:
    """The money of one charge of a user who has a budget.

    :param at: the moment whose prices apply.
    """

    _charge_id = ""
    _bounded = _nothing_left = False
    _bound = _seen = _look_at = 0
    _counted_at: int | None = None  # bytes; None: nothing was counted, and the vocabulary may have to be loaded

    def __init__(
        self,
        ledger: Ledger,
        budget: Budget,
        request: Request | None,
        price: Price | None,
        meter: Meter,
        at: datetime,
    ) -> None:
        self._ledger = ledger
        self._budget = budget
        self._request = request
        self._price = price
        self._meter = meter
        self._at = at

    def make(self, charge: Charge) -> None:
        """Reserve the charge with the amount it is to hold.

        :raises BudgetExceeded: too little is left to begin.
        :raises LedgerUnavailable: nothing could be billed.
        """
        self._charge_id = charge.id
        try:
            self._make_within(charge)
        except BudgetExceeded as failure:
            failure.retry_after = self._retry_after(charge.user, failure)
            raise

    def is_passed(self, content: str, hidden: str) -> bool:
        """Whether the answer, with this output, costs more than can be held for it.

        At first bytes are compared, as no token has less than one; tokens are counted only near the bound.
        """
        if not self._bounded:
            return False
        self._seen += most_tokens(content) + most_tokens(hidden) if hidden else most_tokens(content)
        return self._seen > self._look_at and self._is_passed_by_tokens()

    def room(self, most: int = maxsize) -> int:
        """The most output tokens that may pass before the ledger is asked for more, but at most ``most``."""
        if not self._bounded:
            return most
        room = self._look_at - self._seen
        # Count again when more than half is used, unless there is so much text that other streams would wait for it.
        if self._counted_at is not None and room < self._seen - self._counted_at < IN_PASSING:
            tokens = self._count()
            if tokens <= self._bound - self._near:
                self._look_at = self._seen + self._bound - tokens
                room = self._look_at - self._seen
        return 0 if room < 0 else room if room < most else most

    @property
    def _near(self) -> int:
        """How many tokens before the end of the held ones more are reserved."""
        return self._bound // NEAR

    def _make_within(self, charge: Charge) -> None:
        if self._request is None or self._price is None:
            return self._ledger.reserve(charge, self._budget)
        given = _most_input(self._request)
        if not (_shows_all(self._request) and self._hold_ample(charge, self._request, given)):
            self._bound = _most_output(self._request)
            self._hold(charge, self._request, given)
        self._bounded = self._request.stream and self._cost(0, self._bound) > 0
        self._look_at = self._bound

    def _hold_ample(self, charge: Charge, request: Request, given: int) -> bool:
        """Hold at once what most streams need; False if that would leave little for others."""
        self._bound = _most_output(request, AMPLE)
        full = self._cost(given, self._bound)
        limit = self._budget.limit - (PLENTY - 1) * full
        if limit < full:
            return False
        with suppress(BudgetExceeded):
            self._ledger.reserve(replace(charge, reserved=full), Budget(limit, self._budget.per))
            return True
        return False

    def _hold(self, charge: Charge, request: Request, given: int) -> None:
        budget = self._budget
        full = self._cost(given, self._bound)
        shows_all = _shows_all(request)
        for attempt in range(ATTEMPTS):
            try:
                return self._ledger.reserve(replace(charge, reserved=full), budget)
            except BudgetExceeded as failure:
                least = self._least()
                if failure.left < least or attempt == ATTEMPTS - 1:
                    raise
                if shows_all and not self._shrink(failure.left):
                    raise
                left = failure.left
            try:
                if shows_all:
                    return self._ledger.reserve(replace(charge, reserved=left), budget)
                # Hold all it may cost, even beyond the budget, if the least amount fits: nobody else can begin then.
                return self._ledger.reserve(
                    replace(charge, reserved=full), Budget(budget.limit + full - least, budget.per)
                )
            except BudgetExceeded:
                self._bound = _most_output(request)

    def _least(self) -> int:
        """The least that must be left for the request to begin."""
        if self._request is None or self._price is None:
            return 0
        return self._cost(_size_of(self._request) // BYTES_PER_TOKEN, min(_most_output(self._request), 1))

    def _retry_after(self, user: str, failure: BudgetExceeded) -> float:
        """Seconds until a retry may succeed: few if only running answers hold the money, else until the budget
        renews."""
        budget = self._budget
        with suppress(Failure):
            if self._least() <= budget.limit - self._ledger.balance(user, budget.per, self._at).spent:
                return BUSY_RETRY
        return inf if failure.renews_at is None else (failure.renews_at - self._at).total_seconds()

    def _shrink(self, held: int) -> bool:
        """Bound the output to what this amount pays for; False if it does not even pay for the input."""
        exact = self._meter.so_far()[0].input_tokens
        output = self._output_cost(exact, self._bound)
        rest = held - self._cost(exact, 0)
        if output > 0:
            self._bound = self._bound * rest // output
        return rest > 0 and self._bound > 0

    def _is_passed_by_tokens(self) -> bool:
        tokens = self._count()
        # Extended early, so that only the end of the budget is approached in ever smaller steps.
        if tokens > self._bound - self._near and not self._nothing_left:
            self._nothing_left = not self._extend()
        if tokens > self._bound and not self._extend():
            return True
        self._look_at = self._seen + max(1, self._bound - tokens)
        return False

    def _count(self) -> int:
        self._counted_at = self._seen
        return self._meter.output_so_far()

    def _extend(self) -> bool:
        """Hold as much again, else what is left; False if nothing is left."""
        more, given = self._bound, self._meter.so_far()[0].input_tokens
        for _ in range(ATTEMPTS):
            cost = self._output_cost(given, more)
            try:
                if not self._ledger.extend(self._charge_id, cost, self._budget):
                    return False
            except BudgetExceeded as failure:
                more = more * failure.left // max(cost, 1)
                if more < 1:
                    return False
                continue
            except Failure as failure:
                log.warning("charge %s goes on beyond what is held for it: %s", self._charge_id, failure.message)
            self._bound += more
            return True
        return False

    def _output_cost(self, given: int, tokens: int) -> int:
        """The cost of output alone; many models' prices depend on the size of the input before it."""
        return self._cost(given, tokens) - self._cost(given, 0)

    def _cost(self, input_tokens: int, output_tokens: int) -> int:
        assert self._price is not None
        return self._price.cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens), self._at)


def end_of_budget() -> Failure:
    """The error that ends an answer whose budget is used up."""
    return Failure(
        "The answer ends here: the budget that pays for it is used up.",
        status=429,
        type="budget_exceeded",
        code="budget_exceeded",
    )


def rough_tokens(request: Request) -> tuple[int, int]:
    """An estimate: input tokens by the request's size, and the output tokens to begin with."""
    most = _most_output(request)
    first = min(most, FIRST_STREAMED * _answers(request)) if request.stream else most
    return _size_of(request) // BYTES_PER_TOKEN, first


def _most_output(request: Request | None, streamed: int = FIRST_STREAMED) -> int:
    """Output tokens to hold money for at first.

    :param streamed: the number for a stream that shows all of its tokens.
    """
    if request is None or request.api == "embeddings":
        return 0
    limit = output_limit(request)
    if _shows_all(request):
        return min(limit or streamed, streamed) * _answers(request)
    return (limit or ASSUMED_WHOLE) * _answers(request)


def _answers(request: Request) -> int:
    """How many answers are generated and billed, though fewer may come back: ``best_of`` of the legacy API."""
    n, best_of = (peek_count(request.fields, name) for name in ("n", "best_of"))
    return request.choices // n * max(n, best_of)


def _shows_all(request: Request) -> bool:
    """Whether every token is seen, so that the answer can be ended at any: true of a stream, unless its client asks for
    reasoning, which may stay hidden, or sets ``max_completion_tokens``, which covers reasoning."""
    fields = request.fields
    if not request.stream:
        return False
    reasoning = peek_field(fields, "reasoning", dict[str, Any])  # /v1/responses, OpenRouter
    effort = peek_field(fields, "reasoning_effort", str) or (reasoning or {}).get("effort")
    if effort is not None:
        return effort in ("none", "minimal")
    if thinking := peek_field(fields, "thinking", dict[str, Any]):
        return thinking.get("type") == "disabled"
    if reasoning is not None:
        return reasoning.get("enabled") is False
    return not peek_number(fields, "max_completion_tokens")


def _most_input(request: Request) -> int:
    return texts_of(request.api, request.fields).count(most_tokens)


def _size_of(request: Request) -> int:
    return sum(len(memoryview(raw)) for raw in request.fields.values())
