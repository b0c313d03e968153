"""The chat page, in Chromium: it types, counts, stops, comes back, and says in sentences what went wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from sseproxy import SSEProxyMiddleware, create_app
from tests.harness import PATIENCE, Browser, Cutter, Exchange, Page, Upstream, raw, refuse, silent, waitress_thread
from tests.integration.books import AT_ONCE, KEY, Books, config

from .accessibility import barriers
from .site import Site, chunks, running, tale

Open = Callable[[str], Page]
TEXTS = [*tale(30), "<img src=x onerror=alert(1)> <b>&amp;</b>"]
# What each test does to the page, as a person would, and what it reads there.
DEEDS = """
globalThis.at = (selector) => document.querySelector(selector);
globalThis.until = async (test) => { while (!test()) await new Promise((go) => setTimeout(go, 5)); };
globalThis.press = (key, more = {}) =>
  at("#prompt").dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true, ...more}));
globalThis.type = (selector, text) => { at(selector).value = text; at(selector).dispatchEvent(new Event("input")); };
globalThis.ask = async (text) => { await until(() => !at("#model").disabled || !at("#model-name").hidden);
  type("#prompt", text); press("Enter"); };
globalThis.has = (text) => until(() => at("li:last-child .text")?.textContent.includes(text));
globalThis.ended = () => until(() => at("li") && !at("[aria-busy=true]"));
globalThis.seen = () => { const of = (part) => at(`li:last-child .${part}`);
  return {text: of("text").textContent, notice: of("notice").hidden ? "" : of("notice").textContent,
    meter: of("meter").textContent.replaceAll("\\u00a0", " "), status: at("#status").textContent}; };
"""


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens the chat page below an address, with the key in its fragment."""
    with contextlib.ExitStack() as stack:

        def open_it(url: str, fragment: str = f"#key={KEY}") -> Page:
            page = stack.enter_context(browser.open(f"{url}/-/chat{fragment}"))
            page.run(DEEDS)
            return page

        yield open_it


@pytest.fixture
def page(site: Site, upstream: Upstream, open_page: Open) -> Page:
    upstream.script = answering(TEXTS)
    return open_page(site.url)


def answering(texts: list[str], told: int | None = None, **how: Any) -> Any:
    """The models' list has its own answer; everything else is this text, or its first ``told`` chunks."""
    answer = raw(chunks(texts)[:told], **how)

    def script(exchange: Any) -> None:
        (models if exchange.path == "/v1/models" else answer)(exchange)

    return script


def models(exchange: Any) -> None:
    rows = {"data": [{"id": "m-large", "object": "model"}]}
    raw(json.dumps(rows).encode(), headers=[("Content-Type", "application/json")], framing="length")(exchange)


def asked(upstream: Upstream) -> list[Any]:
    """The chat requests that reached the upstream."""
    return [exchange for exchange in upstream.exchanges if exchange.path != "/v1/models"]


def begin(page: Page, upstream: Upstream, deed: str) -> tuple[Future[Any], Exchange]:
    """Do this in the page without waiting for its end; the request that it makes."""
    page.run("await until(() => !at('#model').disabled)")
    number = len(upstream.exchanges) + 1
    return page.start(deed), upstream.wait_for_request(number)


def test_the_key_moves_from_the_address_to_this_tab_alone(page: Page) -> None:
    page.run("await until(() => !at('#model').disabled)")

    kept = "{hash: location.hash, key: at('#key').value, tab: {...sessionStorage}, disk: {...localStorage}}"
    found = page.run(f"return {{...{kept}, history: history.length, cookie: document.cookie}}")
    assert found["hash"] == found["cookie"] == ""
    assert (found["key"], found["tab"], found["disk"]) == (KEY, {"sseproxy.key": KEY}, {})
    assert page.run("return [...at('#model').options].map((option) => option.value)") == ["fast", "m-large"]


def test_an_answer_is_shown_exactly_and_its_bill_is_the_servers(page: Page, books: Books) -> None:
    seen = page.run("await ask('Tell me a tale.'); await ended(); return seen()")

    assert seen["text"] == "".join(TEXTS)
    assert seen["notice"] == seen["status"] == ""
    assert seen["meter"].startswith(f"3 in, {len(TEXTS)} out · $0.000065 · first after ")
    assert books.one_ended()["cost_usd"] == "0.000065"
    assert page.run("return at('.text').querySelectorAll('img, b').length") == 0  # HTML of a model is text
    assert page.run("return at('.answer').getAttribute('aria-busy')") == "false"
    assert page.console == []  # a violation of the Content-Security-Policy would stand here


