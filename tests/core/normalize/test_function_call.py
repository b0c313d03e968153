"""The older ``function_call``: nothing of it is told twice."""

from __future__ import annotations

import json
from functools import partial

import pytest

from sseproxy.core.normalize import normalize
from sseproxy.core.normalize.function_call import tidy_function_calls
from sseproxy.core.sse import DONE, Event
from tests.core.normalize.making import END, assert_passes_flush_at_once, chunk, deltas, through


def test_the_name_of_a_legacy_function_call_is_said_once() -> None:
    said = [{"name": "f", "arguments": '{"x"'}, {"name": "f", "arguments": ":1}"}, {"name": "f"}]
    out = deltas(through(tidy_function_calls, *(chunk({"function_call": function}) for function in said), END))

    assert out == [{"function_call": said[0]}, {"function_call": {"arguments": ":1}"}}, {}]


def test_an_older_function_call_beside_tool_calls_is_for_those_who_offered_no_tools() -> None:
    both = {
        "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}],
        "function_call": {"name": "f", "arguments": "{}"},
    }

    def seen(tools: tuple[str, ...]) -> set[str]:
        return {
            name
            for delta in deltas(through(partial(tidy_function_calls, tools=tools), chunk(dict(both)), END))
            for name in delta
        }

    assert seen(("f",)) == {"tool_calls"}
    assert seen(()) == {"tool_calls", "function_call"}


def test_an_older_function_call_behind_tool_calls_is_dropped_too() -> None:
    newer = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    older = {"function_call": {"name": "f", "arguments": "{}"}}
    other = chunk(dict(older), index=1)
    out = through(partial(tidy_function_calls, tools=("f",)), chunk(newer), chunk(dict(older)), other, END)

    assert deltas(out) == [newer, {}]
    assert deltas(out, index=1) == [older]


@pytest.mark.parametrize("pieces", [['{"x":1}'], ['{"x"', ":1}"], ["", '{"x"', ":", "1", "}"]])
def test_arguments_that_were_whole_are_not_said_again(pieces: list[str]) -> None:
    said = [{"name": "f", "arguments": pieces[0]}, *({"arguments": piece} for piece in pieces[1:])]
    again = {"name": "f", "arguments": '{"x":1}'}
    out = deltas(
        through(tidy_function_calls, *(chunk({"function_call": dict(function)}) for function in [*said, again]), END)
    )

    assert out == [*({"function_call": function} for function in said), {}]


def test_cumulative_arguments_are_cut_on_the_operator_s_word() -> None:
    said = [{"name": "f", "arguments": '{"x'}, {"arguments": '{"x":1'}, {"arguments": '{"x":1}'}]
    cut = partial(tidy_function_calls, cumulative=True)
    out = deltas(through(cut, *(chunk({"function_call": function}) for function in said), END))

    assert [delta["function_call"]["arguments"] for delta in out] == ['{"x', '":1', "}"]


def test_pieces_that_go_around_the_transforms_are_known_when_the_whole_comes() -> None:
    def said(**function: str) -> Event:
        body = {"id": "a", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": {"function_call": function}, "finish_reason": None}]}  # fmt: skip
        return Event(json.dumps(body).encode())

    pieces = ['{"', "x", "y", "z", '":', "[", "10", "]", "}"]
    stream = [said(name="f"), *(said(arguments=piece) for piece in pieces), said(name="f", arguments="".join(pieces))]
    out = normalize(iter([*stream, Event(DONE)]), api="chat")

    assert "".join(event.hidden for event in out) == "f" + "".join(pieces)


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(tidy_function_calls)
