"""``sseproxy keys``: API keys in the ledger's database. A secret is shown once; only its hash is kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from sseproxy.cli.output import format_option, show
from sseproxy.cli.source import config_option, fail, load_config, open_books
from sseproxy.cli.times import duration

if TYPE_CHECKING:
    from sseproxy.ledger.protocol import Key

COLUMNS = ("id", "user", "label", "state", "created_at", "expires_at", "revoked_at")


def _in_print(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if not text.isprintable():
        raise click.BadParameter("expected printable characters")
    return text


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. Takes effect without a restart."""


@keys.command()
@config_option
@click.argument("user", callback=_in_print)
@click.option(
    "--expires", callback=duration, metavar="DURATION", help="How long it is valid, such as 90d. Default: for ever."
)
@click.option("--label", default="", callback=_in_print, metavar="TEXT", help="What it is for.")
def new(file: str | None, user: str, expires: timedelta | None, label: str) -> None:
    """Make a key for USER and print it. Standard output has the key alone."""
    if not user.strip():
        raise click.BadParameter("expected a name", param_hint="USER")
    now = datetime.now(timezone.utc)
    expires_at = _after(now, expires)
    with open_books(load_config(file)) as ledger:
        key, secret = ledger.create_key(user, now, label=label, expires_at=expires_at)
    click.echo(secret)
    until = f", valid until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
    click.echo(f"{key.id} of {user}{until}. The key is shown only this once.", err=True)


@keys.command("list")
@config_option
@click.option("--user", metavar="USER", help="Only this user's.")
@format_option
def list_(file: str | None, user: str | None, style: str) -> None:
    """List the keys, without their secrets."""
    with open_books(load_config(file)) as ledger:
        rows = [_row(key) for key in ledger.list_keys(user)]
    show(rows, style, COLUMNS, none="no keys made by command; those of the configuration are not listed")


@keys.command()
@config_option
@click.argument("id", callback=_in_print)
def revoke(file: str | None, id: str) -> None:
    """Refuse the key ID from now on. Streams that run already go on."""
    with open_books(load_config(file)) as ledger:
        revoked = ledger.revoke_key(id, datetime.now(timezone.utc))
    if not revoked:
        fail(f"there is no valid key {id}; `sseproxy keys list` shows all", 2)
    click.echo(f"{id} is revoked", err=True)


def _after(now: datetime, expires: timedelta | None) -> datetime | None:
    try:
        return None if expires is None else now + expires
    except OverflowError:
        raise click.BadParameter(
            "expected a duration that ends before the year 10000", param_hint="--expires"
        ) from None


def _row(key: Key) -> Mapping[str, Any]:
    state = "valid" if key.is_valid(datetime.now(timezone.utc)) else "revoked" if key.revoked_at else "expired"
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at")}
    return {
        "id": key.id,
        "user": key.user,
        "label": key.label,
        "state": state,
        **{name: moment and moment.isoformat(timespec="seconds") for name, moment in times.items()},
    }
