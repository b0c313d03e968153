"""upstream/cooldown: left alone after repeated failures, found again by one request."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from sseproxy.upstream.cooldown import FAILURES, LONGEST, Cooldown
from tests.harness.clock import Clock


def opened(clock: Clock) -> Cooldown:
    health = Cooldown(10.0, clock)
    for _ in range(FAILURES):
        assert health.enter()
        health.failed(down=True)
    return health


def test_it_takes_failures_in_a_row() -> None:
    health = Cooldown(10.0, Clock())
    for _ in range(3):
        for _ in range(FAILURES - 1):
            health.failed(down=True)
        health.succeeded()

    assert health.enter() and health.wait == 0


def test_after_them_nobody_enters_until_its_time_is_over() -> None:
    clock = Clock()
    health = opened(clock)

    assert not health.enter()
    assert health.wait == 10.0
    clock.now += 9.9
    assert not health.enter()


def test_then_one_request_tries_and_the_others_do_not() -> None:
    clock = Clock()
    health = opened(clock)
    clock.now += 10

    with ThreadPoolExecutor(8) as pool:
        entered = list(pool.map(lambda _: health.enter(), range(64)))

    assert entered.count(True) == 1
    assert health.is_probing


@pytest.mark.parametrize("end", [Cooldown.left, partial(Cooldown.failed, down=True)])
def test_a_request_from_before_it_cooled_does_not_end_the_one_that_tries(end: Callable[[Cooldown], None]) -> None:
    clock = Clock()
    health = opened(clock)
    clock.now += 10
    assert health.enter()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(end, health).result()
        assert health.wait == 0 and not pool.submit(health.enter).result()
    health.failed(down=True)

    assert health.wait == 20


def test_if_that_one_succeeds_all_is_as_before() -> None:
    clock = Clock()
    health = opened(clock)
    clock.now += 10
    assert health.enter()

    health.succeeded()

    assert health.enter() and health.enter() and not health.is_probing


def test_if_it_fails_the_time_doubles_up_to_a_bound() -> None:
    clock = Clock()
    health = opened(clock)
    waits = []
    for _ in range(6):
        clock.now += health.wait
        assert health.enter()
        health.failed(down=True)
        waits.append(health.wait)

    assert waits == [20.0, 40.0, 80.0, LONGEST, LONGEST, LONGEST]


def test_if_its_client_leaves_the_next_request_tries() -> None:
    clock = Clock()
    health = opened(clock)
    clock.now += 10
    assert health.enter()

    health.left()

    assert health.enter() and not health.enter()


def test_failures_of_requests_that_were_under_way_do_not_prolong_it() -> None:
    clock = Clock()
    health = opened(clock)
    clock.now += 5

    health.failed(down=True)

    assert health.wait == 5.0
