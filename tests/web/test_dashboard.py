"""The dashboard as HTML and CSV: what it says, and that no name in it does anything."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sseproxy import SSEProxyMiddleware, create_app
from sseproxy.app import Proxy
from sseproxy.core.chat import BadRequest
from sseproxy.web.dashboard.app import CSV, FILES, NOW, PAGE, PATHS
from sseproxy.web.dashboard.ranges import MOST_DAYS, read_range
from sseproxy.web.dashboard.tables import show_large, show_ms, show_seconds, show_usd

from .dashboard import ADMIN, OTHER, book, books_of, login, rows_of, settings

WEB = Path(__file__).parent.parent.parent / "sseproxy" / "web"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{title} {0} %s",
    "&lt;b&gt;",
    "</title></style><svg onload=alert(1)>",
    "a\u202eb\x1b[2J",
]
#: What the page is made of.
OWN = {
    "a", "bdi", "body", "button", "dd", "div", "dl", "dt", "figcaption", "figure", "form", "h1", "h2", "head", "header",
    "html", "input", "label", "li", "link", "main", "meta", "nav", "p", "rect", "script dashboard.js",
    "script uplot.js", "section", "span", "svg", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul",
}  # fmt: skip
TODAY = date(2026, 11, 21)


@pytest.fixture
def client(app: Proxy) -> Client:
    """Logged in."""
    client = Client(app)
    login(client)
    return client


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Logged in, with books that stay empty."""
    app = create_app(settings(tmp_path_factory.mktemp("books")))
    client = Client(app)
    login(client)
    yield client
    app.close()


def read_csv(client: Client, name: str, query: str = "?range=7d") -> list[dict[str, str]]:
    answer = client.get(f"{PAGE}/{name}.csv{query}")
    assert answer.status_code == 200 and answer.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_the_tables_stand_in_the_page_without_any_script(app: Proxy, client: Client) -> None:
    ledger = books_of(app)
    book(ledger, "1", user="alice", model="m1", key="key_1")
    book(ledger, "2", user="alice", model="m2", outcome="upstream_failed", first_token_ms=None)
    book(ledger, "3", user="bob", model="m1", key="key_1", ago=timedelta(days=2), first_token_ms=1500)
    book(ledger, "4", user="carol", model="m3", ends=False)
    page = client.get(PAGE).text

    today, before = (datetime.now(timezone.utc).date() - timedelta(days=ago) for ago in (0, 2))
    assert rows_of(page, "user") == [
        ["alice", "$0.50", "2", "2,000", "800", "100", "40"],
        ["bob", "$0.25", "1", "1,000", "400", "50", "20"],
        ["carol", "$0.00", "1", "0", "0", "0", "0"],
        ["All", "$0.75", "4", "3,000", "1,200", "150", "60"],
    ]
    assert rows_of(page, "day")[:2] == [
        [f"{today}", "$0.50", "3", "2,000", "800", "100", "40", "50.0%", "120 ms", "120 ms", "120 ms"],
        [f"{before}", "$0.25", "1", "1,000", "400", "50", "20", "0.0%", "1.50 s", "1.50 s", "1.50 s"],
    ]
    assert [row[0] for row in rows_of(page, "model")] == ["m1", "m2", "m3", "All"]
    assert [row[:3] for row in rows_of(page, "key")] == [
        ["key_1", "several", "$0.50"],
        ["none", "several", "$0.25"],
        ["All", "", "$0.75"],
    ]
    assert rows_of(page, "running")[0][:3] == ["carol", "m3", "none"]
    assert "Running now: 1<" in page
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert figures == {
        "Cost": "$0.75", "Requests": "4", "Input tokens": "3,000", "Output tokens": "150", "Errors": "33.3%",
        "First token, p50": "120\N{NO-BREAK SPACE}ms",
    }  # fmt: skip


