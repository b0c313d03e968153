"""The older ``function_call``: named once, and not told twice."""

from __future__ import annotations

from functools import partial

from sseproxy.core.normalize.function_call import tidy_function_calls
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


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(tidy_function_calls)
