from __future__ import annotations

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
