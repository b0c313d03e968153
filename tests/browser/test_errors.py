"""A refusal or a failure reaches each client once, and none comes back more often than its user asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE, Exchange, Page, RawClient, Upstream, choose, raw, refuse
from tests.integration.books import KEY, STREAM, Books

from .site import OWN_RECONNECT, PLACES, READERS, Site, chunks, options, routed, running, tale

KINDS = {
    "wrong key": 401,
    "no budget left": 429,
    "too many requests": 429,
    "refused by the upstream": 402,
    "broken before": 500,
    "broken amid": 200,
}
"""What goes wrong → the status that the client sees."""
KEYS = {"wrong key": "sk-wrong", "no budget left": "sk-poor", "too many requests": "sk-hasty"}
"""The key that a client has who is not admitted."""
TEXTS = tale(40)
LONG_ENOUGH = 2.4
"""Seconds after its end in which a client that comes back by itself, or every second, would be seen."""
NATIVE = {"EventSource", "EventSource of chunks", "undici's EventSource"}
POLYFILL_IN_NODE = ("node", "polyfill")
"""Takes a 204 for a lost connection (its own fault: it reads a body that is null), so there it has to close itself."""
CASES = [
    (kind, place, reader)
    for kind in KINDS
    for place, reader in PLACES
    # A native EventSource has no credentials that could be wrong or used up on a route that asks for none.
    if not (reader in NATIVE and kind in ("no budget left", "too many requests"))
]


@dataclass
class Outcome:
    """What became of one client: its reading, and how often it came."""

    reading: dict[str, Any]
    requests: int


Case = tuple[str, str, str]


def fail(exchange: Exchange) -> Any:
    asked = exchange.body["messages"][-1]["content"]
    if asked == "broken before":
        return refuse(500, "the upstream broke")
    if asked == "refused by the upstream":
        return refuse(402, "pay first")
    return raw(chunks(TEXTS)[:3], end="cut") if asked == "broken amid" else raw(chunks(TEXTS))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("errors")


@pytest.fixture(scope="module")
def outcomes(chromium: Page, node: Page, origin: str, directory: Path) -> Iterator[dict[Case, Outcome]]:
    """Every client meets every failure, all at the same time, and is watched for a while."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(choose(fail)))
        users = {
            "alice": {"keys": [KEY]},
            "poor": {"keys": ["sk-poor"], "budget": {"usd": "0.000001", "per": "total"}},
            "hasty": {"keys": ["sk-hasty"], "limits": {"requests": "1/hour"}},
        }
        site = stack.enter_context(running(routed(upstream.url, directory, origin, users=users), threads=200))
        with RawClient(site.url) as client:
            client.post("/v1/chat/completions", STREAM, key="sk-hasty").read_body()
        pages = {"chromium": chromium, "node": node}
        readings = {case: pages[case[1]].start(meet(site, *case)) for case in CASES}
        yield {
            case: Outcome(reading.result(PATIENCE), site.count(str(CASES.index(case)) + "-"))
            for case, reading in readings.items()
        }


def meet(site: Site, kind: str, place: str, reader: str) -> str:
    close = (place, reader) == POLYFILL_IN_NODE
    more: dict[str, Any] = {"who": f"{CASES.index((kind, place, reader))}-", "close": close}
    if kind in KEYS:
        more["key"] = KEYS[kind]
        more["path"] = "/" + READERS[reader]["path"].rpartition("/")[2]
    asked = options(site, reader, kind, **more)
    return (
        f"const one = read({asked}); await one.whole;"
        f"await new Promise((done) => setTimeout(done, {LONG_ENOUGH * 1000})); one.hangUp(); return one"
    )


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_client_learns_of_it_and_does_not_storm(case: Case, outcomes: dict[Case, Outcome]) -> None:
    kind, place, reader = case
    reading, requests = outcomes[case].reading, outcomes[case].requests

    if kind == "broken amid":
        # A fetch that fails may do so before the page has read what had come.
        told = "".join(TEXTS[:3])
        assert reading["text"] == told or (reader == "fetch of plain text" and told.startswith(reading["text"]))
        assert reading["end"] == "failed"
        # After the event that tells of the failure it may come back once, to be told that this was all.
        comes_back = reader in OWN_RECONNECT and (place, reader) != POLYFILL_IN_NODE
        assert 1 <= requests <= (2 if comes_back else 1)
        return
    assert (reading["text"], requests) == ("", 1)
    by_event_source = reader in OWN_RECONNECT or (reader == "respond-async" and kind not in KEYS)
    assert reading["end"] == ("closed" if by_event_source else "failed")
    # A native EventSource does not tell the page what it was that ended it.
    if not by_event_source:
        assert KINDS[kind] in reading["statuses"]


def test_what_broke_amid_is_charged_and_what_was_not_admitted_is_not(
    outcomes: dict[Case, Outcome], directory: Path
) -> None:
    charges = Books(directory).wait_for(lambda rows: all(row["state"] != "pending" for row in rows))
    broken = [row for row in charges if row["outcome"] == "upstream_failed" and row["output_tokens"]]
    kinds = [kind for kind, _, _ in CASES]

    assert len(charges) == 1 + len([kind for kind in kinds if kind not in KEYS])
    assert len(broken) == kinds.count("broken amid")
