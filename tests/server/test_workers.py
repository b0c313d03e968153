"""Threads that do jobs."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from sseproxy.server.workers import Workers
from tests.harness import PATIENCE, wait_until


class Job:
    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self.done = threading.Event()
        self.cancelled = False

    def service(self) -> None:
        try:
            self._do()
        finally:
            self.done.set()

    def cancel(self) -> None:
        self.cancelled = True


def at_rest(number: int, most_waiting: int | None = None) -> Workers:
    workers = Workers(number, most_waiting)
    wait_until(lambda: workers.idle == number)
    return workers


def test_jobs_run_at_a_time_and_those_that_are_too_many_wait_in_order_or_are_turned_away() -> None:
    workers = at_rest(2, most_waiting=2)
    both, go_on = threading.Barrier(3), threading.Event()
    order: list[int] = []
    first = [Job(lambda: (both.wait(PATIENCE), go_on.wait(PATIENCE))) for _ in range(2)]
    later = [Job(lambda number=number: order.append(number)) for number in range(2)]  # type: ignore[misc]

    assert all(workers.take(job) for job in first)
    both.wait(PATIENCE)
    assert all(workers.take(job) for job in later)
    assert workers.waiting == 2
    assert not workers.take(Job(lambda: None))
    go_on.set()
    assert all(job.done.wait(PATIENCE) for job in later)
    wait_until(lambda: workers.idle == 2)
    workers.stop(PATIENCE)

    assert workers.waiting == 0 and sorted(order) == [0, 1]


def test_the_thread_that_became_idle_last_works_next() -> None:
    workers = at_rest(8)
    used: set[str] = set()
    for _ in range(20):
        job = Job(lambda: used.add(threading.current_thread().name))
        workers.take(job)
        assert job.done.wait(PATIENCE)
        wait_until(lambda: workers.idle == 8)
    workers.stop(PATIENCE)

    assert len(used) == 1


def test_a_job_that_fails_is_logged_and_the_thread_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit("for a reason")

    workers = at_rest(1)
    jobs = [Job(fail), Job(lambda: None)]
    for job in jobs:
        workers.take(job)

    assert all(job.done.wait(PATIENCE) for job in jobs)
    workers.stop(PATIENCE)
    assert "for a reason" in caplog.text


def test_when_they_are_stopped_what_runs_ends_and_what_waits_is_cancelled() -> None:
    workers = at_rest(1)
    begun, go_on = threading.Event(), threading.Event()
    running = Job(lambda: (begun.set(), go_on.wait(PATIENCE)))
    waiting = Job(lambda: None)
    workers.take(running)
    workers.take(waiting)
    assert begun.wait(PATIENCE)
    threading.Timer(0.05, go_on.set).start()
    workers.stop(PATIENCE)

    assert running.done.is_set()
    assert waiting.cancelled and not waiting.done.is_set()


def test_one_that_does_not_end_is_not_waited_for_any_longer(caplog: pytest.LogCaptureFixture) -> None:
    workers = at_rest(2)
    begun, go_on = threading.Event(), threading.Event()
    workers.take(Job(lambda: (begun.set(), go_on.wait(PATIENCE))))
    assert begun.wait(PATIENCE)
    workers.stop(0.01)

    assert "1 threads are still at work" in caplog.text
    go_on.set()


def test_no_finished_job_is_kept() -> None:
    workers = at_rest(1)
    job = Job(lambda: None)
    workers.take(job)
    assert job.done.wait(PATIENCE)
    wait_until(lambda: workers.idle == 1)
    gone = weakref.ref(job)
    del job
    gc.collect()
    try:
        wait_until(lambda: gone() is None)
    finally:
        workers.stop(PATIENCE)
