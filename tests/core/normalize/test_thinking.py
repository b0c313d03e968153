"""Thinking in tags is moved, on the operator's word."""

from __future__ import annotations

import pytest

from sseproxy.core.normalize.thinking import split_thinking
from tests.core.normalize.making import END, assert_passes_flush_at_once, chunk, deltas, through


def split(*parts: str) -> tuple[str, str]:
    out = deltas(through(split_thinking, *[chunk({"content": part}) for part in parts], END))
    return (
        "".join(delta.get("reasoning_content", "") for delta in out),
        "".join(delta.get("content", "") for delta in out),
    )


@pytest.mark.parametrize(
    ("text", "thinking", "content"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n<think>a b</think>\n\nc\n", "a b", "c\n"),
        ("no tag <think>a</think>", "", "no tag <think>a</think>"),
        ("<think>never closed", "never closed", ""),
        ("<think>a</thin", "a</thin", ""),
        ("<thin", "", "<thin"),
        ("<think></think>a", "", "a"),
        ("<think>a<b</think>c <think>d", "a<b", "c <think>d"),
        ("  ", "", "  "),
    ],
)
def test_the_split_is_the_same_at_every_cut(text: str, thinking: str, content: str) -> None:
    assert split(text) == (thinking, content)
    assert split(*text) == (thinking, content)
    for cut in range(len(text)):
        assert split(text[:cut], text[cut:]) == (thinking, content)


def test_what_is_held_goes_out_before_the_finish() -> None:
    out = through(split_thinking, chunk({"content": "<thi"}), chunk({}, "stop"), END)
    assert deltas(out) == [{"content": ""}, {"content": "<thi"}]


def test_choices_are_told_apart() -> None:
    out = through(split_thinking, chunk({"content": "<think>a"}), chunk({"content": "b"}, index=1))
    assert deltas(out, 1) == [{"content": "b"}]


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(split_thinking)