def test_one_day_is_shown_by_the_hour(app: Proxy, client: Client) -> None:
    book(books_of(app), "1")
    hour = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    page = client.get(f"{PAGE}?range=today").text

    assert rows_of(page, "hour")[0][:2] in ([f"{hour:%H:%M}", "$0.25"], [f"{hour - timedelta(hours=1):%H:%M}", "$0.25"])
    assert '<section id="day"' not in page
    assert read_csv(client, "hour", "?range=today")[0]["p50_ms"] == "120"
    assert client.get(f"{PAGE}/hour.csv?range=7d").status_code == 400


def test_empty_books_have_a_page_too(reader: Client) -> None:
    page = reader.get(PAGE).text

    assert page.count("Nothing was booked in this time.") == 4
    assert "Nothing runs at this moment." in page
    assert [read_csv(reader, name, "?range=today") for name in CSV.values()] == [[]] * len(CSV)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(name: str, app: Proxy, client: Client) -> None:
    ledger = books_of(app)
    book(ledger, "1", user=name, model=name, key=name)
    book(ledger, "2", user=name, model=name, key=name, ends=False)
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    for path in (PAGE, NOW):
        page = client.get(path).text
        assert elements(page) <= OWN and not re.search("[\u202e\x1b]", page)
        assert rows_of(page, "running")[0][:3] == [shown] * 3
    page = client.get(PAGE).text
    assert [rows_of(page, table)[0][0] for table in ("user", "model", "key")] == [shown] * 3


def elements(page: str) -> set[str]:
    """The elements of a page as a browser sees them, scripts with their address; and every handler of an event."""
    found = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add(f"script {dict(attrs).get('src')}" if tag == "script" else tag)
            found.update(name for name, _ in attrs if name.startswith("on") or name == "style")

    Parser().feed(page)
    return found


def test_a_name_in_the_address_or_of_the_admin_is_text_too(tmp_path: Path) -> None:
    for name in HOSTILE[:6]:
        app = create_app(settings(tmp_path, users={name: {"keys": [ADMIN], "admin": True}}))
        client = Client(app)
        before = client.get(PAGE, query_string={"range": name, "since": name, "until": name})
        login(client)
        after = client.get(PAGE, query_string={"range": name, "since": name, "until": name})
        app.close()

        assert (before.status_code, after.status_code) == (401, 400)
        for page in (before.text, after.text):
            assert name not in page or name == "{title} {0} %s"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", 'a"b,c\nd'])
def test_no_cell_is_a_formula_and_every_row_is_one(name: str, app: Proxy, client: Client) -> None:
    book(books_of(app), "1", user=name, model=name, key=name)
    book(books_of(app), "2", user=name, model=name, key=name, ends=False)
    expected = name if name.startswith("a") else "'" + name.replace("\r", "\n")

    for table in ("user", "model", "key", "running"):
        rows = read_csv(client, table)
        assert len(rows) == 1
        assert rows[0][table if table != "running" else "user"] == expected


def test_the_csv_has_all_rows_of_which_the_page_shows_the_dearest(app: Proxy, client: Client) -> None:
    for number in range(60):
        book(books_of(app), f"{number}", user=f"user{number}")
    page = client.get(PAGE).text

    assert len(rows_of(page, "user")) == 51
    assert rows_of(page, "user")[-1][1] == "$15.00"
    assert "the other 10 stand in the CSV file" in page
    rows = read_csv(client, "user")
    assert len(rows) == 60
    assert rows[0] == {
        "user": "user0", "requests": "1", "input_tokens": "1000", "cached_input_tokens": "400", "output_tokens": "50",
        "reasoning_tokens": "20", "cost_usd": "0.25", "pending": "0", "unpriced": "0",
    }  # fmt: skip


def test_every_table_leads_to_its_csv_of_the_same_range(reader: Client) -> None:
    query = "range=custom&amp;since=2026-11-01&amp;until=2026-11-02"
    page = reader.get(f"{PAGE}?range=custom&since=2026-11-01&until=2026-11-02").text

    assert re.findall(r'href="(dashboard/\w+\.csv[^"]*)"', page) == [
        "dashboard/running.csv",
        *(f"dashboard/{name}.csv?{query}" for name in ("day", "user", "model", "key")),
    ]
    named = reader.get(f"{PAGE}/day.csv?range=custom&since=2026-11-01&until=2026-11-02").headers["Content-Disposition"]
    assert named == 'attachment; filename="sseproxy-by-day-2026-11-01-2026-11-02.csv"'


