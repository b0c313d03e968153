"""How a charge ends: once, with the user's balances and the day's sums updated in the same transaction.

Only ``expired`` is a guess, made by others about a process whose lease ran out. If that process reports on its charge
after all, the expiry is subtracted from balances and sums and the charge is pending again, until its real end, which
may come at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

from sqlalchemy import select

from sseproxy.core.tries import as_text
from sseproxy.core.usage import Usage
from sseproxy.ledger.bounds import bounded_amounts, cached_bounded_name
from sseproxy.ledger.database import Database
from sseproxy.ledger.protocol import Checkpoint, Settlement, State
from sseproxy.ledger.schema import charges
from sseproxy.ledger.statements import Statement

log = logging.getLogger("sseproxy.accounting")


def end(database: Database, charge_id: str, state: Literal["settled", "released"], settlement: Settlement) -> bool:
    """End a charge for the process that ran it; False if it had ended before, or there is no such charge."""
    unpriced = settlement.unpriced and settlement.usage.cost is None
    change = (state, settlement.outcome, int(unpriced), *result(settlement), charge_id)
    if _end_pending(database, database.statements.end_charge, change):
        return True
    if not database.run(partial(_end_expired, database, change)):
        return False
    log.warning("charge %s was taken for one of a process that died; it is booked as it really ended", charge_id)
    return True


def expire(database: Database, charge_id: str) -> bool:
    """End a charge whose process died, at its last checkpoint; False if it had ended before."""
    return _end_pending(database, database.statements.expire_charge, ("expired", "expired", charge_id))


def reopen(database: Database, charge_id: str) -> bool:
    """Make an expired charge pending again; False if it is not expired."""
    statements = database.statements
    if not database.run(partial(_end_and_carry, statements.reopen_charge, (charge_id,), statements.take_back)):
        return False
    log.warning("charge %s was taken for one of a process that died; it is pending again", charge_id)
    return True


def in_state(database: Database, charge_ids: Iterable[str], *states: State) -> list[str]:
    """The given charges that are in one of these states."""
    query = select(charges.c.id).where(charges.c.id.in_(charge_ids), charges.c.state.in_(states))
    with database.read() as connection:
        return list(connection.scalars(query))


def result(known: Settlement | Checkpoint) -> tuple[Any, ...]:
    """The values to write, in the order of the columns in ``RESULT``."""
    usage: Usage = known.usage
    amounts = bounded_amounts(
        usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens, usage.output_tokens,
        usage.reasoning_tokens, known.prefix_tokens, known.cost,
    )  # fmt: skip
    return (
        known.usage_source, *amounts, known.status, known.first_token_ms, known.duration_ms,
        cached_bounded_name(known.upstream), cached_bounded_name(known.upstream_model), as_text(known.tries) or "",
    )  # fmt: skip


def _end_pending(database: Database, statement: Statement, change: Sequence[Any]) -> bool:
    carry = database.statements.carry
    if not carry:
        return database.execute(statement, change) == 1
    return database.run(partial(_end_and_carry, statement, change, carry))


def _end_and_carry(statement: Statement, change: Sequence[Any], carry: Sequence[Statement], cursor: Any) -> bool:
    if statement.run(cursor, change).rowcount != 1:
        return False
    for each in carry:
        each.run(cursor, change[-1:])
    return True


def _end_expired(database: Database, change: Sequence[Any], cursor: Any) -> bool:
    statements = database.statements
    return _end_and_carry(statements.reopen_charge, change[-1:], statements.take_back, cursor) and _end_and_carry(
        statements.end_charge, change, statements.carry, cursor
    )
