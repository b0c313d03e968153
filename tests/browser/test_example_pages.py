"""The pages of examples/, in Chromium, against their own configuration: each reads, comes back, and stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.harness import PATIENCE, Browser, Cutter, Upstream, raw, serve_files, silent
from tests.harness.parts import CLIENTS
from tests.integration.books import AT_ONCE, Books

from .site import Site, chunks, running, tale

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PAGES = sorted(path.stem for path in EXAMPLES.glob("*.html") if path.name != "index.html")
DIRECT = {"fetch-openai", "fetch-plain"}
"""Those that cannot come back."""
TEXTS = tale(24)
CORS = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "authorization, content-type")]
UNTIL = "const until = async (test) => { while (!test()) await new Promise((go) => setTimeout(go, 5)); };"
AT = "const at = (id) => document.getElementById(id);"


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """The folder as it is served, with the packages of the test clients."""
    with serve_files({"/": EXAMPLES, "/node_modules/": CLIENTS / "node_modules"}) as url:
        yield url


@pytest.fixture
def site(upstream: Upstream, pages: str, tmp_path: Path) -> Iterator[Site]:
    """The configuration of the examples, with a controllable upstream."""
    config = yaml.safe_load((EXAMPLES / "config.yaml").read_text("utf-8"))
    config["upstreams"] = {"demo": {"url": upstream.url}}
    config["cors"]["origins"].append(pages)
    config["accounting"] = {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": f"{tmp_path}/usage.journal"}
    with running(config) as site:
        yield site


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_an_answer_over_a_broken_connection_and_stops_the_next(
    name: str, site: Site, pages: str, upstream: Upstream, books: Books, browser: Browser
) -> None:
    upstream.script = raw(chunks(TEXTS), steps=True)
    with (
        Cutter(int(site.url.rpartition(":")[2])) as cutter,
        browser.open(f"{pages}/{name}.html?api={cutter.url}") as page,
    ):
        ended = "/^(Done|Failed|Stopped)/.test(at('status').textContent)"
        reading = page.start(
            f"{AT}{UNTIL} at('send').click(); await until(() => {ended}); return at('answer').textContent"
        )
        first = upstream.wait_for_request(1)
        first.allow(6)
        page.run(f"{AT}{UNTIL} await until(() => at('answer').textContent.includes('5'))")
        if name not in DIRECT:
            cutter.cut()
        first.allow(40)
        assert reading.result(PATIENCE) == "".join(TEXTS)
        assert page.run(f"{AT} return at('status').textContent") == "Done"

        page.run(f"{AT} at('send').click()")
        second = upstream.wait_for_request(2)
        second.allow(6)
        page.run(f"{AT}{UNTIL} await until(() => at('answer').textContent.includes('5')); at('stop').click()")
        second.wait_for_peer_close(AT_ONCE)
        assert page.run(f"{AT} return [at('status').textContent, at('stop').disabled]") == ["Stopped", True]

    charges = books.wait_for(lambda rows: len(rows) == 2 and all(row["state"] != "pending" for row in rows))
    assert sorted(charge["outcome"] for charge in charges) == ["client_gone", "completed"]
    assert len(upstream.exchanges) == 2


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stops_an_answer_that_has_not_begun_or_says_that_it_cannot(
    name: str, site: Site, pages: str, upstream: Upstream, books: Books, browser: Browser
) -> None:
    upstream.script = silent()
    with browser.open(f"{pages}/{name}.html?api={site.url}") as page:
        page.run(f"{AT} at('send').click()")
        asked = upstream.wait_for_request()
        page.run(f"{AT}{UNTIL} await until(() => !at('stop').disabled); at('stop').click()")
        if name == "eventsource":
            page.run(f"{AT}{UNTIL} await until(() => at('status').textContent.includes('the server goes on'))")
            return
        asked.wait_for_peer_close(AT_ONCE)
        page.run(f"{AT}{UNTIL} await until(() => at('status').textContent === 'Stopped')")

    assert books.one_ended()["outcome"] in ("client_gone", "refused")


def test_an_error_that_comes_behind_the_end_is_none(
    site: Site, pages: str, upstream: Upstream, browser: Browser
) -> None:
    """As sse.js tells of one in WebKit, which fires `load` at a request that was aborted in its last `progress`."""
    upstream.script = raw(chunks(TEXTS))
    with browser.open(f"{pages}/sse-js.html?api={site.url}") as page:
        page.run("""const {send} = XMLHttpRequest.prototype;
          XMLHttpRequest.prototype.send = function (body) { globalThis.sent = this; send.call(this, body); };""")
        page.run(f"{AT}{UNTIL} at('send').click(); await until(() => at('status').textContent === 'Done')")
        page.run("sent.dispatchEvent(new ProgressEvent('error'))")

        assert page.run(f"{AT} return [at('status').textContent, at('send').disabled]") == ["Done", False]


@pytest.mark.parametrize(
    ("pieces", "shown", "status"),
    [
        *((["word " + "<ERR> no"[:cut], "<ERR> no"[cut:]], "word ", "Failed: no") for cut in range(9)),
        (["word <ERR", "OR>"], "word <ERROR>", "Done"),
        (["word", " <ERR"], "word <ERR", "Done"),
        (["word <", "ERR> no"], "word ", "Failed: no"),
        (["word <b>\n", "<", "E", "R", "<ERR> n", "o"], "word <b>\n<ER", "Failed: no"),
    ],
)
def test_plain_text_is_told_from_its_error_wherever_the_network_cuts_it(
    pieces: list[str], shown: str, status: str, pages: str, upstream: Upstream, browser: Browser
) -> None:
    answer = raw([piece.encode() for piece in pieces], headers=[("Content-Type", "text/plain"), *CORS], steps=True)
    upstream.scripts.extend([raw(b"", headers=CORS, framing="length"), answer])
    api = upstream.url.removesuffix("/v1")
    with browser.open(f"{pages}/fetch-plain.html?api={api}") as page:
        page.run(f"{AT} at('send').click()")
        asked = upstream.wait_for_request(2)
        for number in range(len(pieces)):
            asked.allow()
            asked.wait_for_sent(number + 1)
            page.run(f"{AT}{UNTIL} await until(() => at('answer').textContent.startsWith('word'))")
        page.run(f"{AT}{UNTIL} await until(() => at('status').textContent !== 'Streaming')")

        assert page.run(f"{AT} return [at('answer').textContent, at('status').textContent]") == [shown, status]
