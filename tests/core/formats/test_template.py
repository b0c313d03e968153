"""core/formats/template: JSON with placeholders."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.formats import Template

NASTY = 'a"b\\c\n\r\u2028data: {text} 😀'


def fill(template: Any, **values: str) -> Any:
    return json.loads(Template(template, ("text", "id")).render(values))


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "x", "", [], {}, [1, [2]], {"a": {"b": None}}, 10**30])
def test_any_json_is_a_template(value: Any) -> None:
    assert fill(value) == value


def test_placeholders_are_filled_wherever_a_string_stands() -> None:
    template = {"a": "{text}", "b": ["<{id}>", "{text}{text}"], "c": "{", "d": "{}", "e": "{ text }"}

    assert fill(template, text=NASTY, id="7") == {
        "a": NASTY, "b": ["<7>", NASTY * 2], "c": "{", "d": "{}", "e": "{ text }"}  # fmt: skip


def test_a_value_stays_a_string_and_is_no_template_itself() -> None:
    assert fill("{text}", text="null") == "null"
    assert fill("{text}", text="{id}", id="7") == "{id}"


def test_json_inside_a_string_is_json_again() -> None:
    filled = fill({"data": {"$json": {"answer": "{text}", "deeper": {"$json": ["{text}", 1]}}}}, text=NASTY)
    inside = json.loads(filled["data"])

    assert inside["answer"] == NASTY
    assert json.loads(inside["deeper"]) == [NASTY, 1]


def test_the_json_is_one_line_that_survives_naive_readers() -> None:
    written = Template({"a": "data: {text}", "b": {"$json": "{text}"}}, ("text",)).render({"text": NASTY})

    assert len(written.decode().splitlines()) == 1
    assert b"data: " not in written


@given(text=st.text(st.characters(codec="utf-8")), depth=st.integers(0, 4))
def test_any_text_comes_back_from_any_depth(text: str, depth: int) -> None:
    template: Any = "<{text}>"
    for _ in range(depth):
        template = {"$json": template}
    value = fill(template, text=text)
    for _ in range(depth):
        value = json.loads(value)

    assert value == f"<{text}>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{txt}", r"unknown placeholder \{txt\}; known here: \{text\}, \{id\}"),
        ({"a": [{"$json": "{answer}"}]}, r"unknown placeholder \{answer\}"),
        ({"$json": 1, "a": 2}, r"\$json stands alone"),
        ({"{text}": 1}, "only values can"),
        ({1: 2}, "the key 1 must be text"),
        (float("nan"), "cannot be written as JSON"),
        ("\ud83d", "cannot be written as JSON"),
        (datetime.date(2026, 1, 1), "a date is no JSON; put it in quotes"),
        ({"data": '{"answer": "{text}"}'}, r"write it as a mapping under \$json"),
    ],
)
def test_what_is_no_template_is_refused_in_words(template: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template(template, ("text", "id"))


def test_it_says_which_placeholders_it_has() -> None:
    assert Template({"a": {"$json": "{text}"}}, ("text", "id")).names == {"text"}
