"""The envelope is one for the whole stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.normalize.envelope import Identity, unify_envelope
from sseproxy.core.sse import Event
from tests.core.normalize.making import END, assert_passes_flush_at_once, bodies, chunk, through

GIVEN: dict[str, Any] = {"id": "a", "object": "chat.completion.chunk", "created": 5, "model": "m"}


def identity() -> Identity:
    return Identity("chat", "asked", make_id=lambda: "made", now=lambda: 9.7)


def unify(events: Iterator[Event]) -> Iterator[Event]:
    return unify_envelope(events, identity())


def envelopes(*events: Event) -> list[dict[str, Any]]:
    return [{name: body[name] for name in GIVEN} for body in bodies(through(unify, *events))]


def test_the_first_chunk_fixes_it() -> None:
    assert envelopes(chunk(**GIVEN), chunk(**GIVEN | {"id": "b", "created": 6, "model": "n"})) == [GIVEN, GIVEN]


def test_what_nobody_says_is_made_up_once() -> None:
    made = {"id": "chatcmpl-made", "object": "chat.completion.chunk", "created": 9, "model": "asked"}
    assert envelopes(chunk(), chunk(**GIVEN)) == [made, made]


def test_empty_values_say_nothing() -> None:
    empty: dict[str, Any] = {"id": "", "object": "", "created": 0, "model": ""}
    assert envelopes(Chunk(body={**empty, "choices": []}), chunk(**GIVEN), chunk(**empty)) == [GIVEN, GIVEN]


def test_the_object_is_always_the_one_of_the_api() -> None:
    assert envelopes(chunk(**GIVEN | {"object": "chat.completion.done"})) == [GIVEN]
    made = Identity("completions", "", make_id=lambda: "x", now=lambda: 1)
    body: dict[str, Any] = {}
    made.stamp(body)
    assert body == {"id": "cmpl-x", "object": "text_completion", "created": 1, "model": "unknown"}


def test_created_is_read_from_strings_and_floats_and_never_crashes() -> None:
    for value, created in [("7", 7), (7.9, 7), (-1, 9), (float("inf"), 9), (None, 9), ([], 9), (10**30, 9)]:
        assert envelopes(chunk(created=value))[0]["created"] == created


def test_what_chunks_without_choices_carry_goes_out_with_the_next() -> None:
    first = Chunk(body={"choices": [], "prompt_filter_results": [1]})
    (body,) = bodies(through(unify, first, chunk(**GIVEN)))
    assert body["prompt_filter_results"] == [1]


def test_usage_chunks_pass_without_choices() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    (body,) = bodies(through(unify, Chunk(body={"usage": usage})))
    assert body == {"usage": usage, "choices": []}


def test_strangers_are_counted_and_are_no_answer() -> None:
    who = identity()
    assert list(unify_envelope(iter([Chunk(body={"candidates": []}), END]), who)) == [END]
    assert who.strangers == 1


def test_what_events_that_are_no_chunks_carry_goes_out_with_the_next() -> None:
    _, body = bodies(through(unify, chunk(**GIVEN), Chunk(body={"warning": "w", "id": "x"}), chunk(**GIVEN)))
    assert body["warning"] == "w" and body["id"] == GIVEN["id"]


@pytest.mark.parametrize("after", [[END], [IDLE], [], [Chunk(body={"choices": [], "usage": {"prompt_tokens": 1}})]])
def test_what_has_no_next_chunk_to_go_with_has_one_of_its_own(after: list[Event]) -> None:
    late = Chunk(body={"choices": [], "citations": ["u"]})
    _, own, *rest = bodies(through(unify, chunk(**GIVEN), late, *after))

    assert own == {**GIVEN, "choices": [{"index": 0, "delta": {}, "finish_reason": None}], "citations": ["u"]}
    assert all("citations" not in body for body in rest)


def test_padding_and_null_errors_are_dropped_and_extras_kept() -> None:
    (body,) = bodies(through(unify, chunk(**GIVEN, obfuscation="xyz", error=None, provider="p")))
    assert not {"obfuscation", "error"} & set(body)
    assert body["provider"] == "p"


def test_an_envelope_that_is_right_keeps_its_order_and_is_steady() -> None:
    event = chunk()
    event.body = {"model": "m", "choices": event.body["choices"], **GIVEN}
    first, second = through(unify, chunk(**GIVEN), event)
    assert list(bodies([second])[0])[:2] == ["model", "choices"]
    assert isinstance(first, Chunk) and not first.steady
    assert isinstance(second, Chunk) and second.steady


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(unify)
