"""Going down, as the parts of an application see it."""

from __future__ import annotations

import pytest

from sseproxy.wsgi.draining import CutShort, Draining, ShuttingDown


def test_nothing_is_refused_and_nothing_cut_before_it_begins() -> None:
    draining = Draining()
    draining.check()
    assert not draining.has_begun
    assert not draining.is_over()


def test_from_its_beginning_new_requests_are_refused_with_when_to_come_back() -> None:
    draining = Draining()
    draining.begin(60)
    with pytest.raises(ShuttingDown) as refused:
        draining.check()
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "server_shutting_down", 1)
    assert not draining.is_over()


def test_it_is_over_after_the_grace_of_the_first_call() -> None:
    draining = Draining()
    draining.begin(0)
    draining.begin(60)
    assert draining.is_over()


def test_answers_are_counted_until_they_leave_however_often_that_is() -> None:
    draining = Draining()
    leave = draining.enter()
    draining.enter()
    leave()
    leave()
    assert draining.running == 1


def test_a_cut_is_told_by_the_same_code() -> None:
    assert CutShort().code == ShuttingDown().code
