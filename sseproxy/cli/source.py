"""What every command takes, ``-c FILE``, and what it leads to: the configuration, and the books it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from sseproxy.config import Config
    from sseproxy.ledger.ledger import SQLLedger

Command = Callable[..., Any]


def config_option(command: Command) -> Command:
    """``-c FILE``."""
    text = "Configuration file. Default: $SSEPROXY_CONFIG, else ./config.yaml, else the built-in demo."
    return click.option("-c", "--config", "file", metavar="FILE", help=text)(command)


def load_config(file: str | None) -> Config:
    """The configuration; every problem of it goes to standard error, and the process ends with 2."""
    from sseproxy.config import Config, ConfigError

    try:
        return Config.load(file)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        fail(f"{count} problem{'s' if count > 1 else ''} in the configuration", 2)


@contextmanager
def open_books(config: Config) -> Iterator[SQLLedger]:
    """The ledger that the configuration names."""
    from sseproxy.ledger.ledger import SQLLedger
    from sseproxy.ledger.opening import open_journaled
    from sseproxy.ledger.protocol import LedgerUnavailable

    try:
        ledger = open_journaled(config.accounting.ledger.get_secret_value(), config.accounting.journal, reports=True)
    except (ValueError, RuntimeError) as error:
        fail(f"accounting.ledger: {error}", 2)
    except LedgerUnavailable as error:
        fail(f"accounting.ledger: {error.message}", 1)
    books = ledger.ledger
    assert isinstance(books, SQLLedger)
    try:
        if books.database.in_memory:
            fail("accounting.ledger: in memory, where no other process sees it; name a database", 2)
        yield books
    except LedgerUnavailable as error:
        fail(f"accounting.ledger: {books.database.refused() or error.reason}", 1)
    finally:
        ledger.close()


def fail(message: str, code: int) -> NoReturn:
    """End the process with a message for people."""
    click.echo(f"sseproxy: {message}", err=True)
    raise click.exceptions.Exit(code)
