"""Rows as a table for people, as JSON or as CSV. Names in rows come from clients: none of them may run anything.

How a CSV file is written stands in :mod:`sseproxy.core.spreadsheet`.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sseproxy.core.printable import printable
from sseproxy.core.spreadsheet import write_csv

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]
FORMATS = ("table", "json", "csv")


def format_option(command: Callable[..., Any], formats: Sequence[str] = FORMATS) -> Callable[..., Any]:
    """``--format table|json|csv``, or those of them that the command has."""
    choice = click.Choice(formats)
    option = click.option("--format", "style", type=choice, default="table", show_default=True, callback=_encode)
    return option(command)


def _encode(context: click.Context, parameter: click.Parameter, style: str) -> str:
    """What programs read is UTF-8, whatever the terminal's encoding lacks (RFC 8259 section 8.1)."""
    if style != "table" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    return style


def show(
    rows: Iterable[Row],
    style: str,
    columns: Sequence[str],
    *,
    narrow: Sequence[str] | None = None,
    none: str = "nothing to show",
) -> None:
    """Write the rows to standard output, and nothing else.

    :param columns: in this order; also the header where there is no row.
    :param narrow: the columns of a table, if not all.
    :param none: what stands in place of an empty table.
    """
    if style == "json":
        _show_json(rows)
    elif style == "csv":
        write_csv(sys.stdout, rows, columns)
    else:
        _show_table(rows, narrow or columns, none)


def _show_json(rows: Iterable[Row]) -> None:
    """An array, a row a line, written as the rows come."""
    separator = "["
    for row in rows:
        click.echo(separator + "\n  " + json.dumps(dict(row), ensure_ascii=False), nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def _show_table(rows: Iterable[Row], columns: Sequence[str], none: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    shown = [[row[column] for column in columns] for row in rows]
    for index, column in enumerate(columns):
        numbers = column.endswith(("_usd", "_ms")) or any(isinstance(cells[index], int) for cells in shown)
        table.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for cells in shown:
        # Text, not str: brackets in a name are no markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    print_wide(table if shown else none)


def print_wide(shown: Table | str) -> None:
    """Where nobody's screen says how wide it is, a wrapped table is the worse guess."""
    from rich.console import Console

    console = Console()
    wide = console if console.is_terminal else Console(width=1000)
    wide.print(shown)