def test_a_range_counts_its_days_and_no_other(app: Proxy, client: Client) -> None:
    for ago in (0, 6, 7, 29, 30):
        book(books_of(app), f"{ago}", ago=timedelta(days=ago))

    def requests(range: str) -> int:
        return sum(int(row["requests"]) for row in read_csv(client, "user", f"?range={range}"))

    assert [requests(range) for range in ("today", "7d", "30d")] == [1, 2, 4]
    first = datetime.now(timezone.utc).date() - timedelta(days=30)
    assert requests(f"custom&since={first}&until={first}") == 1


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ({}, date(2026, 11, 15), TODAY),
        ({"range": "today"}, TODAY, TODAY),
        ({"range": "7d"}, date(2026, 11, 15), TODAY),
        ({"range": "30d"}, date(2026, 10, 23), TODAY),
        ({"range": "month"}, date(2026, 11, 1), TODAY),
        ({"range": "custom", "since": "2024-02-29", "until": "2024-03-01"}, date(2024, 2, 29), date(2024, 3, 1)),
        ({"since": "2026-01-01", "until": "2027-01-01"}, date(2026, 1, 1), date(2027, 1, 1)),
    ],
)
def test_ranges_are_whole_days(query: dict[str, str], first: date, last: date) -> None:
    found = read_range(query, TODAY)

    assert (found.first, found.last) == (first, last)
    assert found.since == datetime(first.year, first.month, first.day, tzinfo=timezone.utc)
    assert found.until - found.since == timedelta(days=(last - first).days + 1)
    again = read_range(dict(pair.split("=") for pair in found.query.split("&")), TODAY)
    assert again == found


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"range": "week"}, "no such range"),
        ({"range": "custom"}, "first day is no date"),
        ({"since": "2026-11-01"}, "last day is no date"),
        ({"since": "2026-13-01", "until": "2026-11-02"}, "first day is no date"),
        ({"since": "20261101", "until": "2026-11-02"}, "first day is no date"),
        ({"since": "2026-11-01", "until": "9999-12-31"}, "last day is no date"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "comes after"),
        ({"since": "2020-01-01", "until": "2026-11-01"}, f"at most {MOST_DAYS} days"),
    ],
)
def test_a_range_that_is_none_is_explained_above_the_default(query: dict[str, str], says: str, reader: Client) -> None:
    with pytest.raises(BadRequest, match=says):
        read_range(query, TODAY)
    answer = reader.get(PAGE, query_string=query)

    assert answer.status_code == 400
    assert says in answer.text and 'aria-current="page">7 days' in answer.text
    assert reader.get(f"{PAGE}/user.csv", query_string=query).status_code == 400


def test_amounts_are_readable_and_never_zero_when_they_are_not() -> None:
    shown = {"0": "$0.00", "0.25": "$0.25", "0.000065": "$0.000065", "0.0000009": "< $0.000001",
             "1234567.894": "$1,234,567.89", "0.9999999": "$1.00", "1.005": "$1.01"}  # fmt: skip

    assert {amount: show_usd(amount) for amount in shown} == shown
    assert [show_large(value) for value in (999, 9_999_999, 12_345_678, 2_499_992_438)] == [
        "999", "9,999,999", "12.35 M", "2.50 B",
    ]  # fmt: skip
    assert (show_ms(999), show_ms(1234)) == ("999 ms", "1.23 s")
    assert [show_seconds(value) for value in (-1, 59, 61, 3_700)] == ["0 s", "59 s", "1 min 01 s", "1 h 01 min"]


