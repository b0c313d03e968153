"""Cumulative text is cut only by the operator's word or on evidence beyond chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.cumulative import strip_repetition
from sseproxy.core.sse import FLUSH, Event
from tests.core.normalize.making import END, assert_passes_flush_at_once, chunk, deltas, legacy, through

NAMES = ("delta.content", "delta.reasoning_content")


def strip(mode: Literal["auto", "always", "never"]) -> Callable[[Iterator[Event]], Iterator[Event]]:
    return partial(strip_repetition, mode=mode, names=NAMES)


def texts(mode: Literal["auto", "always", "never"], *parts: str) -> list[str]:
    out = through(strip(mode), *[chunk({"content": part}) for part in parts], END)
    assert out[-1] is END
    return [delta["content"] for delta in deltas(out)]


def test_three_chunks_that_repeat_everything_are_evidence() -> None:
    assert texts("auto", "", "Hel", "Hello wor", "Hello world", "Hello world", "Hello world!") == [
        "", "Hel", "lo wor", "ld", "", "!",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        ["ha", "haha", "hahaha"],
        ["-", "--", "---", "-----------", "-------------"],
        ["1", "12", "123"],
        ["Hello wo", "Hello wo", "Hello wo"],
        ["Hello", "Hello world", "!"],
        ["Hello", "Hello world"],
        ["The quick brown fox", "The quick brown fox jumps"],
        ["a", "b", "ab", "abc"],
    ],
)
def test_less_is_not_and_nothing_changes(parts: list[str]) -> None:
    assert texts("auto", *parts) == parts


def test_only_ambiguous_chunks_wait() -> None:
    transform = strip("auto")(iter([chunk({"content": "a"}), FLUSH, chunk({"content": "b"}), FLUSH]))
    assert [event is FLUSH for event in transform] == [False, True, False, True]


def test_what_waits_keeps_its_order() -> None:
    events = [chunk({"content": "a"}), chunk({"content": "ab"}), chunk({"reasoning_content": "r"}), END]
    assert deltas(through(strip("auto"), *events)) == [{"content": "a"}, {"content": "ab"}, {"reasoning_content": "r"}]


def test_by_the_operators_word_every_repetition_is_cut() -> None:
    assert texts("always", "H", "Hi", "Hi", "Hi you") == ["H", "i", "", " you"]
    assert texts("always", "Hi", "H", "Hi you") == ["Hi", "", " you"]


def test_never_is_never() -> None:
    parts = ["Hel", "Hello wor", "Hello world"]
    assert texts("never", *parts) == parts


def test_fields_and_choices_are_told_apart() -> None:
    events = [
        chunk({"content": "a", "reasoning_content": "x"}),
        chunk({"content": "b"}, index=1),
        chunk({"content": "ac", "reasoning_content": "xy"}),
    ]
    out = through(strip("always"), *events)
    assert deltas(out) == [{"content": "a", "reasoning_content": "x"}, {"content": "c", "reasoning_content": "y"}]


def test_legacy_text_is_cut_too() -> None:
    out = through(partial(strip_repetition, mode="always", names=("text",)), legacy("a"), legacy("ab"))
    assert [event.body["choices"][0]["text"] for event in out if isinstance(event, Chunk)] == ["a", "b"]


def test_chunks_are_steady_only_after_the_verdict() -> None:
    events: list[Any] = [chunk({"content": part}) for part in ("a", "b", "c")]
    through(strip("auto"), *events)
    assert [event.steady for event in events] == [False, True, True]


def test_chunks_without_the_text_are_steady_and_wait_only_for_a_while() -> None:
    events: list[Any] = [chunk({"reasoning_content": "r"}) for _ in range(3)]
    through(strip("auto"), *events)
    assert all(event.steady for event in events)
    waiting = [chunk({"content": "a"}), chunk({"content": "ab"})]
    transform = strip("auto")(iter([*waiting, *(chunk({"reasoning_content": str(i)}) for i in range(99)), FLUSH]))
    assert sum(1 for _ in iter(lambda: next(transform), FLUSH)) == 101


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_flush_passes_at_once(mode: Any) -> None:
    assert_passes_flush_at_once(strip(mode))
