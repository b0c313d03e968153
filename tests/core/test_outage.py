"""core/outage: who may ask a store that does not answer."""

from __future__ import annotations

import pytest

from sseproxy.core.outage import Outage
from tests.harness.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage(pause=3, patience=10, clock=clock)


def test_a_store_that_answers_is_asked_by_everybody(outage: Outage) -> None:
    assert not any(outage.bars() for _ in range(3))


def test_after_a_pause_one_looks_whether_it_is_back_and_after_their_patience_another(
    outage: Outage, clock: Clock
) -> None:
    outage.begin()
    assert outage.bars()
    clock.now += 3
    assert [outage.bars() for _ in range(3)] == [False, True, True]
    clock.now += 10
    assert [outage.bars() for _ in range(3)] == [False, True, True]


def test_a_look_that_fails_begins_another_pause(outage: Outage, clock: Clock) -> None:
    outage.begin()
    outage.look()
    clock.now += 5
    assert outage.bars()
    outage.begin()
    clock.now += 3
    assert not outage.bars()


def test_an_answer_ends_it(outage: Outage) -> None:
    outage.begin()
    outage.end()

    assert not any(outage.bars() for _ in range(3))
