"""Waiting for a condition."""

from __future__ import annotations

from itertools import count

import pytest

from tests.harness import wait_until


def test_it_looks_until_it_is_so() -> None:
    left = [1, 2, 3]

    wait_until(lambda: not left or not left.pop())

    assert not left


def test_what_never_comes_about_fails_and_says_how_things_are() -> None:
    with pytest.raises(AssertionError, match=r"still not so after 0.02 s: 7 of 8"):
        wait_until(lambda: False, 0.02, lambda: "7 of 8")


def test_the_time_in_which_the_machine_was_paused_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = count(0, 1000), iter([False, False, False, True])
    monkeypatch.setattr("tests.harness.waiting.monotonic", lambda: next(clock))

    wait_until(lambda: next(looks), 10)
