"""Deltas: role once, strings, no nulls, one entry per choice."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.deltas import tidy_deltas, tidy_message, tidy_texts
from tests.core.normalize.making import END, assert_passes_flush_at_once, bodies, chunk, deltas, legacy, through


def test_role_comes_once_and_first() -> None:
    events = [chunk({"content": x, "role": "assistant"}) for x in "ab"]
    out = deltas(through(tidy_deltas, *events))
    assert out == [{"role": "assistant", "content": "a"}, {"content": "b"}]
    assert next(iter(out[0])) == "role"


@pytest.mark.parametrize("role", [None, "", 7])
def test_a_role_that_is_none_becomes_assistant(role: Any) -> None:
    assert deltas(through(tidy_deltas, chunk({"role": role}), chunk({"role": role}))) == [{"role": "assistant"}, {}]


def test_each_choice_has_its_own_role() -> None:
    events = [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({"content": "c"}, index=1)]
    out = through(partial(tidy_deltas, choices=2), *events)
    assert deltas(out, 1) == [{"role": "assistant", "content": "b"}, {"content": "c"}]


@pytest.mark.parametrize("index", [1, 7, None, "0", -1, 2.0, "x", True])
def test_with_one_choice_asked_every_index_is_zero(index: Any) -> None:
    event = Chunk(body={"choices": [{"index": index, "delta": {"content": "x"}}]})
    (body,) = bodies(through(tidy_deltas, event))
    assert body["choices"][0]["index"] == 0


def test_with_several_asked_the_index_is_read_or_the_position() -> None:
    entries: list[Any] = [{"index": index, "delta": {}} for index in ("1", 2.0, -1)] + [{"delta": {}}]
    (body,) = bodies(through(partial(tidy_deltas, choices=4), Chunk(body={"choices": entries})))
    assert [choice["index"] for choice in body["choices"]] == [1, 2, 3]


def test_entries_of_the_same_choice_are_merged() -> None:
    entries = [
        {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None},
        {"index": 0, "delta": {"role": "assistant", "content": "b", "tool_calls": [{"id": "1"}]}, "finish_reason": "x"},
    ]
    (body,) = bodies(through(tidy_deltas, Chunk(body={"choices": entries})))
    assert body["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "ab", "tool_calls": [{"id": "1"}]},
            "finish_reason": "x",
        }
    ]


@pytest.mark.parametrize(
    ("message", "tidy"),
    [
        (None, {}),
        ("x", {"content": "x"}),
        ({"content": None, "tool_calls": None, "refusal": None}, {}),
        ({"content": ""}, {"content": ""}),
        ({"content": 7}, {"content": "7"}),
        ({"content": [{"type": "text", "text": "a"}, "b"]}, {"content": "ab"}),
        ({"content": {"type": "text", "text": "a"}}, {"content": "a"}),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
            {"reasoning_content": "a"},
        ),
        ({"content": [{"type": "thinking", "thinking": "a"}]}, {"reasoning_content": "a"}),
        (
            {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}]},
            {"reasoning_content": "a"},
        ),
        ({"content": [{"type": "image_url"}]}, {"content_parts": [{"type": "image_url"}]}),
        ({"reasoning": "a"}, {"reasoning": "a", "reasoning_content": "a"}),
        ({"reasoning": "a", "reasoning_content": "a"}, {"reasoning": "a", "reasoning_content": "a"}),
        ({"reasoning": "a", "reasoning_content": ""}, {"reasoning": "a", "reasoning_content": "a"}),
        ({"thinking": "a"}, {"thinking": "a", "reasoning_content": "a"}),
        (
            {"reasoning_details": [{"text": "a"}, {"summary": "b"}, {"data": "c"}]},
            {"reasoning_details": [{"text": "a"}, {"summary": "b"}, {"data": "c"}], "reasoning_content": "ab"},
        ),
        ({"tool_calls": []}, {}),
        ({"tool_calls": {"id": "1"}}, {"tool_calls": [{"id": "1"}]}),
        ({"function_call": {"name": None, "arguments": {"a": 1}}}, {"function_call": {"arguments": '{"a":1}'}}),
        ({"content": "x", "function_call": {"name": "", "arguments": ""}}, {"content": "x"}),
        ({"extra_content": {"x": 1}}, {"extra_content": {"x": 1}}),
    ],
)
def test_a_message_becomes_strings_without_nulls(message: Any, tidy: dict[str, Any]) -> None:
    assert tidy_message(message) == tidy


def test_halves_of_a_surrogate_pair_meet() -> None:
    events = [chunk({"content": "a\ud83d"}), chunk({"content": ""}), chunk({"content": "\ude00b"})]
    assert [delta["content"] for delta in deltas(through(tidy_deltas, *events))] == ["a", "", "\U0001f600b"]
    halves = [chunk({"content": "a"}), chunk({"content": "\ud83d"}), chunk({"content": "\ude00"})]
    assert [delta["content"] for delta in deltas(through(tidy_deltas, *halves))] == ["a", "\U0001f600"]


def test_a_half_that_stays_alone_is_not_lost() -> None:
    out = through(tidy_deltas, chunk({"content": "a\ud83d"}), END)
    assert "".join(delta.get("content", "") for delta in deltas(out)) == "a\ud83d"
    assert out[-1] is END


@pytest.mark.parametrize(
    ("delta", "finish"),
    [
        ({}, "stop"),
        ({"reasoning_content": "b"}, None),
        ({"tool_calls": [{"index": 0}]}, None),
        ({"content": "b"}, None),
    ],
)
def test_a_half_that_stays_alone_comes_before_what_its_choice_goes_on_with(delta: Any, finish: str | None) -> None:
    half = chunk({"content": "a\ud83d"}, index=1)
    events = [chunk({"content": "x"}), half, chunk({}, index=1), chunk({"content": "y"}), chunk(delta, finish, 1)]
    out = [body["choices"][0] for body in bodies(through(partial(tidy_deltas, choices=2), *events))]
    said = [choice for choice in out if choice["index"] == 1][1:]

    assert "".join(choice["delta"].get("content", "") for choice in said) == "\ud83d" + delta.get("content", "")
    assert said[-1].get("finish_reason") == finish
    assert {**said[-1]["delta"], "content": ""} == {**delta, "content": ""}


def test_a_half_goes_on_waiting_where_the_finish_is_said_with_every_text() -> None:
    events = [chunk({"content": text}, "stop") for text in ("a\ud83d", "\ude00b")]
    assert [delta["content"] for delta in deltas(through(tidy_deltas, *events))] == ["a", "\U0001f600b"]


def test_no_chunk_is_steady_while_half_a_surrogate_pair_waits() -> None:
    texts = [(0, "a"), (1, "b"), (0, "\ud83d"), (1, "c"), (1, "d"), (0, "e"), (1, "f")]
    events = [chunk({"content": text}, index=index) for index, text in texts]
    out = through(partial(tidy_deltas, choices=2), *events, Chunk(body={"choices": []}))
    steady = [event.steady for event in out if isinstance(event, Chunk)]
    assert steady == [False, False, False, False, False, True, True]


def test_text_in_a_chat_chunk_is_content() -> None:
    (delta,) = deltas(through(tidy_deltas, Chunk(body={"choices": [{"text": "x"}]})))
    assert delta == {"role": "assistant", "content": "x"}


def test_legacy_chunks_have_text_and_no_delta() -> None:
    chat = Chunk(body={"choices": [{"index": 3, "delta": {"content": "b"}}]})
    out = bodies(through(tidy_texts, legacy("a"), chat, Chunk(body={"choices": [{}]})))
    assert [body["choices"][0]["text"] for body in out] == ["a", "b", ""]
    assert out[1]["choices"] == [{"index": 0, "text": "b"}]


def test_a_message_of_a_legacy_completion_is_its_text_if_it_has_no_other() -> None:
    said = {"text": "", "delta": {"content": "x"}, "message": {"content": "x"}}
    (out,) = bodies(through(tidy_texts, Chunk(body={"choices": [said]})))
    assert out["choices"] == [{"index": 0, "text": "x"}]


def test_only_the_first_chunk_of_a_choice_is_unsteady() -> None:
    first, second = through(tidy_deltas, chunk({"content": "a"}), chunk({"content": "b"}))
    assert isinstance(first, Chunk) and not first.steady
    assert isinstance(second, Chunk) and second.steady


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(tidy_deltas)
    assert_passes_flush_at_once(tidy_texts)
