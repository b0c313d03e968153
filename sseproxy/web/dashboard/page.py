"""The dashboard's HTML. Whatever is put into a template is escaped, unless it came out of one (MarkupSafe).

No template may hold a style or a script of its own: the pages' Content-Security-Policy forbids both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Final

from markupsafe import Markup

from sseproxy.core.failure import Failure
from sseproxy.core.printable import printable
from sseproxy.web.dashboard.figures import Figures, sample_note, slot_step, summary
from sseproxy.web.dashboard.ranges import NAMES, Range, named_range
from sseproxy.web.dashboard.tables import Table

_TITLES: Final = {
    400: "That cannot be shown",
    403: "Not for this user",
    429: "Too many attempts",
    503: "The ledger does not answer",
}
_NOTHING: Final = Markup("")


def dashboard_page(
    figures: Figures, running: Table, time: Range, today: date, who: str, notice: str, *, can_leave: bool
) -> Markup:
    """The page of one range.

    :param notice: what was wrong with the range that was asked for.
    :param can_leave: whether the user came in by a session, which can be ended.
    """
    tables = figures.tables()
    content = _fill(
        "dashboard",
        ranges=_ranges(time, today),
        since=time.first,
        until=time.last,
        today=today,
        notice=_paragraph(notice, "failed"),
        words=time.words,
        summary=_summary(summary(tables[0].rows, figures.qualities)),
        first=int(time.since.timestamp()),
        last=int(time.until.timestamp()) - slot_step(time),
        step=slot_step(time),
        sample=_paragraph(sample_note(figures.qualities), "note"),
        running=table_section(running, ""),
        tables=Markup("\n").join(table_section(table, f"?{time.query}") for table in tables),
    )
    hidden = _NOTHING if can_leave else Markup(" hidden")
    tools = _fill("tools", up="", user=printable(who), hidden=hidden)
    return _frame("Dashboard", content, "", head=_fill("head", up=""), tools=tools)


def table_section(table: Table, query: str) -> Markup:
    """One table with its heading, its CSV and what there is to know of it.

    :param query: of the range, for the CSV.
    """
    left_out = (
        f"The {table.most} that cost most; the other {table.hidden:,} stand in the CSV file." if table.hidden else ""
    )
    note = _paragraph(" ".join(text for text in (table.note, left_out) if text), "note")
    return _fill("table", name=table.name, title=table.title, query=query, table=table.as_html(), note=note)


def login_page(failure: Failure, query: Mapping[str, str], up: str) -> Markup:
    """The form, and why it is shown.

    :param query: of the page that was asked for, where the login leads to.
    :param up: from here to the folder of the pages: empty, or ``../``.
    """
    asked = {name: query.get(name, "") for name in ("range", "since", "until")}
    wrong = failure.code not in ("missing_api_key", "session_ended")
    title = _TITLES.get(failure.status, "Log in")
    kind = "failed" if wrong else "quiet"
    content = _fill("login", title=title, kind=kind, message=failure.message, up=up, **asked)
    return _frame("Log in to the dashboard", content, up)


def problem_page(failure: Failure, up: str) -> Markup:
    """What went wrong, in a sentence."""
    title = _TITLES.get(failure.status, "That did not work")
    return _frame(title, _fill("problem", title=title, message=failure.message, up=up), up)


def _frame(title: str, content: Markup, up: str, *, head: Markup = _NOTHING, tools: Markup = _NOTHING) -> Markup:
    return _fill("frame", title=f"{title} - sseproxy", content=content, up=up, head=head, tools=tools)


def _ranges(time: Range, today: date) -> Markup:
    links = []
    for name, title in NAMES.items():
        current = Markup(' aria-current="page"') if name == time.name else _NOTHING
        query = named_range(name, today).query
        links.append(Markup('<li><a href="dashboard?{}"{}>{}</a></li>').format(query, current, title))
    return _NOTHING.join(links)


def _summary(figures: Sequence[tuple[str, str, str]]) -> Markup:
    one = Markup("<div><dt>{}</dt><dd>{}</dd>{}</div>")
    note = Markup('<dd class="quiet">{}</dd>')
    return _NOTHING.join(
        one.format(title, figure, note.format(more) if more else "") for title, figure, more in figures
    )


def _paragraph(text: str, kind: str) -> Markup:
    return Markup('<p class="{}">{}</p>').format(kind, text) if text else _NOTHING


def _fill(template: str, **values: object) -> Markup:
    return _template(template).format(**values)


@cache
def _template(name: str) -> Markup:
    return Markup((files("sseproxy.web") / "dashboard" / "templates" / f"{name}.html").read_text("utf-8"))
