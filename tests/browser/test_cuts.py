"""The network is cut at 20 random bytes of one answer: the page has the text once, the upstream one request.

The same where each connection leads to the other one of two proxies, which share a Redis. All pages run at the same
time: coming back takes an EventSource a second.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness import Browser, Cutter, Exchange, Page, Upstream, choose, raw, redis_server, serve, wait_until
from tests.integration.books import KEY, Books

from .site import chunks, options, routed, tale

CUTS = 20
SEED = 20261121
PIECES = 160
INTERVAL = 0.06
PADDING = "padding " * 80
"""Makes an event longer than the head of an answer, so that most cuts hit events."""
FIRST, LAST = 3000, 600 * PIECES
"""Between these bytes it is cut: behind the first event, whose id is the only name that a GET has to come back with,
and surely before the end. Until the page has it no more is sent: with a cut goes what a busy page has not read yet."""
TIME = 60.0
"""Seconds within which every page has read its answer."""
READERS = ["EventSource", "respond-async", "polyfill", "fetch-event-source", "the chat page"]
PROXIES = {"one proxy": 1, "two proxies": 2}
CASES = [(proxies, reader) for proxies in PROXIES for reader in READERS]


@dataclass
class Run:
    """A page that reads while its network fails; ``text``: what it should have in the end."""

    text: str
    cutter: Cutter
    reading: futures.Future[Any]


@dataclass
class Runs:
    """All cases; ``until``: when (monotonic) each must be over."""

    upstream: Upstream
    books: dict[str, Books]
    by_case: dict[tuple[str, str], Run]
    until: float

    def reading(self, case: tuple[str, str]) -> Any:
        try:
            return self.by_case[case].reading.result(max(0.0, self.until - time.monotonic()))
        except futures.TimeoutError:
            raise AssertionError(f"not read after {TIME} s and {self.by_case[case].cutter.cuts} cuts") from None

    def requests(self, case: tuple[str, str]) -> list[Exchange]:
        asked = [exchange for exchange in self.upstream.exchanges if exchange.body]
        return [exchange for exchange in asked if message_of(exchange) == message(case)]

    def go_on(self, case: tuple[str, str]) -> None:
        """Have all of the answer sent, of which only the first event was."""
        wait_until(lambda: self.requests(case))
        for exchange in self.requests(case):
            exchange.allow(2 * PIECES)


def message(case: tuple[str, str]) -> str:
    return f"A tale for {case[1]} from {case[0]}."


def message_of(exchange: Exchange) -> str:
    return str(exchange.body["messages"][-1]["content"])


def texts_of(case: tuple[str, str]) -> list[str]:
    """Each case has its own length, by which its charge is known."""
    return [text + PADDING for text in tale(PIECES + CASES.index(case))]


def answer(exchange: Exchange) -> Callable[[Exchange], None]:
    if exchange.body is None:
        return raw(
            b'{"object": "list", "data": [{"id": "m", "object": "model"}]}',
            headers={"Content-Type": "application/json"},
        )
    case = next(case for case in CASES if message(case) == message_of(exchange))
    exchange.allow()
    return raw(chunks(texts_of(case)), interval=INTERVAL, steps=True)


@pytest.fixture(scope="module")
def runs(browser: Browser, chromium: Page, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Every case at once."""
    with ExitStack() as stack:
        runs = Runs(stack.enter_context(Upstream(choose(answer))), {}, {}, 0)
        for proxies, number in PROXIES.items():
            directory = tmp_path_factory.mktemp("cuts")
            runs.books[proxies] = Books(directory)
            store = stack.enter_context(redis_server()).url if number > 1 else "memory://"
            settings = routed(runs.upstream.url, directory, origin, streams={"store": store})
            ports = [stack.enter_context(serve(settings, directory=directory)).port for _ in range(number)]
            for case in CASES:
                if case[0] == proxies:
                    cutter = stack.enter_context(failing(ports))
                    page = chromium if case[1] != "the chat page" else stack.enter_context(chat(browser, cutter))
                    cutter.plan(random.Random(SEED + CASES.index(case)).sample(range(FIRST, LAST), CUTS))
                    text = "".join(texts_of(case))
                    runs.by_case[case] = Run(text, cutter, page.start(read(case, cutter)))
        for case in CASES:
            if case[1] != "the chat page":
                chromium.run(f"await globalThis[{json.dumps(message(case))}].has(1)")
            runs.go_on(case)
        runs.until = time.monotonic() + TIME
        yield runs


def failing(ports: list[int]) -> Cutter:
    """A network that leads to the next proxy after each cut."""

    def switch() -> None:
        cutter.target = ports[cutter.cuts % len(ports)]

    cutter = Cutter(ports[0], when_cut=switch)
    return cutter


def chat(browser: Browser, cutter: Cutter) -> Page:
    page = browser.open(f"{cutter.url}/-/chat#key={KEY}")
    page.run(UNTIL + 'await until(() => !at("#model").disabled || !at("#model-name").hidden)')
    return page


def read(case: tuple[str, str], cutter: Cutter) -> str:
    if case[1] == "the chat page":
        return UNTIL + READ_CHAT.replace("MESSAGE", json.dumps(message(case)))
    more = {"headers": {"Idempotency-Key": message(case)}} if case[1] == "fetch-event-source" else {}
    asked = options(cutter.url, case[1], message(case), **more)
    return f"return await (globalThis[{json.dumps(message(case))}] = read({asked})).whole"


UNTIL = """
const at = (selector) => document.querySelector(selector);
const until = async (test) => { while (!test()) await new Promise((go) => setTimeout(go, 20)); };
"""
READ_CHAT = """
at("#prompt").value = MESSAGE;
at("#prompt").dispatchEvent(new Event("input"));
at("#send").click();
await until(() => at("[aria-busy=true]"));
await until(() => !at("[aria-busy=true]"));
return {text: at("li:last-child .text").textContent, errors: [], end: "done"};
"""


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_text_arrives_once_and_is_made_and_charged_once(case: tuple[str, str], runs: Runs) -> None:
    run = runs.by_case[case]
    reading = runs.reading(case)

    assert (reading["text"], reading["errors"], reading["end"]) == (run.text, [], "done")
    assert run.cutter.cuts == CUTS
    assert len(runs.requests(case)) == 1
    made = PIECES + CASES.index(case)
    charges = [row for row in runs.books[case[0]].charges() if row["output_tokens"] == made]
    assert [(row["state"], row["outcome"]) for row in charges] == [("settled", "completed")]


@pytest.mark.parametrize("proxies", PROXIES)
def test_nothing_else_was_charged(proxies: str, runs: Runs) -> None:
    for case in CASES:
        if case[0] == proxies:
            runs.reading(case)

    assert len(runs.books[proxies].charges()) == len(READERS)
