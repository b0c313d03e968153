"""Waiting for a condition."""

from __future__ import annotations

import pytest

from tests.harness import wait_until


def test_it_looks_until_it_is_so() -> None:
    left = [1, 2, 3]

    wait_until(lambda: not left or not left.pop())

    assert not left


def test_what_never_comes_about_fails_and_says_how_things_are() -> None:
    with pytest.raises(AssertionError, match=r"still not so after 0.02 s: 7 of 8"):
        wait_until(lambda: False, 0.02, lambda: "7 of 8")
