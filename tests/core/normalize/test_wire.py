"""Every recorded dialect, cut everywhere, gives one clean stream."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import Dialect, normalize
from sseproxy.core.sse import FLUSH, Event
from tests.core.normalize.making import raw_events
from tests.wire.cases import Case, load_cases
from tests.wire.view import differences, see

CASES = load_cases()
SMALL = 2048
RANDOM_CUTS = 200
CUTS_A_RUN = 16


def pieces(case: Case, cuts: list[int]) -> Iterator[bytes]:
    for start, end in itertools.pairwise([0, *cuts, len(case.body)]):
        yield case.body[start:end]
    if case.facts["abort"]:
        raise UpstreamFailure("The connection was reset.", type="upstream_truncated")
    if case.facts["hang"]:
        for _ in range(10):
            yield b""
        pytest.fail("the stream did not end by itself")


def run(case: Case, cuts: list[int]) -> list[Event]:
    ids = itertools.count()
    raw = raw_events(case, pieces(case, cuts))
    events = normalize(
        raw,
        api=case.facts["api"],
        model="asked",
        choices=case.choices,
        tools={call["name"] for call in case.facts["expect"]["tool_calls"]},
        dialect=Dialect(**case.facts.get("dialect", {})),
        make_id=lambda: str(next(ids)),
        now=lambda: 1.0,
    )
    return [event for event in events if event is not FLUSH]


def plain(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(e.data, e.type, e.content, e.hidden, e.usage, e.finish, str(e.error)) for e in events]


def every_case(function: Any) -> Any:
    return pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])(function)


@every_case
def test_the_client_reads_what_the_case_expects(case: Case) -> None:
    assert differences(see(case.api, run(case, [])), case.facts["expect"]) == {}


@every_case
def test_reads_as_they_came_change_nothing(case: Case) -> None:
    assert plain(run(case, case.cuts())) == plain(run(case, []))


@every_case
def test_no_cut_changes_anything(case: Case) -> None:
    whole = plain(run(case, []))
    size = len(case.body)
    if size <= SMALL:
        cuts = list(range(1, size))
    else:
        cuts = sorted(random.Random(case.name).sample(range(1, size), RANDOM_CUTS))
    # Every place is cut once, a few far from each other in one run: one by one would take sixteen times as long.
    runs = -(-len(cuts) // CUTS_A_RUN)
    for first in range(runs):
        together = cuts[first::runs]
        assert plain(run(case, together)) == whole, f"cut at {together}"


@every_case
def test_byte_by_byte_changes_nothing(case: Case) -> None:
    assert plain(run(case, list(range(1, len(case.body))))) == plain(run(case, []))


@every_case
def test_normalising_again_changes_nothing(case: Case) -> None:
    once = run(case, [])
    again = normalize(
        iter([Event(event.data, event.type) for event in once]), api=case.facts["api"], choices=case.choices
    )
    assert [(e.data, e.type) for e in again if e is not FLUSH] == [(e.data, e.type) for e in once]


def test_the_corpus_covers_every_family() -> None:
    assert {case.name[0] for case in CASES} == set("FECUTRA")
    assert all(case.facts["source"] for case in CASES)
