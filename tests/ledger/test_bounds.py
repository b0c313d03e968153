"""What no database could add up is brought to the nearest amount that it can."""

from __future__ import annotations

import pytest

from sseproxy.ledger.bounds import bounded_amounts

MOST = 2**53


@pytest.mark.parametrize(
    ("given", "booked"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((1, 2, 4), (1, 2, 4)),
        ((MOST, 0, 1), (MOST, 0, 1)),
        ((MOST - 1, MOST, 5), (MOST - 1, MOST, 5)),
        ((7, MOST + 1, 0), (7, MOST, 0)),
        ((7, 10**30, -1), (7, MOST, 0)),
        ((-1, 3, 4), (0, 3, 4)),
        ((-(10**30), MOST), (0, MOST)),
    ],
)
def test_amounts_within_the_bounds_stay_and_others_are_the_nearest(
    given: tuple[int, ...], booked: tuple[int, ...]
) -> None:
    assert bounded_amounts(*given) == booked
