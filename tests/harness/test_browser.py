"""The browser of the tests: what a page says, shows and throws comes back, and pages wait at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PATIENCE, Browser, PageError, Upstream, free_port, raw, serve_files

STRICT = """<!doctype html><meta charset="utf-8"><title>strict</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'"><p>Ünder a policy</p>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "index.html").write_text(STRICT, "utf-8")
    (tmp_path / "module.js").write_text("export const x = 1", "utf-8")
    with serve_files({"/": tmp_path, "/again/": tmp_path}) as url:
        yield url


def test_a_page_returns_what_its_code_returns_even_under_a_strict_policy(browser: Browser, site: str) -> None:
    with browser.open(f"{site}/index.html") as page:
        assert page.run("return document.querySelector('p').textContent") == "Ünder a policy"
        assert page.run("return await Promise.resolve({list: [1, null]})") == {"list": [1, None]}
        assert page.run("const nothing = 1 // a comment") is None


def test_what_a_page_throws_and_logs_is_told(browser: Browser, site: str) -> None:
    with browser.open(site) as page:
        with pytest.raises(PageError, match="RangeError: too far"):
            page.run("throw new RangeError('too far')")
        page.run("console.warn('mind the gap')")

        assert "warning: mind the gap" in page.console


def test_an_endless_run_fails_after_its_time_and_the_page_lives_on(browser: Browser, site: str) -> None:
    with browser.open(site) as page:
        with pytest.raises(AssertionError, match=r"no end after 0\.1 s"):
            page.run("await new Promise(() => {})", timeout=0.1)

        assert page.run("return 2") == 2


def test_pages_run_at_the_same_time_and_share_no_storage(browser: Browser, site: str) -> None:
    with browser.open(site) as one, browser.open(site) as two:
        waiting = one.start("localStorage.x = 'mine'; await new Promise((resolve) => (window.go = resolve)); return 1")

        assert two.run("return localStorage.x ?? 'nothing'") == "nothing"
        one.run("go()")
        assert waiting.result(PATIENCE) == 1


def test_what_a_page_has_kept_is_gone_with_it(browser: Browser, site: str) -> None:
    keep = "localStorage.x = sessionStorage.x = 'kept'; document.cookie = 'x=kept; path=/'; window.x = 'kept'"
    with browser.open(site) as page:
        page.run(f"{keep}; await caches.open('kept')")
    with browser.open(site) as page:
        assert page.run("return [{...localStorage}, {...sessionStorage}, document.cookie]") == [{}, {}, ""]
        assert page.run("return [window.x ?? null, await caches.keys()]") == [None, []]
        assert page.console == []


def test_a_page_that_is_closed_hangs_up(browser: Browser, site: str, upstream: Upstream) -> None:
    headers = [("Content-Type", "text/event-stream"), ("Access-Control-Allow-Origin", "*")]
    upstream.script = raw(b"data: x\n\n", headers=headers, end="hang")
    with browser.open(f"{site}/missing.html") as page:
        page.run(f"await new Promise((go) => {{ (window.source = new EventSource('{upstream.url}')).onmessage = go }})")
        asked = upstream.wait_for_request()

    asked.wait_for_peer_close(PATIENCE)


def test_a_screenshot_has_the_size_asked_for(browser: Browser, site: str, tmp_path: Path) -> None:
    with browser.open(site) as page:
        page.screenshot(tmp_path / "phone.png", width=390, height=844)

        assert page.run("return [innerWidth, innerHeight]") == [390, 844]
    header = (tmp_path / "phone.png").read_bytes()[:24]
    assert (header[1:4], int.from_bytes(header[16:20], "big")) == (b"PNG", 390)


def test_nobody_at_the_address_is_an_error(browser: Browser) -> None:
    with pytest.raises(PageError, match="ERR_CONNECTION_REFUSED"):
        browser.open(f"http://127.0.0.1:{free_port()}/")


def test_files_are_served_under_prefixes_and_without_extension(browser: Browser, site: str) -> None:
    with browser.open(f"{site}/missing.html") as page:
        reply = "const reply = await fetch(PATH); return [reply.status, reply.headers.get('content-type')]"

        assert page.run(reply.replace("PATH", "'/again/module'")) == [200, "text/javascript"]
        assert page.run(reply.replace("PATH", "'/nowhere'"))[0] == 404
