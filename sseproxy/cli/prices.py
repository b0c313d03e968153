"""``sseproxy prices``: what a model costs here, and who says so."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from sseproxy.cli.output import format_option, show
from sseproxy.cli.source import config_option, load_config

if TYPE_CHECKING:
    from sseproxy.models import Models

KINDS = ("input", "cached_input", "cache_write", "output")
COLUMNS = ("model", "upstream", "upstream_model", *KINDS, "source")


@click.command()
@config_option
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@format_option
def prices(file: str | None, models: tuple[str, ...], style: str) -> None:
    """Show which price applies to MODEL, and where it comes from.

    In USD per million tokens.
    """
    from sseproxy.models import Models

    config = load_config(file)
    urls = {name: upstream.url for name, upstream in config.upstreams.items() if upstream.url}
    known = Models(config.models, next(iter(config.upstreams)), urls)
    show([_row(known, model) for model in models], style, COLUMNS)


def _row(known: Models, model: str) -> dict[str, Any]:
    from sseproxy.prices import usd_per_million

    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"model": model}
    target = known.resolve(model)
    if target is None:
        return row | {"source": "not served: no pattern of `models` matches"}
    row |= {"upstream": target.upstream, "upstream_model": target.model}
    if target.price is None:
        return row | {"source": "unknown: booked at 0; set models.NAME.price"}
    now = datetime.now(timezone.utc)
    amounts = {kind: f"{usd_per_million(target.price, kind, now):f}" for kind in KINDS}
    return row | amounts | {"source": target.price.source}