def test_the_next_question_brings_the_conversation_along(page: Page, upstream: Upstream) -> None:
    page.run("await ask('One?'); await ended(); await ask('Two?'); await ended()")

    said = asked(upstream)[1].body["messages"]
    assert [(message["role"], message["content"]) for message in said] == [
        ("user", "One?"), ("assistant", "".join(TEXTS)), ("user", "Two?"),
    ]  # fmt: skip
    assert page.run("return at('#total').textContent").startswith(f"This chat: {2 * len(TEXTS)} tokens · $0.00013")
    page.run("at('#new').click(); await ask('Three?'); await ended()")
    assert len(asked(upstream)[2].body["messages"]) == 1


def test_tokens_and_cost_are_estimated_while_they_come(page: Page, upstream: Upstream) -> None:
    upstream.script = answering(["word "] * 40, told=20, end="hang")

    seen = page.run(
        "await ask('Tell me a tale.'); await until(() => seen().meter.startsWith('≈ 20 tokens')); return seen()"
    )
    assert seen["meter"].startswith("≈ 20 tokens · ≈ $0.000044 · ")
    assert page.run("return [at('#stop').hidden, at('#send').hidden]") == [False, True]


def test_enter_sends_and_shift_enter_does_not(page: Page, upstream: Upstream) -> None:
    page.run("await until(() => !at('#model').disabled); type('#prompt', 'Hi'); press('Enter', {shiftKey: true})")
    assert page.run("return [at('#prompt').value, at('li')]") == ["Hi", None]

    page.run("press('Enter'); await ended()")
    assert page.run("return at('#prompt').value") == ""
    assert len(asked(upstream)) == 1


@pytest.mark.parametrize("said", ["isComposing: true", "keyCode: 229"])
def test_keys_of_an_input_method_neither_send_nor_stop(said: str, page: Page, upstream: Upstream) -> None:
    """Safari says keyCode 229 alone of the key that ends a composition: https://webkit.org/b/165004."""
    page.run(f"await until(() => !at('#model').disabled); type('#prompt', 'にほん'); press('Enter', {{{said}}})")
    assert page.run("return [at('#prompt').value, at('li')]") == ["にほん", None]

    upstream.script = answering(TEXTS, told=4, end="hang")
    page.run(f"press('Enter'); await has('3'); press('Escape', {{{said}}})")
    assert page.run("return [at('#stop').hidden, seen().notice]") == [False, ""]
    page.run("press('Escape'); await ended()")
    assert page.run("return seen().notice") == "Stopped."


def test_stop_hangs_up_on_the_upstream_and_keeps_the_text(page: Page, upstream: Upstream, books: Books) -> None:
    upstream.script = answering(TEXTS, told=4, end="hang")
    seen = page.run("await ask('Tell me a tale.'); await has('3'); at('#stop').click(); await ended(); return seen()")

    assert (seen["text"], seen["notice"]) == ("".join(TEXTS[:4]), "Stopped.")
    asked(upstream)[0].wait_for_peer_close(AT_ONCE)
    assert books.one_ended()["outcome"] == "client_gone"


def test_stop_works_before_the_answer_has_begun(page: Page, upstream: Upstream, books: Books) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = silent()
    _, request = begin(page, upstream, "await ask('Tell me a tale.')")
    page.run("at('#stop').click(); await ended()")

    request.wait_for_peer_close(AT_ONCE)
    assert books.one_ended()["outcome"] in ("client_gone", "refused")
    assert len(asked(upstream)) == 1


@pytest.mark.parametrize("told", [0, 4], ids=["before it began", "amid it"])
def test_a_page_that_is_left_takes_its_answer_with_it(told: int, page: Page, upstream: Upstream, books: Books) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = answering(TEXTS, told=told, end="hang") if told else silent()
    _, request = begin(page, upstream, "await ask('Tell me a tale.')")
    request.wait_for_sent(told)
    page.start("location.reload()")

    request.wait_for_peer_close(AT_ONCE)
    assert books.one_ended()["outcome"] in ("client_gone", "refused")
    assert len(asked(upstream)) == 1


