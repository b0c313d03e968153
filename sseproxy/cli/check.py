"""``sseproxy check`` and ``sseproxy schema``: is the file right, and what may stand in it."""

from __future__ import annotations

import json

import click

from sseproxy.cli.source import config_option, load_config


@click.command()
@config_option
def check(file: str | None) -> None:
    """Find every problem of the configuration at once.

    Exit code 0 if there is none, else 2. Warns of what is allowed but seldom meant, such as keys in plain text.
    """
    config = load_config(file)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{config.source}: the configuration is valid")


@click.command()
@config_option
def schema(file: str | None) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from sseproxy.config import Config

    # -c is taken so that every command takes it; the schema is the same for every file.
    click.echo(
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)
    )
