"""One chunk between the transforms, and the shortcut for plain ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.chunk import error_event, guard, read_json, rewrite, text_of, texts_by_choice, write_json
from sseproxy.core.failure import Failure
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import Event


def plain(text: str, **fields: Any) -> bytes:
    chunk = {"id": "a", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **fields}
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()


def taught(*pairs: tuple[bytes, bytes]) -> Shapes:
    shapes = Shapes()
    for raw, out in pairs:
        shapes.pause()
        shapes.learn(raw, Event(out, read=True, content="Hello"))
    return shapes


@pytest.mark.parametrize("text", ["x", "Hello", ' "quoted" \\ ', "你好 👩‍🚀", "\n\t", "data", "a,b:{}[]"])
def test_a_known_shape_gives_the_same_as_the_long_way(text: str) -> None:
    event = taught((plain("Hello"), plain("Hello"))).match(plain(text))
    assert event is not None
    assert (event.data, event.content, event.hidden, event.read) == (plain(text), text, "", True)


def test_what_was_repaired_once_is_repaired_again() -> None:
    shapes = taught((plain("Hello", usage=None), plain("Hello")))
    event = shapes.match(plain("x", usage=None))
    assert event is not None and event.data == plain("x")


@pytest.mark.parametrize(
    "data",
    [
        plain(""),
        plain("x", more=1),
        plain("x").replace(b'"a"', b'"b"'),
        plain("x").replace(b"null", b'"stop"'),
        plain("x").replace(b'"x"', b"null"),
        plain("x").replace(b'"x"', b'"x","refusal":"y"'),
        plain("x").replace(b'"x"', b'"\\ud83d"'),
        plain("x").replace(b'"x"', b'"\t"'),
        plain("x").replace(b'"x"', b' "x"'),
        plain("x").replace(b'"x"', b'["x"]'),
        plain("x")[:-1],
        b"",
        b"[DONE]",
    ],
)
def test_anything_else_goes_the_long_way(data: bytes) -> None:
    assert taught((plain("Hello"), plain("Hello"))).match(data) is None


def test_traps_for_naive_readers_are_escaped_on_the_short_way_too() -> None:
    event = taught((plain("Hello"), plain("Hello"))).match(plain("data: x\u2028"))
    assert event is not None
    assert b"data: " not in event.data and event.data.isascii()
    assert json.loads(event.data) == json.loads(plain("data: x\u2028"))


def test_padding_may_differ_from_chunk_to_chunk() -> None:
    shapes = taught((plain("Hello", usage=None, obfuscation="abc"), plain("Hello")))
    event = shapes.match(plain("x", usage=None, obfuscation="defghi"))
    assert event is not None and event.data == plain("x")
    assert shapes.match(plain("x", usage=None, obfuscation='"')) is None
    assert shapes.match(plain("x", usage=None, obfuscation="a", more=1)) is None


def test_padding_that_is_passed_on_may_not_differ() -> None:
    shapes = taught((plain("Hello", obfuscation="abc"), plain("Hello", obfuscation="abc")))
    assert shapes.match(plain("x", obfuscation="def")) is None


def test_a_text_that_stands_twice_teaches_nothing() -> None:
    assert taught((plain("Hello", copy="Hello"), plain("Hello"))).match(plain("x", copy="Hello")) is None


def test_a_text_that_stands_elsewhere_teaches_nothing() -> None:
    escaped = plain("@", copy="Hello").replace(b"@", b"\\u0048ello")
    assert taught((escaped, plain("Hello"))).match(plain("@", copy="x").replace(b"@", b"\\u0048ello")) is None


def test_a_text_put_together_from_several_teaches_nothing() -> None:
    halves = [{"index": number, "delta": {"content": half}} for number, half in enumerate(("Hel", "lo"))]
    data = json.dumps({"choices": halves, "whole": "Hello"}, separators=(",", ":")).encode()
    assert taught((data, data)).match(data) is None


def test_nothing_matches_while_a_chunk_is_on_its_way_or_after_the_state_changed() -> None:
    shapes = taught((plain("Hello"), plain("Hello")))
    shapes.pause()
    assert shapes.match(plain("x")) is None
    shapes.learn(plain("1"), Event(plain("1"), read=True, content="1"))
    assert shapes.match(plain("x")) is not None
    shapes.forget()
    assert shapes.match(plain("x")) is None


def test_several_shapes_are_known_at_once_and_the_oldest_gives_way() -> None:
    ways = [plain("Hello", way=number) for number in range(10)]
    shapes = taught(*[(way, way) for way in ways])
    known = [shapes.match(plain("x", way=number)) is not None for number in range(10)]
    assert known == [False] * 2 + [True] * 8


def test_shapes_that_never_come_again_are_not_learnt_for_ever() -> None:
    shapes = taught(*[(plain("Hello", way=number), plain("Hello", way=number)) for number in range(100)])
    assert shapes.match(plain("x", way=99)) is None


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'{"a":NaN,"b":-Infinity}', {"a": None, "b": None}),
        (b'{"a":"\t"}', {"a": "\t"}),
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)
def test_json_is_read_as_servers_write_it(data: bytes, value: Any) -> None:
    assert read_json(data) == value
    assert b"\n" not in write_json(value)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":1}x', b"{'a':1}", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(data)


@pytest.mark.parametrize("value", ["data: x", "data:  x", "a\u2028b\u2029c\u0085d", "\ud83d", 7.5e-07, 10**30])
def test_written_json_survives_naive_readers_and_keeps_its_value(value: Any) -> None:
    written = write_json({"a": value})
    assert json.loads(written) == {"a": value}
    assert b"data: " not in written and len(written.decode().splitlines()) == 1


def test_guard_leaves_ordinary_bytes_alone() -> None:
    assert guard('{"ü":"data:x"}'.encode()) == '{"ü":"data:x"}'.encode()


@pytest.mark.parametrize(
    ("raw", "body", "data"),
    [
        (b'{"a": 1.50}', {"a": 1.5}, b'{"a": 1.50}'),
        (b'{"a":"\\u00fc"}', {"a": "ü"}, b'{"a":"\\u00fc"}'),
        (b'{"a":1}', {"a": 2}, b'{"a":2}'),
        (b'{"a":1}', {"a": True}, b'{"a":true}'),
        (b'{"a":1.0}', {"a": 1}, b'{"a":1}'),
        (b'{"b":1,"a":2}', {"a": 2, "b": 1}, b'{"a":2,"b":1}'),
        (b'{\n"a":1}', {"a": 1}, b'{"a":1}'),
        (b'{\r"a":1}', {"a": 1}, b'{"a":1}'),
        (b'{ "a":1}', {"a": True}, b'{"a":true}'),
        (b'{"b":1, "a":2}', {"a": 2, "b": 1}, b'{"a":2,"b":1}'),
        (b'{"a":NaN}', {"a": None}, b'{"a":null}'),
        (b"", {"a": 1}, b'{"a":1}'),
    ],
)
def test_bytes_that_say_the_same_are_kept(raw: bytes, body: dict[str, Any], data: bytes) -> None:
    assert rewrite(raw, body) == data


def test_mirrored_text_counts_once_and_calls_count_with_their_names() -> None:
    delta = {
        "content": "a",
        "reasoning": "b",
        "reasoning_content": "b",
        "refusal": "c",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}, {"custom": {"input": "i"}}],
        "function_call": {"name": "g"},
    }
    assert text_of({"choices": [{"delta": delta}, {"text": "t"}, {"delta": None}]}) == ("at", "bcf{}ig")


def test_an_error_event_carries_its_failure() -> None:
    failure = Failure("m", status=418, type="t", code="c", param="p")
    event = error_event(failure)
    assert event.error is failure and event.read
    assert json.loads(event.data) == {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}


def test_a_call_that_is_told_in_the_old_field_too_counts_once() -> None:
    function = {"name": "find", "arguments": '{"q":1}'}
    delta = {"tool_calls": [{"index": 0, "function": function}], "function_call": function}

    assert text_of({"choices": [{"delta": delta}]}) == ("", 'find{"q":1}')


@pytest.mark.parametrize(
    "thoughts",
    [
        {"reasoning_content": "a", "reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]},
        {"reasoning_content": "", "reasoning": "a"},
        {"reasoning": "a"},
        {"thinking": "a"},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}, {"data": "encrypted"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "s"}, {"data": "redacted"}]},
        {"thinking_blocks": [{"thinking": "a"}], "reasoning_content": "a", "provider_specific_fields": {"n": "m"}},
    ],
)
def test_thoughts_count_once_by_whatever_names_they_are_told(thoughts: dict[str, Any]) -> None:
    assert text_of({"choices": [{"delta": {"role": "assistant", **thoughts}}]}) == ("", "a")
    assert text_of({"choices": [{"text": "t", "index": 0, **thoughts}]}) == ("t", "a")


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": [{"type": "url_citation", "url_citation": {"title": "t", "content": "c"}}]},
        {"citations": ["https://a"], "search_results": [{"title": "t"}], "images": [{"image_url": {"url": "data:"}}]},
        {"extra_content": {"google": {"thought": True, "thought_signature": "s"}}},
        {"reasoning_signature": "s", "reasoning_details": [{"type": "reasoning.encrypted", "data": "d"}]},
        {"provider_specific_fields": {"citations": [{"cited_text": "c"}]}, "token_ids": [1, 2]},
        {"executed_tools": [{"index": 0, "output": "o", "search_results": {"results": [{"content": "c"}]}}, "x"]},
        {"executed_tools": "x", "thinking_blocks": {}, "reasoning_text": True},
    ],
)
def test_what_the_model_did_not_write_does_not_count(metadata: dict[str, Any]) -> None:
    assert text_of({"choices": [{"delta": metadata}]}) == ("", "")


def test_what_the_model_gave_the_vendors_own_tools_counts_as_a_call_does() -> None:
    tool = {"index": 0, "type": "search", "name": "f", "arguments": '{"query":"q"}', "output": "results"}

    assert text_of({"choices": [{"delta": {"executed_tools": [tool]}}]}) == ("", 'f{"query":"q"}')


@pytest.mark.parametrize(
    ("audio", "hidden"), [({"id": "a", "transcript": "b", "data": "AAAA"}, "b"), ({"transcript": None}, ""), ("b", "")]
)
def test_what_is_spoken_counts_by_its_words(audio: Any, hidden: str) -> None:
    assert text_of({"choices": [{"delta": {"content": None, "audio": audio}}]}) == ("", hidden)


def test_tool_calls_that_are_no_list_add_nothing() -> None:
    assert text_of({"choices": [{"delta": {"content": "a", "tool_calls": True}}]}) == ("a", "")


@pytest.mark.parametrize(
    ("choices", "texts"),
    [
        ([], ()),
        ([{"index": 0, "delta": {"content": "a"}}], ()),
        ([{"delta": {"content": "a"}}], ()),
        ([{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": ""}}], ()),
        ([{"index": 1, "delta": {}}], ()),
        ([{"index": 1, "delta": {"content": "a", "reasoning_content": "b"}}], ((1, "ab"),)),
        ([{"index": 1, "text": "a"}, {"index": 0, "text": "b"}], ((1, "a"), (0, "b"))),
        ([{"index": "x", "text": "a"}, {"index": [], "text": "b"}], ()),
    ],
)
def test_texts_are_told_apart_by_their_choices_where_not_all_are_of_the_first(
    choices: list[dict[str, Any]], texts: Any
) -> None:
    assert texts_by_choice({"choices": choices}) == texts


def test_a_shape_belongs_to_its_choice_and_is_passed_on_alone_only_if_that_is_the_first() -> None:
    shapes = Shapes()
    second = plain("Hello").replace(b'"index":0', b'"index":1')
    shapes.learn(second, Event(second, read=True, content="Hello", by_choice=((1, "Hello"),)))
    shapes.learn(plain("Hello"), Event(plain("Hello"), read=True, content="Hello"))

    event = shapes.match(second)

    assert event == Event(second, read=True, content="Hello", by_choice=((1, "Hello"),))
    assert shapes.match(second, room=100) is None
    assert shapes.match(plain("x"), room=100) == Event(plain("x"), read=True, content="x")


def test_texts_of_two_choices_that_are_one_text_together_make_no_shape() -> None:
    shapes = Shapes()
    shapes.learn(plain("ab"), Event(plain("ab"), read=True, content="ab", by_choice=((0, "a"), (1, "b"))))

    assert shapes.match(plain("ab")) is None