def test_a_connection_that_breaks_again_and_again_loses_and_doubles_nothing(
    site: Site, upstream: Upstream, books: Books, open_page: Open
) -> None:
    port = int(site.url.rpartition(":")[2])
    with Cutter(port) as cutter:
        upstream.script = answering(TEXTS)
        page = open_page(cutter.url)
        page.run("await until(() => !at('#model').disabled)")
        upstream.script = raw(chunks(TEXTS), steps=True)
        reading, request = begin(page, upstream, "await ask('Tell me a tale.'); await ended(); return seen()")
        for number in range(0, 30, 6):
            request.allow(6)
            page.run(f"await has({json.dumps(TEXTS[number + 5])})")
            cutter.cut()
        request.allow(40)
        seen = reading.result(PATIENCE)

    assert seen["text"] == "".join(TEXTS)
    assert seen["notice"] == seen["status"] == ""
    assert len(asked(upstream)) == 1
    assert books.one_ended()["outcome"] == "completed"


def test_it_is_shown_that_the_connection_is_lost_and_in_the_end_that_it_stays_lost(
    site: Site, upstream: Upstream, open_page: Open
) -> None:
    upstream.script = answering(TEXTS[:4], end="hang")
    with Cutter(int(site.url.rpartition(":")[2])) as cutter:
        page = open_page(cutter.url)
        page.run("await ask('Tell me a tale.'); await has('3')")
    page.run("await until(() => seen().status.includes('attempt 2'))")

    assert page.run("return seen().status") == "Connection lost. Joining again (attempt 2) …"
    page.run("const now = Date.now; Date.now = () => now() + 301_000; await ended()")
    assert page.run("return seen().notice") == (
        "The connection was lost and could not be restored. What had arrived is kept."
    )
    assert page.run("return seen().text") == "".join(TEXTS[:4])


def test_an_answer_that_cannot_be_joined_any_more_is_kept_and_said_to_be_broken(
    site: Site, upstream: Upstream, tmp_path: Path, open_page: Open
) -> None:
    upstream.script = answering(TEXTS[:4], end="hang")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running(config(upstream.url, elsewhere)) as other, Cutter(int(site.url.rpartition(":")[2])) as cutter:
        page = open_page(cutter.url)
        page.run("await ask('Tell me a tale.'); await has('3')")
        cutter.target = int(other.url.rpartition(":")[2])
        cutter.cut()
        seen = page.run("await ended(); return seen()")

    assert seen["text"] == "".join(TEXTS[:4])
    assert seen["notice"] == (
        "The connection was lost, and the server no longer has the rest of this answer. What had arrived is kept."
    )


def test_an_answer_that_fails_amid_keeps_its_text_and_can_be_asked_for_again(page: Page, upstream: Upstream) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.scripts.append(raw(chunks(TEXTS)[:4], end="cut"))

    seen = page.run("await ask('Tell me a tale.'); await ended(); return seen()")
    assert seen["text"] == "".join(TEXTS[:4])
    assert seen["notice"].endswith(" What had arrived is kept.")
    assert page.run("at('.again').click(); await ended(); return seen()")["text"] == "".join(TEXTS)
    assert [len(exchange.body["messages"]) for exchange in asked(upstream)] == [1, 1]


def test_an_error_of_the_upstream_is_told_and_not_tried_again(page: Page, upstream: Upstream) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = refuse(400, "not like this")

    seen = page.run("await ask('Tell me a tale.'); await ended(); return seen()")
    assert (seen["text"], "not like this" in seen["notice"]) == ("", True)
    assert len(asked(upstream)) == 1


@pytest.mark.parametrize(
    ("key", "said"), [("", "An API key is needed."), ("wrong", "This API key is not accepted here.")]
)
def test_without_a_good_key_the_page_asks_for_one(key: str, said: str, site: Site, open_page: Open) -> None:
    page = open_page(site.url, f"#key={key}")
    page.run("await until(() => !at('#access').hidden)")

    assert page.run("return document.activeElement.id") == "key"
    assert page.run("return at('#status').textContent") == (said if key else "Enter your API key to begin.")
    page.run(f"type('#key', '{KEY}'); at('#access').requestSubmit(); await until(() => !at('#model').disabled)")
    assert page.run("return [at('#access').hidden, at('#status').textContent]") == [True, ""]
    page.run(f"type('#key', '{key}'); await ask('Tell me a tale.'); await ended()")
    assert page.run("return [seen().notice, at('#access').hidden]") == [said, False]


