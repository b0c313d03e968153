"""Tool calls: numbered from 0, named once, arguments as strings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.tool_calls import tidy_calls, tidy_tool_calls
from tests.core.normalize.making import END, assert_passes_flush_at_once, chunk, deltas, through

TIDY = partial(tidy_calls, make_id=lambda: "x")


def call(
    index: Any = None, id: Any = None, name: Any = None, arguments: Any = None, type: str | None = None, **extras: Any
) -> dict[str, Any]:
    entry = {"index": index, "id": id, "type": type, "function": {"name": name, "arguments": arguments}, **extras}
    return {field: value for field, value in entry.items() if value is not None}


def tidy(
    *groups: list[dict[str, Any]], finish: str | None = None, tools: tuple[str, ...] = (), cumulative: bool = False
) -> list[dict[str, Any]]:
    """All entries that come out."""
    ids = (str(number) for number in itertools.count())
    events = [chunk({"tool_calls": group}) for group in groups]
    transform = partial(tidy_calls, make_id=lambda: next(ids), tools=tools, cumulative=cumulative)
    out = through(transform, *events, chunk({}, finish), END)
    return [entry for delta in deltas(out) for entry in delta.get("tool_calls", [])]


def gathered(entries: list[dict[str, Any]]) -> list[tuple[int, str, str, str]]:
    """What a client puts together: index, id, name, arguments."""
    calls: dict[int, list[str]] = {}
    for entry in entries:
        function = entry.get("function", {})
        if entry["index"] not in calls:
            calls[entry["index"]] = [entry["id"], "", ""]
            assert entry["type"] == "function"
        else:
            assert "id" not in entry and "type" not in entry
        calls[entry["index"]][1] += function.get("name", "")
        calls[entry["index"]][2] += function.get("arguments", "")
    return [(index, *parts) for index, parts in calls.items()]  # type: ignore[misc]


A, B = (0, "a", "f", '{"x":1}'), (1, "b", "g", "{}")

SAME = {
    "as OpenAI sends it": [[call(0, "a", "f", "", "function")], [call(0, arguments='{"x":')], [call(0, arguments="1}")],
                           [call(1, "b", "g", "{}", "function")]],
    "no index": [[call(None, "a", "f", '{"x":1}')], [call(None, "b", "g", "{}")]],
    "no index in one chunk": [[call(None, "a", "f", '{"x":1}'), call(None, "b", "g", "{}")]],
    "no index, pieces": [[call(None, "a", "f", "")], [call(arguments='{"x":')], [call(arguments="1}")],
                         [call(None, "b", "g", "{}")]],
    "index always 0": [[call(0, "a", "f", "")], [call(0, arguments='{"x":1}')], [call(0, "b", "g", "")],
                       [call(0, arguments="{}")]],
    "index from 1": [[call(1, "a", "f", '{"x":1}')], [call(2, "b", "g", "{}")]],
    "index as string": [[call("0", "a", "f", '{"x":1}')], [call("1", "b", "g", "{}")]],
    "id and name on every delta": [[call(0, "a", "f", "")], [call(0, "a", "f", '{"x":')], [call(0, "a", "f", "1}")],
                                   [call(1, "b", "g", "{}")]],
    "interleaved": [[call(0, "a", "f", ""), call(1, "b", "g", "")],
                    [call(1, arguments="{}"), call(0, arguments='{"x":1}')]],
    "arguments as object": [[call(0, "a", "f", {"x": 1})], [call(1, "b", "g", {})]],
    "name after id": [[call(0, "a")], [call(0, name="f")], [call(0, arguments='{"x":1}')], [call(1, "b", "g", "{}")]],
    "name in pieces": [[call(0, "a", "f", "")], [call(0, name="")], [call(0, arguments='{"x":1}')],
                       [call(1, "b", "g", "{}")]],
    "empty deltas": [[call(0, "a", "f", '{"x":1}')], [call(0, arguments="")], [call(0)], [call(1, "b", "g", "{}")],
                     [call(1, arguments="")]],
    "flattened": [[{"index": 0, "id": "a", "name": "f", "arguments": '{"x":1}'}],
                  [{"index": 1, "id": "b", "name": "g", "arguments": "{}"}]],
}  # fmt: skip


@pytest.mark.parametrize("groups", SAME.values(), ids=SAME.keys())
def test_two_calls_come_out_the_same(groups: list[list[dict[str, Any]]]) -> None:
    assert gathered(tidy(*groups)) == [A, B]


def test_calls_without_ids_get_one_each() -> None:
    entries = tidy([call(0, None, "f", "{")], [call(0, arguments="}")], [call(1, "", "f", "{}")])
    assert gathered(entries) == [(0, "call_0", "f", "{}"), (1, "call_1", "f", "{}")]


def test_without_id_and_index_complete_arguments_end_a_call() -> None:
    groups = [[call(None, None, "f", '{"a":"}"}')], [call(None, None, "f", '{"a":"')], [call(None, None, "f", '\\""}')]]
    assert gathered(tidy(*groups)) == [(0, "call_0", "f", '{"a":"}"}'), (1, "call_1", "f", '{"a":"\\""}')]


def test_another_name_at_the_same_index_without_an_id_is_another_call() -> None:
    assert gathered(tidy([call(0, None, "f", "{}")], [call(0, None, "g", "{}")]))[1][2] == "g"


def test_an_id_used_twice_for_different_calls_is_made_unique() -> None:
    entries = tidy([call(0, "same", "f", "{}")], [call(1, "same", "g", "{}")])
    assert gathered(entries) == [(0, "same", "f", "{}"), (1, "call_0", "g", "{}")]


@pytest.mark.parametrize("index", [0, None])
def test_another_name_after_whole_arguments_is_another_call_whatever_its_id(index: Any) -> None:
    first = [[call(index, "same", "f", "{")], [call(index, "same", "f", "}")]]
    pieces = [[call(index, "same", "g", "")], [call(index, "same", arguments='{"x"')], [call(index, arguments=":1}")]]
    wanted = [(0, "same", "f", "{}"), (1, "call_0", "g", '{"x":1}')]
    assert gathered(tidy(*first, *pieces)) == wanted
    assert gathered(tidy(*first, [call(index, "same", "g", '{"x":1}')])) == wanted


def test_calls_of_one_id_are_told_apart_by_index() -> None:
    heads = [[call(0, "same", "f", ""), call(1, "same", "g", "")]]
    pieces = [[call(index, "same", arguments=text)] for text in ("{", "}") for index in (0, 1)]
    assert [parts[2:] for parts in gathered(tidy(*heads, *pieces))] == [("f", "{}"), ("g", "{}")]


ECHOES = {
    "names, then arguments": [
        [call(0, "a", "f")],
        [call(1, "a", "f")],
        [call(2, "a", "f")],
        [call(2, "a", None, '{"x":1}')],
    ],
    "arguments at each index": [[call(0, "a", "f")], [call(1, "a", "f", '{"x"')], [call(2, "a", "f", ":1}")]],
    "arguments without an id": [[call(0, "a", "f")], [call(1, "a", "f", "")], [call(1, arguments='{"x":1}')]],
    "all again": [[call(0, "a", "f", '{"x":1}')], [call(1, "a", "f", '{"x":1}')], [call(2, "a", "f", '{"x":1}')]],
    "all again in two": [[call(i, "a", *said)] for i in (0, 1, 2) for said in (("f", ""), (None, '{"x":1}'))],
}


@pytest.mark.parametrize("groups", ECHOES.values(), ids=ECHOES.keys())
def test_a_call_that_is_named_again_at_further_indexes_is_one(groups: list[list[dict[str, Any]]]) -> None:
    assert gathered(tidy(*groups)) == [A]
    assert gathered(tidy(*groups, [call(3, "b", "g", "{}")])) == [A, B]


def test_calls_that_share_id_and_name_are_told_apart_by_their_arguments() -> None:
    whole = [[call(index, "a", "f", f'{{"x":{index}}}')] for index in (0, 1)]
    named_first = [[call(i, "a", *said)] for i in (0, 1) for said in (("f", ""), (None, f'{{"x":{i}}}'))]
    pieces = [[call(i, "a", *said)] for i in (0, 1) for said in (("f", ""), (None, '{"x":'), (None, f"{i}}}"))]
    for groups in (whole, named_first, pieces, [[whole[0][0], whole[1][0]]]):
        assert [call[2:] for call in gathered(tidy(*groups))] == [("f", '{"x":0}'), ("f", '{"x":1}')]
    both = tidy([call(0, "a", "f"), call(1, "a", "f")], [call(0, "a", None, "{}")], [call(1, "a", None, "{}")])
    assert len(gathered(both)) == 2


PIECES = [[call(0, "a", "get_", "")], [call(0, name="get_")], [call(0, name="weather", arguments="{")],
          [call(0, arguments="}")]]  # fmt: skip


def test_a_name_in_pieces_is_put_together() -> None:
    assert gathered(tidy(*PIECES)) == [(0, "a", "get_weather", "{}")]


def test_and_comes_once_where_it_is_known_to_be_unfinished() -> None:
    first, second = tidy(*PIECES, tools=("get_weather", "find"))
    assert first["function"] == {"name": "get_weather", "arguments": "{"}
    assert second["function"] == {"arguments": "}"}
    assert tidy([call(0, "a", "get_")], tools=("get_weather",))[0]["function"]["name"] == "get_"
    (named, _) = tidy([call(0, "a", "get", "")], [call(0, arguments="{}")], tools=("get", "get_weather"))
    assert named["function"] == {"name": "get", "arguments": ""}


@pytest.mark.parametrize("index", [0, None])
def test_a_new_id_without_a_name_amid_arguments_continues_the_call(index: Any) -> None:
    groups = [[call(index, "a", "f", '{"x')], [call(index, "b", None, '":')], [call(index, "c", None, "1}")]]
    assert gathered(tidy(*groups)) == [A]


@pytest.mark.parametrize("ids", [["a", "aa", "aaa"], ["call_1", "call_1call_1", "call_1call_1call_1"], ["a", "b", "c"]])
@pytest.mark.parametrize("name", [None, "f"])
def test_a_new_id_amid_arguments_continues_the_call_named_again_or_not(ids: list[str], name: str | None) -> None:
    entries = [call(0, ids[0], "f", '{"x'), call(0, ids[1], name, '":'), call(0, ids[2], name, "1}")]
    assert gathered(tidy(*([entry] for entry in entries))) == [(0, ids[0], "f", '{"x":1}')]


@pytest.mark.parametrize("index", [None, 0])
def test_an_id_that_is_glued_to_itself_is_no_new_one_before_any_arguments(index: int | None) -> None:
    entries = [call(index, "a", "f", ""), call(index, "aa", "f", ""), call(index, "aaa", "f", '{"x":1}')]
    assert gathered(tidy(*([entry] for entry in entries))) == [A]


def test_a_new_id_with_a_name_before_an_object_is_a_new_call_whatever_became_of_the_last() -> None:
    entries = [call(0, "a", "f", '{"x":'), call(0, "b", "f", '{"x":1}'), call(0, "c", "f", "")]
    assert [id for _, id, _, _ in gathered(tidy(*([entry] for entry in entries)))] == ["a", "b", "c"]


def test_a_new_id_after_whole_arguments_is_a_new_call() -> None:
    whole = [[call(0, "a", "f", "{}")], [call(0, "b", None, "")], [call(0, name="g", arguments="{}")]]
    assert [parts[1:3] for parts in gathered(tidy(*whole))] == [("a", "f"), ("b", "g")]
    streamed = [[call(0, "a", "f", "")], [call(0, arguments="{")], [call(0, arguments="}")], *whole[1:]]
    assert [parts[1:3] for parts in gathered(tidy(*streamed))] == [("a", "f"), ("b", "g")]


def test_without_ids_a_name_after_whole_arguments_is_another_call() -> None:
    groups = [[call(0, None, "f", "{}")], [call(0, None, "f", "{}")], [call(0, None, "f", "")]]
    assert gathered(tidy(*groups)) == [(0, "call_0", "f", "{}"), (1, "call_1", "f", "{}")]


def test_a_blank_after_whole_arguments_is_no_other_call() -> None:
    groups = [[call(0, None, "f", said)] for said in ("", '{"x":', "1}", "\n")]
    assert gathered(tidy(*groups)) == [(0, "call_0", "f", '{"x":1}\n')]


def test_a_call_that_is_repeated_as_a_whole_is_dropped() -> None:
    assert len(tidy(*[[call(0, "a", "f", '{"x":1}')]] * 3)) == 1
    assert gathered(tidy([call(0, "a", "f", "[]")], [call(0, "a", "f", "[] ")])) == [(0, "a", "f", "[][] ")]


PIECED = [[call(0, "a", "f", "")], [call(0, arguments='{"x"')], [call(0, arguments=":1}")]]
AGAIN = {
    "no id": call(0, arguments='{"x":1}'),
    "no id but the name": call(0, name="f", arguments='{"x":1}'),
    "id": call(0, "a", arguments='{"x":1}'),
    "id and name": call(0, "a", "f", '{"x":1}', "function"),
    "another id": call(0, "b", arguments='{"x":1}'),
    "no index": call(None, "a", "f", '{"x":1}'),
    "nothing but arguments": call(arguments='{"x":1}'),
    "name": call(None, None, "f", '{"x":1}'),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN.keys())
def test_whole_arguments_after_their_pieces_are_dropped(again: dict[str, Any]) -> None:
    assert gathered(tidy(*PIECED, [again])) == [A]
    assert gathered(tidy(*PIECED, [again], [call(0, arguments="")], [again], [call(1, "b", "g", "{}")])) == [A, B]


def test_without_any_id_too() -> None:
    pieces = [[call(0, None, "f", "")], [call(0, arguments='{"x":')], [call(0, arguments="1}")]]
    for again in (call(0, arguments='{"x":1}'), call(0, None, "f", '{"x":1}')):
        assert gathered(tidy(*pieces, [again], [again])) == [(0, "call_0", "f", '{"x":1}')]


def test_all_calls_may_be_repeated_in_one_chunk() -> None:
    pieces = [*PIECED, [call(1, "b", "g", "")], [call(1, arguments="{}")]]
    assert gathered(tidy(*pieces, [call(0, "a", "f", '{"x":1}'), call(1, "b", "g", "{}")])) == [A, B]


@pytest.mark.parametrize(
    "other", [call(1, None, "f", '{"x":1}'), call(0, "b", "f", '{"x":1}'), call(0, None, "g", '{"x":1}')]
)
def test_another_call_with_equal_arguments_is_no_repetition(other: dict[str, Any]) -> None:
    assert [parts[3] for parts in gathered(tidy(*PIECED, [other]))] == ['{"x":1}', '{"x":1}']


def test_pieces_that_are_equal_are_no_repetition() -> None:
    groups = [[call(0, arguments=piece)] for piece in ('{"x":', "[{}", ",{}", ",{}", "]", "}")]
    assert gathered(tidy([call(0, "a", "f", "")], *groups))[0][3] == '{"x":[{},{},{}]}'
    groups = [[call(0, arguments=piece)] for piece in ('{"x":"', "{}", "{}", '"}')]
    assert gathered(tidy([call(0, "a", "f", "")], *groups))[0][3] == '{"x":"{}{}"}'


@pytest.mark.parametrize("named", [{}, {"id": "a"}, {"id": "a", "name": "f"}])
def test_cumulative_arguments_are_cut_by_the_operators_word(named: dict[str, Any]) -> None:
    groups = [[call(0, "a", "f", "")]]
    groups += [[call(0, arguments=said, **named)] for said in ('{"x', '{"x":', '{"x":', '{"x":1}', '{"x":1}')]
    assert gathered(tidy(*groups, [call(1, "b", "g", "{")], [call(1, arguments="{}")], cumulative=True)) == [A, B]
    assert gathered(tidy(*groups[:3]))[0][3] == '{"x{"x":'


def test_arguments_in_pieces_stay_where_texts_are_cumulative() -> None:
    groups = [[call(0, "a", "f", '{"')], *[[call(0, arguments=said)] for said in ('x":', '{"', 'y":1', "}}")]]
    assert gathered(tidy(*groups, cumulative=True))[0][3] == '{"x":{"y":1}}'


def test_an_id_that_comes_late_changes_nothing() -> None:
    entries = tidy([call(0, None, "f", "{")], [call(0, "late", None, "}")])
    assert gathered(entries) == [(0, "call_0", "f", "{}")]


@pytest.mark.parametrize("opening", [[call(0, "a", "f", "{}")], [call(0, "a", "f", "")]], ids=["at once", "later"])
def test_an_empty_object_before_the_arguments_is_none_of_them(opening: list[dict[str, Any]]) -> None:
    groups = [opening, [call(0, arguments="{}")], [call(0, arguments="")], [call(0, arguments='{"x":')]]
    assert gathered(tidy(*groups, [call(0, arguments="1}")], finish="tool_calls")) == [A]


@pytest.mark.parametrize("finish", ["tool_calls", None])
def test_an_empty_object_that_is_all_there_is_is_said_before_the_finish(finish: str | None) -> None:
    groups = [[call(0, "a", "f", "{}")], [call(0, arguments="{}")], [call(1, "b", "g", "{}")]]
    assert gathered(tidy(*groups, finish=finish)) == [(0, "a", "f", "{}"), B]


def test_calls_that_share_a_chunk_or_end_with_it_do_not_wait() -> None:
    both = chunk({"tool_calls": [call(0, "a", "f", "{}"), call(1, "b", "g", "{}")]})
    last = chunk({"tool_calls": [call(2, "c", "h", "{}")]}, "tool_calls")
    out = deltas(through(TIDY, both, last))

    said = [[entry["function"]["arguments"] for entry in delta["tool_calls"]] for delta in out]
    assert said == [["{}", "{}"], ["{}"]]


def test_what_cannot_be_told_apart_is_passed_on() -> None:
    groups = [[call(0, "a", "f", "")], [call(0, arguments='{"x":1}')], [call(0, arguments='{"x":2}')]]
    assert gathered(tidy(*groups)) == [(0, "a", "f", '{"x":1}{"x":2}')]


def test_fields_nobody_knows_are_kept() -> None:
    signature = {"google": {"thought_signature": "s"}}
    (first, second) = tidy([call(None, "a", "f", "[]", extra_content=signature)], [call(0, "a", extra_content=1)])
    assert first["extra_content"] == signature
    assert second == {"index": 0, "extra_content": 1}


def test_a_call_that_never_gets_a_name_is_not_lost() -> None:
    assert tidy([call(0, "a")]) == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "", "arguments": ""}}
    ]
    assert tidy([call(0, "a")], finish="tool_calls") == tidy([call(0, "a")])


def test_a_call_does_not_wait_for_its_name_behind_the_next_one() -> None:
    entries = tidy([call(0, "a"), call(1, "b", "g", "{}")])
    assert gathered(entries) == [(0, "a", "", ""), (1, "b", "g", "{}")]


def test_each_choice_counts_for_itself() -> None:
    events = [
        chunk({"tool_calls": [call(0, "a", "f", "{}")]}),
        chunk({"tool_calls": [call(0, "b", "g", "{}")]}, index=1),
    ]
    out = through(TIDY, *events)
    assert deltas(out, 1)[0]["tool_calls"][0]["index"] == 0


def test_custom_tools_are_numbered() -> None:
    entries = tidy(
        [{"id": "a", "type": "custom", "custom": {"name": "run", "input": ""}}], [{"custom": {"input": "ls"}}]
    )
    assert entries == [
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "run", "input": ""}},
        {"index": 0, "custom": {"input": "ls"}},
    ]


NO_CUSTOM, NO_FUNCTION = {"name": "", "input": ""}, {"name": "", "arguments": ""}


def test_a_call_in_both_forms_has_the_one_that_says_something() -> None:
    """Snowflake's Cortex writes every field that OpenAI's schema has (pydantic-ai records whole answers of it)."""
    function, custom = {"name": "f", "arguments": "{}"}, {"name": "run", "input": "ls"}
    entries = [
        {"id": "a", "type": "function", "function": function, "custom": NO_CUSTOM},
        {"id": "b", "type": "custom", "function": NO_FUNCTION, "custom": custom},
    ]
    calls = [
        {"id": "a", "type": "function", "function": function},
        {"id": "b", "type": "custom", "custom": custom},
    ]
    assert tidy(entries) == [{"index": index, **call} for index, call in enumerate(calls)]
    assert tidy_tool_calls(entries, make_id=lambda: "x") == calls


@pytest.mark.parametrize("entry", [None, "x", [], 7])
def test_what_is_no_call_is_dropped(entry: Any) -> None:
    assert tidy([entry]) == []


def test_pieces_of_arguments_are_steady_and_openings_are_not() -> None:
    events: list[Chunk] = [
        chunk({"tool_calls": [call(0, "a", "f", "")]}),
        chunk({"tool_calls": [call(0, arguments='{"a":{}')]}),
        chunk({"tool_calls": [call(None, arguments=',"b":')]}),
        chunk({"tool_calls": [call(0, arguments="1}")]}),
        chunk({"tool_calls": [call(0, arguments=" ")]}),
    ]
    through(TIDY, *events)
    assert [event.steady for event in events] == [False, True, False, False, False]


def test_pieces_that_go_around_are_told_unless_they_may_be_the_last() -> None:
    first, piece = chunk({"tool_calls": [call(0, "a", "f", "")]}), chunk({"tool_calls": [call(0, arguments="{")]})
    again = chunk({"tool_calls": [call(0, arguments='{"x":1}')]})

    def source() -> Iterator[Chunk]:
        yield first
        yield piece
        assert piece.watch is not None
        assert [piece.watch(text) for text in ('"x', '":1', "}")] == [True, True, False]
        yield chunk({"tool_calls": [call(0, arguments="}")]})
        yield again

    list(TIDY(source()))
    assert deltas([again]) == [{}]


def test_calls_of_a_whole_answer_have_no_index() -> None:
    calls = tidy_tool_calls([call(3, None, "f", {"a": 1}), None, call(0, "b", "g", None)], make_id=lambda: "x")
    assert calls == [
        {"id": "call_x", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]


def test_calls_of_a_whole_answer_have_an_id_each() -> None:
    calls = tidy_tool_calls([call(id="a", name="f"), call(id="a", name="g"), call(id="b", name="h")], lambda: "x")
    assert [call["id"] for call in calls] == ["a", "call_x", "b"]


def test_flattened_calls_of_a_whole_answer_get_their_function() -> None:
    flat = {"id": "a", "name": "f", "arguments": {"x": 1}, "extra_content": 1}
    (tidied,) = tidy_tool_calls([flat], make_id=lambda: "x")
    function = {"name": "f", "arguments": '{"x":1}'}
    assert tidied == {"id": "a", "type": "function", "function": function, "extra_content": 1}
    custom = {"id": "b", "type": "custom", "custom": {"name": "run", "input": "ls"}, "name": "run"}
    assert tidy_tool_calls([custom], make_id=lambda: "x") == [custom]


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(TIDY)
