"""Whole messages in a stream say nothing twice and lose nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.messages import settle_messages
from sseproxy.core.shapes import Shapes
from tests.core.normalize.making import assert_passes_flush_at_once, bodies, chunk, through

CALLS = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def settle(*events: Chunk, sent: int = 0, choices: int = 1) -> dict[str, Any]:
    """The choice of the last chunk."""
    shapes = Shapes()
    shapes.sent = sent
    choice = bodies(through(partial(settle_messages, shapes=shapes, choices=choices), *events))[-1]["choices"][0]
    assert isinstance(choice, dict)
    return choice


def message(delta: Any = ..., index: int = 0, **fields: Any) -> Chunk:
    beside = {} if delta is ... else {"delta": delta}
    choice = {"index": index, **beside, "message": {"role": "assistant", **fields}, "finish_reason": "stop"}
    return Chunk(body={"object": "chat.completion", "choices": [choice]})


@pytest.mark.parametrize("empty", [{}, {"content": ""}, {"content": None, "x": []}])
def test_a_message_beside_an_empty_delta_is_adopted_where_nothing_was_streamed(empty: dict[str, Any]) -> None:
    choice = settle(chunk({"role": "assistant"}), message(empty, content=None, tool_calls=CALLS))
    assert "delta" not in choice and choice["message"]["tool_calls"] == CALLS


def test_a_message_beside_a_role_alone_is_adopted_with_the_finish_and_left_before() -> None:
    """So Perplexity answers whole; while it streams, each message repeats what was said."""
    role = {"role": "assistant", "content": ""}
    choice = settle(message(role, content="x"))
    assert "delta" not in choice and choice["message"]["content"] == "x"
    first = message(role, content="x")
    first.body["choices"][0]["finish_reason"] = None
    assert settle(first)["delta"] == role


def test_and_left_alone_where_something_was() -> None:
    assert settle(chunk({"content": "x"}), message({}, content="x y"))["delta"] == {}
    assert settle(message({}, content="x"), message({}, content="x"))["delta"] == {}


@pytest.mark.parametrize("delta", [{}, {"role": "assistant", "content": ""}])
def test_calls_beside_an_empty_delta_with_the_finish_are_kept_where_none_were_streamed(delta: dict[str, Any]) -> None:
    def late() -> Chunk:
        return message(delta, content="x", tool_calls=CALLS)

    assert settle(chunk({"content": "x"}), late())["message"] == {"tool_calls": CALLS}
    assert settle(chunk({"tool_calls": CALLS}), late())["delta"] == delta


def test_a_message_that_repeats_what_was_streamed_is_emptied_and_its_finish_kept() -> None:
    choice = settle(chunk({"content": "Hel"}), message(content="Hello"), sent=5)
    assert (choice["message"], choice["finish_reason"]) == ({}, "stop")


def test_what_was_streamed_as_text_was_streamed() -> None:
    text = Chunk(body={"choices": [{"index": 0, "text": "Hel"}]})
    assert settle(text, message(content="Hello"), sent=5)["message"] == {}


def test_calls_that_were_not_streamed_are_kept() -> None:
    assert settle(chunk({"content": "x"}), message(content="x", tool_calls=CALLS), sent=1)["message"] == {
        "tool_calls": CALLS
    }
    called = [chunk({"content": "x"}), chunk({"tool_calls": CALLS})]
    assert settle(*called, message(content="x", tool_calls=CALLS), sent=1)["message"] == {}


@pytest.mark.parametrize("text", ["Hello!", "Hallo", "H"])
def test_other_text_is_text(text: str) -> None:
    assert settle(chunk({"content": "Hel"}), message(content=text), sent=5)["message"]["content"] == text


def test_a_stream_of_messages_is_one_of_pieces() -> None:
    assert settle(message(content="ha"), message(content="ha"), sent=2)["message"]["content"] == "ha"


def test_with_several_choices_no_repetition_is_certain() -> None:
    assert settle(chunk({"content": "x"}), message(content="x"), sent=1, choices=2)["message"]["content"] == "x"


def test_what_is_no_choice_passes() -> None:
    events = [Chunk(body={"choices": ["x", None]}), Chunk(body={"choices": None}), Chunk(body={})]
    assert bodies(through(partial(settle_messages, shapes=Shapes()), *events)) == bodies(events)


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(partial(settle_messages, shapes=Shapes()))
