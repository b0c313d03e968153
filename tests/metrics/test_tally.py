"""Tally: what was noted is counted once, together with its like, whoever asks and whatever goes wrong."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from sseproxy.metrics.tally import Tally
from tests.harness import PATIENCE


class Counts:
    """Remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.count = self._count

    def _count(self, *what: Any) -> None:
        self.calls.append(what)


def test_what_is_of_one_series_is_counted_together() -> None:
    tally, counts = Tally(), Counts()
    for label, *figures in [("a", 1, "x"), ("b", 2, "y"), ("a", 3, "z")]:
        tally.note(((counts.count, label), *figures))
    assert counts.calls == []

    tally.count()
    tally.count()
    assert counts.calls == [("a", (1, 3), ("x", "z")), ("b", (2,), ("y",))]


def test_what_cannot_be_counted_keeps_nothing_else_from_being_counted(caplog: pytest.LogCaptureFixture) -> None:
    tally, counts = Tally(), Counts()

    def failing(figures: tuple[int, ...]) -> None:
        raise OSError("no space left on device")

    for count in (failing, counts.count, failing):
        tally.note(((count,), 1))
    tally.count()

    assert counts.calls == [((1,),)]
    assert caplog.messages == ["2 events were not counted"]


def test_while_one_counts_another_asks_for_it_in_vain_or_waits() -> None:
    tally, counts = Tally(), Counts()
    counting, go_on = threading.Event(), threading.Event()

    def slow(figures: tuple[int, ...]) -> None:
        counting.set()
        assert go_on.wait(PATIENCE)
        counts.count(figures)

    tally.note(((slow,), 1))
    first = threading.Thread(target=tally.ease)
    first.start()
    assert counting.wait(PATIENCE)
    tally.note(((counts.count,), 2))
    tally.ease()
    assert counts.calls == []

    second = threading.Thread(target=tally.count)
    second.start()
    go_on.set()
    second.join(PATIENCE)
    assert counts.calls == [((1,),), ((2,),)]
    first.join(PATIENCE)


def test_threads_that_note_at_once_lose_nothing() -> None:
    tally, counts = Tally(), Counts()

    def note() -> None:
        for _ in range(2000):
            tally.note(((counts.count,), 1))
            if len(tally.notes) > 10:
                tally.ease()

    threads = [threading.Thread(target=note) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.count()

    assert sum(sum(figures) for (figures,) in counts.calls) == 16_000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 on: there are other threads
def test_what_was_noted_before_a_fork_is_counted_by_the_parent_alone() -> None:
    tally, counts = Tally(), Counts()

    def fork_while_counting(figures: tuple[int, ...]) -> None:
        counts.count(figures)
        child = os.fork()
        if child == 0:
            tally.begin_process()
            tally.count()
            os._exit(len(counts.calls))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1

    tally.note(((fork_while_counting,), 1))
    tally.note(((counts.count, "later"), 2))
    tally.count()

    assert counts.calls == [((1,),), ("later", (2,))]
