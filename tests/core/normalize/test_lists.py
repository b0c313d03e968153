"""Lists in deltas: numbered on from chunk to chunk, and never said twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.chunk import write_json
from sseproxy.core.normalize import normalize
from sseproxy.core.normalize.deltas import tidy_deltas
from sseproxy.core.sse import DONE, Event
from tests.core.normalize.making import chunk, deltas, through

A, B, C = ({"type": "url_citation", "url_citation": {"url": f"https://{name}"}} for name in "abc")


def lists_of(*lists: list[Any], name: str = "annotations") -> list[Any]:
    """What is sent of these lists of one choice, each in a chunk of its own."""
    return [delta.get(name) for delta in deltas(through(tidy_deltas, *(chunk({name: entries}) for entries in lists)))]


@pytest.mark.parametrize(
    ("lists", "sent"),
    [
        ([[A], [B, C]], [[(A, 0)], [(B, 1), (C, 2)]]),
        ([[], [A], [], [B]], [[], [(A, 0)], [], [(B, 1)]]),
        ([[A], [A, B], [A, B], [A, B, C]], [[(A, 0)], [(B, 1)], None, [(C, 2)]]),
        ([[A], [B], [A, B]], [[(A, 0)], [(B, 1)], None]),
        ([[A], [B], [A, C]], [[(A, 0)], [(B, 1)], [(A, 2), (C, 3)]]),
    ],
)
def test_what_is_new_in_a_list_is_sent_once_and_numbered_on(lists: list[Any], sent: list[Any]) -> None:
    assert lists_of(*lists) == [
        None if entries is None else [{**entry, "index": at} for entry, at in entries] for entries in sent
    ]


@pytest.mark.parametrize("name", ["thinking_blocks", "reasoning_details", "images"])
def test_pieces_that_equal_those_before_have_numbers_of_their_own(name: str) -> None:
    assert lists_of([{"text": "ha"}], [{"text": "ha"}], name=name) == [
        [{"text": "ha", "index": 0}],
        [{"text": "ha", "index": 1}],
    ]


@pytest.mark.parametrize("entries", [[{**A, "index": 1}], ["a"], [1], [A, "a"]])
def test_lists_that_are_numbered_or_not_of_objects_stay_as_they_are(entries: list[Any]) -> None:
    assert lists_of(entries, entries) == [entries, entries]


def test_chunks_that_differ_in_their_text_alone_are_numbered_too() -> None:
    envelope = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    bodies: list[dict[str, Any]] = [
        {**envelope, "choices": [{"index": 0, "delta": {"content": text, "images": [A]}, "finish_reason": None}]}
        for text in "klmn"
    ]
    raw = [*(Event(write_json(body)) for body in bodies), Event(DONE)]
    sent = [
        json.loads(event.data)["choices"][0]["delta"] for event in normalize(iter(raw), api="chat") if event.content
    ]
    assert [delta["images"] for delta in sent] == [[{**A, "index": at}] for at in range(4)]
