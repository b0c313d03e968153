"""Finish reasons: OpenAI's, one per choice, in a chunk of their own."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.finish import REASONS, finish_of, tidy_finish
from tests.core.normalize.making import assert_passes_flush_at_once, bodies, chunk, legacy, through

NOT_YET: list[Any] = [None, "", "null", False, [], 7, "FINISH_REASON_UNSPECIFIED", "FinishReason.NONE"]


@pytest.mark.parametrize(
    ("given", "finish"),
    [
        *((reason, reason) for reason in sorted(REASONS)),
        *((reason, "stop") for reason in ("eos", "eos_token", "end_turn", "stop_sequence", "STOP", "banana")),
        *(
            (reason, "length")
            for reason in (
                "max_tokens",
                "model_length",
                "MAX_TOKENS",
                "FinishReason.MAX_TOKENS",
                "FINISH_REASON_MAX_TOKENS",
                "insufficient_system_resource",
                "context_length_exceeded",
                "model_context_window_exceeded",
                "time_limit",
            )
        ),
        *((reason, "tool_calls") for reason in ("tool_use", "TOOL_CALLS")),
        *(
            (reason, "content_filter")
            for reason in ("content_filtered", "SAFETY", "content_filter: RECITATION", "IMAGE_SAFETY", "refusal")
        ),
        *((reason, None) for reason in NOT_YET),
    ],
)
def test_every_name_maps(given: Any, finish: str | None) -> None:
    assert finish_of(given, calls=False) == finish


@pytest.mark.parametrize(
    ("given", "finish"), [("stop", "tool_calls"), ("function_call", "tool_calls"), ("length", "length"), (None, None)]
)
def test_a_choice_with_tool_calls_cannot_just_stop(given: str | None, finish: str | None) -> None:
    assert finish_of(given, calls=True) == finish


def test_a_missing_finish_reason_becomes_null() -> None:
    event = Chunk(body={"choices": [{"index": 0, "delta": {"content": "x"}}]})
    assert bodies(through(tidy_finish, event))[0]["choices"][0]["finish_reason"] is None


def test_text_and_finish_are_parted() -> None:
    event = chunk({"content": "x"}, "stop", model="m", usage={"prompt_tokens": 1})
    event.body["choices"][0] |= {"logprobs": {"content": []}, "stop_reason": 5}
    text, end = bodies(through(tidy_finish, event))
    assert text == {
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None, "logprobs": {"content": []}}],
    }
    assert end == {
        "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 5}],
        "usage": {"prompt_tokens": 1},
    }


@pytest.mark.parametrize("piece", [chunk({"content": "x"}, "stop"), legacy("x", "stop")], ids=["chat", "completions"])
def test_the_tokens_of_a_text_stay_with_it(piece: Chunk) -> None:
    piece.body["choices"][0] |= {"token_ids": [5, 6], "stop_reason": None}  # vLLM's, with `return_token_ids`
    text, end = (body["choices"][0] for body in bodies(through(tidy_finish, piece)))
    assert text["token_ids"] == [5, 6] and "token_ids" not in end


def test_the_tokens_of_no_text_stay_with_the_finish() -> None:
    event = chunk({}, "stop")
    event.body["choices"][0]["token_ids"] = [2]
    (end,) = bodies(through(tidy_finish, event))
    assert end["choices"] == [{"index": 0, "delta": {}, "token_ids": [2], "finish_reason": "stop"}]


def test_empty_text_does_not_make_a_chunk() -> None:
    (end,) = bodies(through(tidy_finish, chunk({"content": "", "refusal": ""}, "stop")))
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]


def test_choices_that_end_together_are_parted_from_those_that_go_on() -> None:
    both = [*chunk({"content": "a"}, "stop").body["choices"], *chunk({"content": "b"}, index=1).body["choices"]]
    text, end = bodies(through(tidy_finish, Chunk(body={"choices": both})))
    assert [choice["index"] for choice in text["choices"]] == [0, 1]
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]


def test_a_renamed_reason_is_kept() -> None:
    (end,) = bodies(through(tidy_finish, chunk({}, "eos")))
    assert end["choices"][0]["native_finish_reason"] == "eos"


def test_calls_seen_before_count() -> None:
    out = bodies(through(tidy_finish, chunk({"tool_calls": [{}]}), chunk({}, "stop"), chunk({}, "stop", index=1)))
    assert [body["choices"][0]["finish_reason"] for body in out] == [None, "tool_calls", "stop"]


def test_legacy_finish_chunks_have_empty_text() -> None:
    text, end = bodies(through(tidy_finish, legacy("x", "stop")))
    assert text["choices"][0]["text"] == "x"
    assert end["choices"] == [{"text": "", "index": 0, "finish_reason": "stop", "logprobs": None}]


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(tidy_finish)