def test_a_limit_says_when_to_come_back(upstream: Upstream, tmp_path: Path, open_page: Open) -> None:
    upstream.script = answering(TEXTS)
    limited = config(upstream.url, tmp_path, users={"alice": {"keys": [KEY], "limits": {"requests": "1/hour"}}})
    with running(limited) as site:
        page = open_page(site.url)
        seen = page.run("await ask('One?'); await ended(); await ask('Two?'); await ended(); return seen()")

    assert " You may try again in " in seen["notice"]
    assert seen["notice"].endswith(" minutes.")
    assert sum(request.method == "POST" for request in site.requests) == 2


@pytest.mark.parametrize(("said", "direction"), [("שלום, world", "rtl"), ("Hello, עולם", "ltr")])
def test_what_is_said_runs_in_the_direction_of_its_language(
    said: str, direction: str, page: Page, upstream: Upstream
) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = raw(chunks([f"{said}\n"] * 300))
    page.run(f"type('#prompt', '{said}')")
    assert page.run("return getComputedStyle(at('#prompt')).direction") == direction

    page.run("press('Enter'); await ended()")
    parts = "[at('.question'), at('.text'), ...at('.text').children]"
    assert set(page.run(f"return {parts}.map((part) => getComputedStyle(part).direction)")) == {direction}


def test_a_line_of_code_amid_an_answer_from_right_to_left_runs_from_left_to_right(
    page: Page, upstream: Upstream
) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = raw(chunks(["שלום\n", "if (1 < 2) end()\n", "עולם"]))
    page.run("await ask('Tell me a tale.'); await ended()")
    lines = page.run("""
      const text = at('.text > span').firstChild, box = at('.text').getBoundingClientRect(), range = new Range();
      return ['שלום', 'if (1 < 2) end()', 'עולם'].map((line) => {
        const start = text.data.indexOf(line);
        range.setStart(text, start);
        range.setEnd(text, start + line.length);
        const { left, right } = range.getBoundingClientRect();
        return [left === box.left, right === box.right];
      });
    """)

    assert lines == [[False, True], [True, False], [False, True]]


def test_the_page_fits_a_phone_whatever_is_said(page: Page, upstream: Upstream, tmp_path: Path) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = raw(chunks(["unbroken" * 40, "\n" * 60, "end"]))
    page.screenshot(tmp_path / "phone.png", 390, 844)
    page.run("await ask('x'.repeat(300)); await ended()")

    width, inner, bottom = page.run(
        "return [document.documentElement.scrollWidth, innerWidth,"
        " document.documentElement.scrollHeight - innerHeight - scrollY]"
    )
    assert (width, inner) == (390, 390)
    assert bottom < 2  # who reads along stays at the end
    assert min(page.run("return [...document.querySelectorAll('input, textarea, select')]"
                        ".map((field) => parseFloat(getComputedStyle(field).fontSize))")) >= 16  # fmt: skip


def test_a_low_window_shows_the_answer_all_the_same(page: Page, tmp_path: Path) -> None:
    page.run("await until(() => !at('#model').disabled); await ask('x'); await ended()")
    page.screenshot(tmp_path / "zoomed.png", 320, 256)  # WCAG 1.4.10: 1280 by 1024, enlarged four times
    page.run("at('#show-key').click(); scrollTo(0, document.documentElement.scrollHeight)")

    edges = "[at('header').getBoundingClientRect().bottom, at('footer').getBoundingClientRect().top]"
    header, footer = page.run(f"return {edges}")
    assert footer - max(header, 0) > 256 / 2


def test_everybody_can_read_and_reach_what_is_there(page: Page) -> None:
    page.run("await until(() => !at('#model').disabled)")
    before = barriers(page)
    page.run("await ask('x'); await ended(); at('#show-key').click()")

    assert (before, barriers(page)) == ([], [])


