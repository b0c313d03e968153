"""Cells of CSV files that a spreadsheet may open: RFC 4180, and nothing in them runs.

A cell that a spreadsheet would take for a formula gets an apostrophe before it:
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\n")


def write_csv(file: IO[str], rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a header and the rows.

    :param columns: in this order; every row has them.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([safe_cell(row[column]) for column in columns] for row in rows)


def safe_cell(value: object) -> object:
    """The value of a CSV cell that no spreadsheet executes."""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    if not isinstance(value, str):
        return "" if value is None else value
    # A lone CR ends a row for some readers, and Python's writer does not put it in quotes.
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA) else text
