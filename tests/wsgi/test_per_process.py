"""per_process: one for each process, chosen and started once."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from sseproxy.wsgi.per_process import PerProcess

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of Python 3.12 on: there are other threads
]


def ending_of_child(check: Callable[[], bool]) -> int:
    """0 if what a forked child checks holds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_has_one_which_is_started_when_it_is_needed() -> None:
    started: list[object] = []
    own = PerProcess(object, started.append)

    assert own.known() is None
    assert own.get() is own.get() is own.known() is started[0]
    assert len(started) == 1


def test_a_child_has_one_of_its_own_and_lets_its_parent_s_go() -> None:
    started: list[object] = []
    own = PerProcess(object, started.append)
    of_parent = own.get()

    assert ending_of_child(lambda: own.known() is None and own.get() is not of_parent and len(started) == 2) == 0
    assert own.get() is of_parent


def test_a_child_that_is_forked_amid_the_start_has_one_of_its_own() -> None:
    endings: list[int] = []

    def start(one: object) -> None:
        if not endings:
            endings.append(1)
            endings.append(ending_of_child(lambda: own.get() is not one))

    own = PerProcess(object, start)
    own.get()

    assert endings[1] == 0


def test_a_start_that_fails_is_tried_again() -> None:
    threads = iter([False, True])

    def start(_: object) -> None:
        if not next(threads):
            raise RuntimeError("can't start new thread")

    own = PerProcess(object, start)
    with pytest.raises(RuntimeError, match="new thread"):
        own.get()

    assert own.known() is None
    assert own.get() is own.known()