@pytest.mark.parametrize("path", sorted(PATHS - set(FILES)))
def test_nothing_of_it_is_kept_by_anybody_and_nothing_foreign_runs_in_it(path: str, reader: Client) -> None:
    headers = reader.get(path).headers

    assert headers["Cache-Control"] == "no-store"
    directives = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["form-action"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_no_template_has_a_script_or_style_of_its_own_inline() -> None:
    for template in (WEB / "dashboard" / "templates").iterdir():
        assert (
            re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", template.read_text("utf-8"))
            == []
        )


@pytest.mark.parametrize(("path", "name"), FILES.items())
def test_its_files_are_served_without_a_key(path: str, name: str, reader: Client) -> None:
    answer = reader.get(path, headers={"Cookie": ""})

    assert (answer.status_code, answer.get_data()) == (200, (WEB / name).read_bytes())
    assert answer.headers["Cache-Control"] == "no-cache"


def test_the_vendored_library_stands_beside_its_licence_and_version() -> None:
    folder = WEB / "vendor" / "uplot"

    assert "MIT License" in (folder / "LICENSE").read_text("utf-8")
    version = re.search(r"uPlot (\S+),", (folder / "VERSION").read_text("utf-8"))
    assert version and f"v{version[1]}" in (folder / "uPlot.iife.min.js").read_text("utf-8")[:300]


@pytest.mark.parametrize("path", sorted(PATHS))
def test_head_is_answered_as_get_without_a_body(path: str, reader: Client) -> None:
    query = "?range=today"
    whole, head = reader.get(path + query), reader.head(path + query)

    assert (head.status_code, head.get_data()) == (whole.status_code, b"")
    assert head.headers["Content-Type" if whole.status_code == 200 else "Location"]
    assert "Content-Length" in head.headers


def test_every_link_leads_somewhere_below_any_mount_point(app: Proxy) -> None:
    client = Client(DispatcherMiddleware(Response("site"), {"/llm": app}))
    client.post("/llm/-/dashboard/login", data={"key": ADMIN})
    pages = {"/llm/-/dashboard": client.get("/llm/-/dashboard").text}
    pages["/llm/-/dashboard/login"] = client.post("/llm/-/dashboard/login", data={"key": "x"}).text
    pages["/llm/-/dashboard/x.csv"] = client.get("/llm/-/dashboard/user.csv?range=no").text

    for place, page in pages.items():
        links = [link for link in re.findall(r'(?:href|src)="([^"]+)"', page) if not link.startswith("data:")]
        assert all(name in "".join(links) for name in ("page.css", "dashboard.css"))
        for link in links:
            assert not link.startswith("/")
            assert client.get(urljoin(place, link.replace("&amp;", "&"))).status_code == 200, (place, link)


def test_the_wrapped_application_does_not_see_it_unless_it_is_switched_off(tmp_path: Path) -> None:
    for enabled in (True, False):
        wrapper = SSEProxyMiddleware(
            Response("the application's own"), settings(tmp_path, dashboard={"enabled": enabled})
        )
        client = Client(wrapper)
        seen = {path: client.get(path).text != "the application's own" for path in (PAGE, *FILES, NOW)}
        assert login(client).status_code == (303 if enabled else 200)
        assert client.get("/-/dashboards").text == client.get(f"{PAGE}/other").text == "the application's own"
        wrapper.close()
        assert set(seen.values()) == {enabled}


def test_switched_off_there_is_no_such_page(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, dashboard={"enabled": False}))
    answers = [Client(app).get(path, headers={"Authorization": f"Bearer {ADMIN}"}) for path in (PAGE, *FILES)]
    app.close()

    assert {answer.status_code for answer in answers} == {404}


def test_without_the_ledger_it_says_so(app: Proxy, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with books_of(app).database.change() as connection:
        connection.exec_driver_sql("ALTER TABLE sessions RENAME TO elsewhere")
    answer = client.get(PAGE)

    assert answer.status_code == 503 and "The ledger is not available" in answer.text


def test_the_log_says_who_looked(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "sseproxy.access"):
        client.get(f"{PAGE}?range=today", buffered=True)
        client.get(PAGE, headers={"Authorization": f"Bearer {OTHER}"}, buffered=True)

    first, second = caplog.messages
    assert "user=root" in first and "path=/-/dashboard " in first
    assert "status=403" in second


def test_the_demo_opens_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSEPROXY_CONFIG", raising=False)
    app = create_app()
    client = Client(app)
    assert login(client, "sk-demo").status_code == 303
    seen = client.get(PAGE).status_code
    app.close()

    assert seen == 200
