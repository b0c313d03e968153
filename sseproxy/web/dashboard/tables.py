"""A table as HTML and as CSV. Every name in it comes from clients: in HTML it is escaped, in CSV it is no formula."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from sseproxy.core.pricing import nano_to_usd, usd_to_nano
from sseproxy.core.printable import printable
from sseproxy.core.spreadsheet import write_csv
from sseproxy.core.vendor_cost import NANO_PER_USD

Row = Mapping[str, Any]
NOTHING: Final = "\N{EN DASH}"
MOST_SHOWN: Final = 50
"""Rows of a table on the page; the CSV has them all."""


def show_count(value: Any) -> str:
    """``1234567`` → ``1,234,567``."""
    return f"{value:,}"


def show_large(value: Any) -> str:
    """A count where there is little room: ``2499992438`` → ``2.50 B``."""
    if value < 10**7:
        return show_count(value)
    size, unit = (10**9, "B") if value >= 10**9 else (10**6, "M")
    return f"{value / size:,.2f} {unit}"


def show_usd(value: Any) -> str:
    """Decimal text as people read it: cents of large amounts, six places of small ones."""
    nano = usd_to_nano(value)
    if nano >= NANO_PER_USD:
        cents = (nano + NANO_PER_USD // 200) // (NANO_PER_USD // 100)
        return f"${cents // 100:,}.{cents % 100:02d}"
    if 0 < nano < 1000:
        return "< $0.000001"
    whole, _, places = nano_to_usd((nano + 500) // 1000 * 1000).partition(".")
    return f"${whole}.{places:0<2}"


def show_ms(value: Any) -> str:
    """``850`` → ``850 ms``, ``1234`` → ``1.23 s``."""
    return f"{value:,} ms" if value < 1000 else f"{value / 1000:,.2f} s"


def show_share(value: Any) -> str:
    """A decimal fraction as a percentage."""
    return f"{float(value):.1%}"


def show_seconds(value: Any) -> str:
    """How long something has been going on."""
    minutes, seconds = divmod(max(0, value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def show_moment(value: datetime) -> str:
    """Date and time."""
    return f"{value:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class Column:
    """One column of a page's table.

    :param show: how a number is written; None: it is a name.
    :param none: what stands where there is no name.
    :param slot: the name is that of a day or an hour.
    :param adds_up: the last row has the sum.
    :param bar: a bar shows how much of the largest value it is.
    """

    field: str
    title: str
    show: Callable[[Any], str] | None = None
    adds_up: bool = False
    bar: bool = False
    none: str = "none"
    slot: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a heading.

    :param name: of its CSV file, and of its element.
    :param columns: what the page shows; ``fields``: what the CSV has.
    :param note: what else there is to know, in a sentence.
    :param most: rows that the page shows.
    """

    name: str
    title: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    fields: Sequence[str]
    none: str = "Nothing was booked in this time."
    note: str = ""
    most: int = MOST_SHOWN

    def as_csv(self) -> bytes:
        """All rows, as UTF-8."""
        text = io.StringIO()
        write_csv(text, map(_plain, self.rows), self.fields)
        return text.getvalue().encode("utf-8", "replace")

    def as_html(self) -> Markup:
        """The table's element, or a sentence in its place."""
        if not self.rows:
            return Markup('<p class="none">{}</p>').format(self.none)
        head = Markup("").join(_head(column) for column in self.columns)
        largest = {
            column.field: max(_number(row[column.field]) for row in self.rows) for column in self.columns if column.bar
        }
        body = Markup("\n").join(self._row(row, largest) for row in self.rows[: self.most])
        return Markup("<table><thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>{}</table>").format(
            head, body, self._foot()
        )

    @property
    def hidden(self) -> int:
        """How many rows the page leaves out."""
        return max(0, len(self.rows) - self.most)

    def _row(self, row: Row, largest: Mapping[str, int]) -> Markup:
        cells = Markup("").join(
            _cell(column, row, largest.get(column.field, 0), index == 0) for index, column in enumerate(self.columns)
        )
        at = Markup(' data-at="{}"').format(int(row["at"].timestamp())) if "at" in row else ""
        return Markup("<tr{}>{}</tr>").format(at, cells)

    def _foot(self) -> Markup:
        if len(self.rows) < 2 or not any(column.adds_up for column in self.columns):
            return Markup("")
        cells = Markup("").join(_sum(column, self.rows) for column in self.columns[1:])
        return Markup('\n<tfoot><tr><th scope="row">All</th>{}</tr></tfoot>').format(cells)


def _head(column: Column) -> Markup:
    kind = "name" if column.show is None else "number"
    return Markup('<th scope="col" class="{}" data-field="{}">{}</th>').format(kind, column.field, column.title)


def _cell(column: Column, row: Row, largest: int, is_first: bool) -> Markup:
    value = row[column.field]
    if column.show is None:
        tag = Markup('<th scope="row" class="{}">{}</th>') if is_first else Markup('<td class="{}">{}</td>')
        return tag.format("name slot" if column.slot else "name", _name(value, column.none))
    if value is None:
        return Markup('<td class="number">{}</td>').format(NOTHING)
    raw = int(value.timestamp()) if isinstance(value, datetime) else value
    bar = _bar(_number(value), largest) if column.bar else Markup("")
    return Markup('<td class="number" data-value="{}">{}{}</td>').format(raw, column.show(value), bar)


def _name(value: Any, none: str) -> Markup:
    """A name from anywhere: it cannot turn its surroundings around (bdi), and the whole of it is in the tooltip."""
    if value is None:
        return Markup('<span class="quiet">{}</span>').format(none)
    text = printable(value)
    return Markup('<bdi title="{}">{}</bdi>').format(text, text)


def _bar(value: int, largest: int) -> Markup:
    # An attribute, not a style: the page's policy allows no style that stands in HTML.
    width = round(100 * value / largest, 1) if largest else 0
    return Markup('<svg class="share" aria-hidden="true"><rect width="{}%" height="100%"/></svg>').format(width)


def _sum(column: Column, rows: Sequence[Row]) -> Markup:
    if not column.adds_up or column.show is None:
        return Markup("<td></td>")
    values = [row[column.field] for row in rows]
    money = any(isinstance(value, str) for value in values)
    total = nano_to_usd(sum(map(usd_to_nano, values))) if money else sum(values)
    return Markup('<td class="number">{}</td>').format(column.show(total))


def _number(value: Any) -> int:
    return usd_to_nano(value) if isinstance(value, str) else int(value)


def _plain(row: Row) -> dict[str, Any]:
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in row.items()}
