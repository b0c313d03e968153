from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.pace import BOUNDS, MANY, Pace


def test_gaps_are_counted_in_their_classes_and_added_up() -> None:
    pace = Pace()
    for now in (100.0, 100.25, 100.5, 200.0):
        pace.step(now)

    assert sum(pace.counts) == 3 and pace.total == 100.0
    assert pace.counts[BOUNDS.index(0.5)] == 2
    assert pace.counts[-1] == 1


def test_a_gap_as_long_as_a_bound_is_within_it() -> None:
    pace = Pace()
    pace.step(0.0)
    pace.step(BOUNDS[3])

    assert pace.counts[3] == 1


def test_the_first_events_have_no_gap_before_them() -> None:
    pace = Pace()
    pace.step(5.0)

    assert not any(pace.counts)


def test_every_gap_of_a_long_answer_is_counted_once_however_its_reads_are_told() -> None:
    pace = Pace()
    for read in range(3 * MANY):
        pace.step(10.0 * read, 10.0 * read + 1, 10.0 * read + 2)
        assert read % MANY or sum(pace.counts) == 3 * read + 2

    assert (sum(pace.counts), pace.total) == (9 * MANY - 1, 30.0 * MANY - 8)
    assert pace.counts[BOUNDS.index(1.0)] == 6 * MANY


@given(st.lists(st.one_of(st.sampled_from([0.0, *BOUNDS]), st.floats(0, 100)), min_size=1))
def test_each_gap_is_counted_in_its_class(lengths: list[float]) -> None:
    times = list(accumulate(lengths))
    gaps = [now - last for last, now in pairwise(times)]
    pace = Pace()
    pace.step(*times)

    classes = [bisect_left(BOUNDS, gap) for gap in gaps]
    assert pace.counts == [classes.count(number) for number in range(len(BOUNDS) + 1)]
    assert pace.total == pytest.approx(sum(gaps))
