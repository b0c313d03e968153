"""What holds for every text, however the model and the network cut it: the client reads exactly that text."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.formats import Envelope, OpenAI, Plain, Text
from sseproxy.core.sse import Event

from .streams import canonical, shown, upstream_body, written

NEWLINES = ["[ENTRY]", "||", "\\n", "data: ", "<br><br"]
MARKS = ["[DONE]", "[ERROR] ", "data: ", "event: ", ": ", "id: 1", "\r", "\n", "\r\n", "|", "[", "\\", *NEWLINES]
pieces = st.lists(
    st.lists(st.sampled_from(MARKS) | st.text(st.characters(codec="utf-8"), max_size=6), max_size=4).map("".join),
    max_size=8,
)
cuts = st.lists(st.integers(0, 10**6), max_size=12)


def streamed(texts: list[str], ends: list[int], ascii_only: bool) -> Iterable[Event]:
    """The canonical stream of an upstream body that the network cut anywhere."""
    body = upstream_body(texts, ascii_only=ascii_only)
    places = sorted(end % (len(body) + 1) for end in ends)
    return canonical([], [body[start:end] for start, end in itertools.pairwise([0, *places, len(body)])])


def unified(text: str) -> str:
    return re.sub("\r\n|\r", "\n", text)


@given(texts=pieces, ends=cuts, ascii_only=st.booleans())
def test_text_of_several_lines_comes_back(texts: list[str], ends: list[int], ascii_only: bool) -> None:
    *events, last = shown(Text(), streamed(texts, ends, ascii_only))

    assert "".join(events) == unified("".join(texts))
    assert last == "[DONE]"
    assert not [event for event in events if "[DONE]" in event or "[ERROR]" in event]


@given(texts=pieces, ends=cuts, ascii_only=st.booleans(), newline=st.sampled_from(NEWLINES))
def test_text_with_a_mark_for_line_ends_comes_back(
    texts: list[str], ends: list[int], ascii_only: bool, newline: str
) -> None:
    """For a client that looks for the mark anywhere in an event, and for one that compares the whole event with it."""
    *events, last = shown(Text(newline=newline), streamed(texts, ends, ascii_only))

    assert "".join(event.replace(newline, "\n") for event in events) == unified("".join(texts))
    assert "".join("\n" if event == newline else event for event in events) == unified("".join(texts))
    assert last == "[DONE]"
    assert not [event for event in events if "[DONE]" in event or "[ERROR]" in event]


@given(texts=pieces, ends=cuts, ascii_only=st.booleans())
def test_envelopes_hold_the_text_and_the_last_one_all_of_it(
    texts: list[str], ends: list[int], ascii_only: bool
) -> None:
    *events, last = map(json.loads, shown(Envelope(), streamed(texts, ends, ascii_only)))

    assert "".join(event["message"] for event in events) == "".join(texts)
    assert json.loads(last["data"]) == {"assistantContent": "".join(texts)}


@given(texts=pieces, ends=cuts, ascii_only=st.booleans())
def test_plain_text_is_the_text(texts: list[str], ends: list[int], ascii_only: bool) -> None:
    assert written(Plain(), streamed(texts, ends, ascii_only)) == "".join(texts).encode()


@given(texts=pieces, ends=cuts, ascii_only=st.booleans())
def test_chunks_hold_the_text(texts: list[str], ends: list[int], ascii_only: bool) -> None:
    *events, last = shown(OpenAI(event="delta"), streamed(texts, ends, ascii_only))
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events]

    assert "".join(deltas) == "".join(texts)
    assert last == "[DONE]"


@given(st.lists(st.text(st.characters(), max_size=4), max_size=6))
def test_halves_of_surrogate_pairs_never_crash(texts: list[str]) -> None:
    bodies = [Event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()) for text in texts]

    for format in (Text(), Text(newline="[ENTRY]"), Envelope(), Plain()):
        written(format, bodies).decode("utf-8")
