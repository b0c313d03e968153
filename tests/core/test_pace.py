from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.pace import BOUNDS, Pace


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


@given(st.lists(st.one_of(st.sampled_from([0.0, *BOUNDS]), st.floats(0, 100)), min_size=1), st.integers(0, 100))
def test_many_reads_count_as_each_of_them_does(gaps: list[float], cut: int) -> None:
    times = list(accumulate(gaps))
    one_by_one, together = Pace(), Pace()
    for now in times:
        one_by_one.step(now)
    for some in (times[:cut], times[cut:]):
        if some:
            together.steps(some)

    assert together.counts == one_by_one.counts
    assert together.total == pytest.approx(one_by_one.total)
