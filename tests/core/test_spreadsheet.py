"""CSV that a spreadsheet may open."""

from __future__ import annotations

import csv
import io

import pytest

from sseproxy.core.spreadsheet import safe_cell, write_csv


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\n=1"])
def test_a_cell_that_would_be_a_formula_is_text(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_rows_come_back_as_they_were() -> None:
    file = io.StringIO()
    rows = [{"name": 'a"b,c\nd', "number": -1, "none": None}, {"name": "\r=1", "number": 2, "none": []}]
    write_csv(file, rows, ("name", "number", "none"))

    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [
        ["name", "number", "none"],
        ['a"b,c\nd', "-1", ""],
        ["'\n=1", "2", ""],
    ]