def test_who_wants_no_motion_sees_a_caret_that_stands(page: Page, upstream: Upstream) -> None:
    page.run("await until(() => !at('#model').disabled)")
    moves = "return getComputedStyle(at('.text').lastElementChild ?? at('.text'), '::after').animationName"
    upstream.script = raw(chunks(["word"])[:1], end="hang", steps=True)
    _, request = begin(page, upstream, "await ask('Tell me a tale.')")
    page.run("await until(() => at('.text'))")
    assert page.run(moves) == "blink"
    page.prefer(reducedMotion="reduce")
    assert page.run(moves) == "none"

    request.allow()
    page.run("await has('word')")
    assert page.run(moves) == "none"


def test_who_has_scrolled_up_is_left_there(page: Page, upstream: Upstream) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = raw(chunks(["\n" * 90, "amid", "\n" * 90, "end"]), steps=True)
    reading, request = begin(page, upstream, "await ask('Tell me a tale.'); await ended()")
    request.allow(2)
    page.run("await has('amid'); scrollTo(0, 100)")
    request.allow(9)
    reading.result(PATIENCE)

    assert page.run("return scrollY") == 100


def test_what_has_come_since_a_frame_is_laid_out_at_once(page: Page, upstream: Upstream) -> None:
    page.run("await until(() => !at('#model').disabled)")
    upstream.script = raw(chunks(["word "] * 3000))
    page.run("globalThis.counted = {frames: 0, scrolls: 0}")
    page.run("const frame = () => { counted.frames++; requestAnimationFrame(frame); }; requestAnimationFrame(frame)")
    page.run("const scroll = scrollTo; globalThis.scrollTo = (...to) => { counted.scrolls++; scroll(...to); }")
    counted = page.run("await ask('Tell me a tale.'); await ended(); return counted")

    assert counted["scrolls"] <= counted["frames"] + 3  # to the question, the last of the text, and the end


def test_of_a_long_answer_only_the_last_lines_are_laid_out_anew_and_it_is_copied_as_it_is(
    page: Page, upstream: Upstream
) -> None:
    page.run("await until(() => !at('#model').disabled)")
    text = "".join(tale(6000))
    upstream.script = raw(chunks([text[start : start + 7] for start in range(0, len(text), 7)]))
    page.run("await ask('Tell me a tale.'); await ended()")

    blocks = page.run("return [...at('.text').childNodes].map((block) => block.textContent)")
    assert "".join(blocks) == text
    assert len(blocks) > 10 and max(map(len, blocks)) < 2_200
    assert page.run("getSelection().selectAllChildren(at('.text')); return getSelection().toString()") == text
    height = "at('.text').getBoundingClientRect().height"
    whole = f"const height = {height}; at('.text').textContent = at('.text').textContent; return [height, {height}]"
    apart, together = page.run(whole)
    assert apart == together


def test_the_page_works_below_a_mount_point(upstream: Upstream, tmp_path: Path, open_page: Open) -> None:
    upstream.script = answering(TEXTS[:4], end="hang")
    app = create_app(config(upstream.url, tmp_path))
    with waitress_thread(DispatcherMiddleware(Response("site"), {"/deep/llm": app})) as server:
        page = open_page(f"{server.url}/deep/llm")
        page.run("await ask('Tell me a tale.'); await has('3'); at('#stop').click(); await ended()")
        asked(upstream)[0].wait_for_peer_close(AT_ONCE)
    app.close()


def test_around_an_application_without_a_list_of_models_a_name_can_be_typed(tmp_path: Path, open_page: Open) -> None:
    def chat(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/v1/chat/completions":
            return Response("no such page", 404)(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return chunks(TEXTS)

    settings = config("http://127.0.0.1:9/v1", tmp_path)
    wrapper = SSEProxyMiddleware(chat, settings)
    with waitress_thread(wrapper) as server:
        page = open_page(server.url)
        page.run("await until(() => !at('#model-name').hidden); type('#model-name', 'm-own')")
        seen = page.run("await ask('Tell me a tale.'); await ended(); return seen()")
    wrapper.close()

    assert seen["text"] == "".join(TEXTS)
    assert seen["meter"].startswith(f"3 in, {len(TEXTS)} out · $0.000065")
