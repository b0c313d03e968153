"""``sseproxy usage`` and ``sseproxy charges``: what the books say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from sseproxy.cli.output import format_option, show
from sseproxy.cli.source import config_option, load_config, open_books
from sseproxy.cli.times import check_order, moment

if TYPE_CHECKING:
    from sseproxy.ledger.contents import Contents
    from sseproxy.ledger.ledger import SQLLedger

GROUPS = ("user", "model", "day", "route", "key", "upstream")
STATES = ("pending", "settled", "released", "expired")
CONTENT = ("request", "answer", "hidden")
CHARGE_TABLE = (
    "started_at", "user", "model", "state", "outcome", "usage_source", "input_tokens", "output_tokens", "cost_usd",
    "duration_ms", "id",
)  # fmt: skip

_since = click.option("--since", callback=moment, metavar="T", help="From then on: 2026-11-01, 7d, today, month, …")
_until = click.option("--until", callback=moment, metavar="T", help="Before then.")
_user = click.option("--user", metavar="USER", help="Only this user's.")


@click.command()
@config_option
@click.option("--by", type=click.Choice(GROUPS), default="user", show_default=True, help="One row for each.")
@_user
@_since
@_until
@format_option
def usage(
    file: str | None, by: Any, user: str | None, since: datetime | None, until: datetime | None, style: str
) -> None:
    """Sums out of the ledger: requests, tokens, cost. Times are UTC."""
    from sseproxy.ledger.protocol import COUNTS

    check_order(since, until)
    columns = ("user", *(() if by == "user" else (by,)), "requests", *COUNTS, "cost_usd", "pending", "unpriced")
    narrow = tuple(column for column in columns if column != "user" or by == "user" or user)
    with open_books(load_config(file)) as ledger:
        rows = ledger.usage(by, user=user, since=since, until=until)
        show(rows, style, columns, narrow=narrow, none=_nothing_in(ledger))


@click.command()
@config_option
@_user
@_since
@_until
@click.option("--state", type=click.Choice(STATES), help="Only charges in this state.")
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), metavar="N", help="Only the newest N.")
@click.option("--content", is_flag=True, help="With request and answer, where they are kept: json and csv only.")
@format_option
def charges(
    file: str | None,
    user: str | None,
    since: datetime | None,
    until: datetime | None,
    state: str | None,
    limit: int | None,
    content: bool,
    style: str,
) -> None:
    """The charges themselves, the oldest first. Times are UTC."""
    from sseproxy.ledger.protocol import CHARGE_ROW

    check_order(since, until)
    with open_books(load_config(file)) as ledger:
        rows = ledger.charges(user=user, since=since, until=until, state=state, limit=limit)
        if content:
            from sseproxy.ledger.contents import Contents

            rows = _with_content(rows, Contents(ledger.database))
        columns = (*CHARGE_ROW, *CONTENT) if content else CHARGE_ROW
        show(rows, style, columns, narrow=CHARGE_TABLE, none=_nothing_in(ledger))


def _nothing_in(ledger: SQLLedger) -> str:
    """With the books' place: those of another directory are empty, too."""
    from sseproxy.ledger.engine import shown

    return f"nothing booked in {shown(ledger.database.url)}"


def _with_content(rows: Iterator[dict[str, Any]], contents: Contents) -> Iterator[dict[str, Any]]:
    while batch := list(islice(rows, 100)):
        kept = contents.of(row["id"] for row in batch)
        for row in batch:
            content = kept.get(row["id"])
            yield row | {name: getattr(content, name, None) for name in CONTENT}
