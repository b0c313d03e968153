"""The dashboard, in Chromium: an admin logs in, sees plots and tables, chooses a range, logs out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from sseproxy import create_app
from sseproxy.app import Proxy
from tests.harness import Browser, Page, PageError, wait_until, waitress_thread
from tests.web.dashboard import ADMIN, OTHER, PAGE, book, books_of, settings

from .accessibility import barriers

# What each test does to the page, as a person would, and what it reads there.
DEEDS = """
globalThis.at = (selector) => document.querySelector(selector);
globalThis.until = async (test) => { while (!test()) await new Promise((go) => setTimeout(go, 5)); };
globalThis.painted = () => [...document.querySelectorAll("canvas")].map((canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size; });
"""
LONG = "<b>" + "a-very-long-name-without-a-blank" * 6


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Proxy]:
    app = create_app(settings(tmp_path))
    for number in range(12):
        book(books_of(app), f"c{number}", ago=timedelta(days=number), user=LONG, model=f"m{number % 3}", key="key_1")
    yield app
    app.close()


@pytest.fixture
def url(app: Proxy) -> Iterator[str]:
    with waitress_thread(DispatcherMiddleware(Response("site"), {"/llm": app})) as server:
        yield f"{server.url}/llm"


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with browser.open(f"{url}{PAGE}") as page:
        yield page


def follow(page: Page, deed: str) -> None:
    """Do something that leads to another page, and wait until that is there."""
    page.run(f"globalThis.isOld = true; setTimeout(() => {{ {deed} }})")
    wait_until(lambda: is_new(page), state=lambda: f"nothing came of: {deed}")
    page.run(DEEDS)


def is_new(page: Page) -> bool:
    try:
        return bool(page.run("return !globalThis.isOld && document.readyState === 'complete'"))
    except PageError:  # asked in between, when there was neither of them
        return False


def log_in(page: Page, key: str = ADMIN) -> None:
    follow(
        page,
        f"document.querySelector('#key').value = {json.dumps(key)}; document.querySelector('#login').requestSubmit()",
    )


def violations(page: Page) -> list[str]:
    """What the console says, except for what every page that asks for a login makes it say."""
    return [line for line in page.console if "401" not in line and not line.startswith("verbose")]


def test_an_admin_logs_in_and_sees_plots_of_the_tables(page: Page) -> None:
    log_in(page)

    assert page.run("return location.pathname") == f"/llm{PAGE}"
    assert page.run("return at('#summary dd').textContent") == "$1.75"  # seven days
    painted = page.run("await until(() => document.querySelectorAll('canvas').length === 4); return painted()")
    assert all(colours > 2 for colours in painted)
    assert (
        page.run("return [...document.querySelectorAll('figure')].map((one) => one.offsetHeight > 150)") == [True] * 4
    )
    assert page.run("return document.cookie") == ""  # no script reads it
    assert violations(page) == []


def test_a_plot_says_what_the_table_says(page: Page) -> None:
    log_in(page)
    page.run("await until(() => document.querySelectorAll('canvas').length === 4)")
    over = "at('[data-plot=tokens] .u-over')"
    said = page.run(f"""
      const {{left, top, width}} = {over}.getBoundingClientRect();
      const move = {{bubbles: true, clientX: left + width - 5, clientY: top + 20}};
      {over}.dispatchEvent(new MouseEvent("mouseenter", move)); {over}.dispatchEvent(new MouseEvent("mousemove", move));
      const cells = [...document.querySelectorAll("[data-plot=tokens] .u-value")];
      const values = () => cells.map((cell) => cell.textContent);
      await until(() => values()[1] !== "\u2013");
      return values().slice(1);""")

    assert said == ["50", "1K"]  # output and input of today


def test_another_range_is_a_click_away_and_a_custom_one_a_form(page: Page) -> None:
    log_in(page)
    follow(page, "[...document.querySelectorAll('nav a')].find((link) => link.textContent === '30 days').click()")
    assert page.run("return at('#summary dd').textContent") == "$3.00"
    assert page.run("return at('[aria-current]').textContent") == "30 days"

    follow(page, "document.querySelector('nav form').requestSubmit()")
    assert page.run("return new URLSearchParams(location.search).get('range')") == "custom"
    assert page.run("return at('#summary dd').textContent") == "$3.00"
    follow(page, "[...document.querySelectorAll('nav a')].find((link) => link.textContent === 'Today').click()")
    assert page.run("return [at('#hour') !== null, at('#summary dd').textContent]") == [True, "$0.25"]
    assert all(colours > 2 for colours in page.run("return painted()"))
    assert violations(page) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_makes_the_page_itself_scroll_sideways(page: Page, width: int, tmp_path: Path) -> None:
    log_in(page)
    page.screenshot(tmp_path / "page.png", width=width, height=844)
    page.run(
        "await until(() => [...document.querySelectorAll('.u-wrap')].every((one) => one.offsetWidth <= innerWidth))"
    )

    assert page.run("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert page.run("return at('#user .name bdi').textContent") == LONG
    assert page.run("return at('#user b')") is None


def test_everybody_can_read_and_reach_what_is_there(page: Page) -> None:
    form = barriers(page)
    log_in(page)
    page.run("await until(() => document.querySelectorAll('canvas').length === 4)")

    assert (form, barriers(page)) == ([], [])


def test_a_wrong_key_and_one_of_no_admin_lead_back_to_the_form(page: Page) -> None:
    for key, says in (("sk-wrong", "unknown, revoked or expired"), (OTHER, "for admins")):
        log_in(page, key)
        assert says in page.run("return at('[role=status]').textContent")
    assert page.run("return getComputedStyle(at('#login')).display") == "flex"  # its style was found

    log_in(page)
    follow(page, "document.querySelector('header form').requestSubmit()")
    assert page.run("return [at('#key') !== null, at('#summary')]") == [True, None]


def test_what_runs_is_kept_up_to_date(page: Page, app: Proxy) -> None:
    log_in(page)
    assert page.run("return at('#running-title').textContent") == "Running now: 0"
    book(books_of(app), "runs", user="somebody", ends=False)

    page.run("""document.dispatchEvent(new Event("visibilitychange"));
      await until(() => at("#running-title").textContent === "Running now: 1")""")
    assert page.run("return at('#running tbody .name').textContent") == "somebody"
    assert violations(page) == []


def test_where_no_plot_can_be_drawn_what_runs_is_kept_up_to_date_all_the_same(browser: Browser, app: Proxy) -> None:
    broken = Response("new Intl.NumberFormat('C')", mimetype="text/javascript")  # as uPlot does in the locale C
    site = DispatcherMiddleware(Response("site"), {"/llm/-/uplot.js": broken, "/llm": app})
    with waitress_thread(site) as server, browser.open(f"{server.url}/llm{PAGE}") as page:
        log_in(page)
        assert page.run("return at('#plots').hidden")
        book(books_of(app), "runs", user="somebody", ends=False)

        page.run("""document.dispatchEvent(new Event("visibilitychange"));
          await until(() => at("#running-title").textContent === "Running now: 1")""")


def test_without_scripts_the_form_and_the_tables_are_all_there(page: Page) -> None:
    """As the server sends it: what a browser that runs no script shows."""
    log_in(page)
    shown = page.run("""
      const page = new DOMParser().parseFromString(await (await fetch(location)).text(), "text/html");
      const count = (selector) => page.querySelectorAll(selector).length;
      return [page.querySelector("#plots").hidden, count("table"), count("nav a")];""")

    assert shown == [True, 4, 4]
