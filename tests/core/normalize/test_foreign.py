"""Foreign shapes become chunks."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.foreign import adopt_foreign, adopt_whole, unwrap
from tests.core.normalize.making import assert_passes_flush_at_once, bodies, chunk, through


def adopt(body: dict[str, Any]) -> dict[str, Any]:
    (adopted,) = bodies(through(adopt_foreign, Chunk(body=body)))
    return adopted


def test_a_whole_answer_becomes_a_chunk_of_its_messages() -> None:
    message = {"role": "assistant", "content": "x"}
    adopted = adopt({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}})
    assert adopted["choices"] == [{"index": 0, "delta": message, "finish_reason": "stop"}]
    assert adopted["usage"] == {}


def test_a_whole_answer_is_finished_even_if_it_does_not_say_so() -> None:
    choice = {"message": {"content": "x"}, "finish_reason": None}
    assert adopt({"object": "chat.completion", "choices": [choice]})["choices"][0]["finish_reason"] == "stop"
    assert adopt({"object": "chat.completion.chunk", "choices": [choice]})["choices"][0]["finish_reason"] is None


def test_a_message_beside_a_delta_is_a_repetition() -> None:
    choice = {"delta": {"content": "x"}, "message": {"content": "all of it"}}
    assert adopt({"choices": [choice]})["choices"][0]["delta"] == {"content": "x"}


@pytest.mark.parametrize("text", ["", None, []])
def test_a_text_that_says_nothing_hides_no_message(text: Any) -> None:
    choice = {"text": text, "message": {"content": "x"}}
    assert adopt({"choices": [choice]})["choices"][0]["delta"] == {"content": "x"}


def test_a_message_beside_a_text_is_a_repetition() -> None:
    choice = {"text": "x", "message": {"content": "all of it"}}
    assert adopt({"choices": [choice]})["choices"] == [choice]


@pytest.mark.parametrize("field", ["delta", "message"])
def test_a_finish_and_usage_inside_the_delta_are_the_choice_s(field: str) -> None:
    inside = {"content": "x", "finish_reason": "length", "usage": {"prompt_tokens": 1}}
    placed = {"delta": {"content": "x"}, "finish_reason": "length", "usage": {"prompt_tokens": 1}}

    assert adopt({"choices": [{field: inside, "finish_reason": None}]})["choices"] == [placed]
    (choice,) = adopt({"choices": [{field: inside, "finish_reason": "stop", "usage": {}}]})["choices"]
    assert (choice["finish_reason"], choice["usage"]) == ("stop", {})


def test_ollama_chat_lines_become_chunks() -> None:
    adopted = adopt({
        "model": "m", "created_at": "2026-01-02T03:04:05.123456789Z", "done": True, "done_reason": "length",
        "message": {"role": "assistant", "content": "x", "thinking": "hm"}, "eval_count": 2, "total_duration": 9,
    })  # fmt: skip
    assert adopted == {
        "model": "m",
        "eval_count": 2,
        "total_duration": 9,
        "created": 1767323045,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "x", "reasoning_content": "hm"},
                "finish_reason": "length",
            }
        ],
    }


def test_ollama_generate_lines_become_chunks() -> None:
    adopted = adopt({"response": "x", "done": False})
    assert adopted["choices"] == [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]


@pytest.mark.parametrize("body", [{"content": "x", "done": False}, {"message": "x", "done": True}, {"done": True}])
def test_a_done_beside_a_text_in_another_place_makes_no_ollama_of_it(body: dict[str, Any]) -> None:
    """It was an answer without text that looked whole."""
    assert adopt(body) == adopt_whole(body) == body


def test_a_done_alone_ends_an_answer_that_has_begun() -> None:
    for first in (chunk({"content": "x"}), Chunk(body={"response": "x", "done": False})):
        _, last = bodies(through(adopt_foreign, first, Chunk(body={"done": True})))
        assert last["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("created", [None, 5, "yesterday", "9999999-01-01", ""])
def test_a_time_nobody_can_read_is_left_out(created: Any) -> None:
    assert "created" not in adopt({"response": "x", "done": False, "created_at": created})


@pytest.mark.parametrize(
    ("choices", "adopted"),
    [
        ({"delta": {}}, [{"delta": {}}]),
        ("x", []),
        (7, []),
        ([None, {"index": 1}], [{"index": 1, "delta": {}}]),
        ([{"delta": None, "message": {"content": "x"}}], [{"delta": {"content": "x"}}]),
    ],
)
def test_choices_become_a_list_of_objects(choices: Any, adopted: Any) -> None:
    assert adopt({"choices": choices})["choices"] == adopted


def test_ordinary_chunks_and_other_protocols_pass() -> None:
    event = chunk({"content": "x"})
    assert through(adopt_foreign, event) == [event] and event.steady
    assert adopt({"type": "message_start"}) == {"type": "message_start"}
    assert_passes_flush_at_once(adopt_foreign)


@pytest.mark.parametrize("name", ["result", "data", "response"])
def test_an_answer_inside_a_gateways_own_is_taken_out(name: str) -> None:
    assert unwrap({"success": True, name: {"choices": [1]}, "messages": []}) == {"choices": [1]}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "data": {"choices": [1]}},
        {"error": "e", "data": {"choices": []}},
        {"data": [1]},
        {"type": "response.completed", "response": {"output": []}},
    ],
)
def test_other_objects_are_left_as_they_are(body: dict[str, Any]) -> None:
    assert unwrap(body) is body


def test_whole_ollama_answers_get_a_message() -> None:
    answer = adopt_whole({"message": {"content": "x"}, "done": True})
    assert answer["choices"] == [{"index": 0, "finish_reason": "stop", "message": {"content": "x"}}]
