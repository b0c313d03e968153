"""The shortcut around the transforms keeps order and state."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.normalize import Plain, events_of, normalize
from sseproxy.core.normalize.end import HEARTBEATS_FOR_USAGE
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event
from sseproxy.core.usage_so_far import UsageOfBeginning


def chunk(text: str, **fields: Any) -> Event:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}
    return Event(json.dumps(body, separators=(",", ":")).encode())


def taught() -> Shapes:
    shapes = Shapes()
    shapes.learn(chunk("Hello").data, Event(chunk("Hello").data, read=True, content="Hello"))
    return shapes


def test_plain_chunks_go_around_and_others_through_in_order() -> None:
    seen: list[Event] = []

    def spy(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            seen.append(event)
            yield event

    events = [chunk("a"), chunk("b", more=1), chunk("c"), FLUSH]
    out = list(shorten(iter(events), taught(), spy))
    assert [event.data for event in out] == [event.data for event in events]
    assert [event for event in seen if event is not FLUSH] == [events[1]]


def test_a_shape_is_learnt_for_each_tick_of_a_clock_however_long_the_answer_takes() -> None:
    shapes = Shapes()
    for second in range(200):
        first = chunk("Hello", created=second)
        shapes.learn(first.data, Event(first.data, read=True, content="Hello"))
        assert shapes.match(chunk("b", created=second).data) is not None


def test_each_event_is_out_before_the_next_is_asked_for() -> None:
    asked = 0

    def source() -> Iterator[Event]:
        nonlocal asked
        for event in (chunk("", more=0), FLUSH, chunk("a"), FLUSH, chunk("b", more=1), FLUSH):
            asked += 1
            yield event

    out = shorten(source(), taught(), partial(map, lambda event: event))
    for number in range(1, 7):
        next(out)
        assert asked == number


def test_every_flush_comes_out_once_and_goes_through_only_while_a_chunk_is_on_its_way() -> None:
    shapes = taught()
    paused: list[bool] = []

    def pause_and_spy(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event is FLUSH:
                paused.append(shapes.paused)
            elif json.loads(event.data).get("more"):
                shapes.pause()
            yield event

    events = [FLUSH, chunk("a"), FLUSH, chunk("b", more=1), FLUSH, FLUSH, chunk("c"), FLUSH]
    out = list(shorten(iter(events), shapes, pause_and_spy))
    assert [(event is FLUSH, event.data) for event in out] == [(event is FLUSH, event.data) for event in events]
    assert paused == [True, True, True]


def test_transforms_that_end_end_the_stream() -> None:
    def stop(events: Iterator[Event]) -> Iterator[Event]:
        yield next(events)

    assert len(list(shorten(iter([chunk("b", more=1)] * 5), taught(), stop))) == 1


def test_what_is_held_comes_out_at_the_end() -> None:
    def hold(events: Iterator[Event]) -> Iterator[Event]:
        held: list[Event] = []
        for event in events:
            if event is FLUSH:
                yield event
            else:
                held.append(event)
        yield from held

    out = list(shorten(iter([chunk("b", more=1), FLUSH, chunk("c", more=2)]), Shapes(), hold))
    assert [event is FLUSH for event in out] == [True, False, False]


@pytest.mark.parametrize("late", ["a", "b" * 50])
def test_text_after_the_end_mark_is_no_plain_chunk(late: str) -> None:
    body = b"".join(
        b"data: " + event.data + b"\n\n"
        for event in [*map(chunk, "abcd"), Event(DONE), chunk(late), chunk(late), chunk(late)]
    )
    events = [event for event in normalize(events_of([body]), api="chat") if event is not FLUSH]
    assert "".join(event.content for event in events) == "abcd"
    assert events[-1].data == DONE


def test_the_short_and_the_long_way_give_the_same() -> None:
    texts = ["", "x", "Hello", "é", "data: ", "\u2028", '"', "\\", "\n", "😀", "a b"] * 3
    plain = [chunk(text) for text in texts]
    gaps = [b'"choices":' + b" " * number for number in range(1, len(plain) + 1)]
    spaced = [Event(event.data.replace(b'"choices":', gap)) for event, gap in zip(plain, gaps, strict=True)]
    short = list(normalize(iter([*plain, Event(DONE)]), api="chat"))
    long = list(normalize(iter([*spaced, Event(DONE)]), api="chat"))
    assert [json.loads(e.data) for e in short[:-1]] == [json.loads(e.data) for e in long[:-1]]
    assert [(e.content, e.hidden, e.finish) for e in short] == [(e.content, e.hidden, e.finish) for e in long]


Texts = Callable[[str], dict[str, Any]]
# How servers say one text: vLLM by one name, then by two; Ollama with its role; OpenRouter with details beside it.
DELTAS: dict[str, Texts] = {
    "content": lambda text: {"content": text},
    "reasoning": lambda text: {"reasoning": text},
    "both names": lambda text: {"reasoning": text, "reasoning_content": text},
    "Ollama's": lambda text: {"role": "assistant", "content": "", "reasoning": text},
    "OpenRouter's": lambda text: {
        "role": "assistant",
        "content": "",
        "reasoning": text,
        "reasoning_details": [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}],
    },
    "thinking": lambda text: {"thinking": text},
    "a source beside it": lambda text: {"content": text, "sources": [{"index": 0, "text": text}]},
    "another beside it": lambda text: {"content": text, "name": text},
    "its own role": lambda text: {"role": text, "content": text},
    "Together's": lambda text: {"token_id": len(text) * 7, "role": "assistant", "content": text, "tool_calls": None},
}


def counted(output: int, **more: Any) -> dict[str, Any]:
    """Usage as vLLM has it in each chunk."""
    return {"usage": {"prompt_tokens": 5, "total_tokens": 5 + output, "completion_tokens": output, **more}}


def timed(output: int) -> dict[str, Any]:
    """llama.cpp's timings."""
    return {"timings": {"cache_n": 1, "prompt_n": 4, "predicted_n": output, "predicted_ms": output * 1.7}}


def spelt(delta: dict[str, Any], *, spaced: bool, **fields: Any) -> Event:
    body = {**json.loads(chunk("").data), **fields}
    body["choices"][0]["delta"] = delta
    return Event(json.dumps(body, separators=None if spaced else (",", ":"), ensure_ascii=False).encode())


def as_none_is_known(events: list[Event]) -> list[Event]:
    """The same events, none of which has the shape of another."""
    return [Event(event.data.replace(b"{", b"{" + b" " * at, 1)) for at, event in enumerate(events, 1)]


def outcome(events: list[Event]) -> list[Any]:
    made = normalize(iter(events), api="chat", make_id=lambda: "i", now=lambda: 1)
    out = [event for event in made if event is not FLUSH]
    datas = [e.data if e.data == DONE else e.error is not None or json.loads(e.data) for e in out]
    told = [None, *itertools.accumulate((e.usage for e in out), lambda known, usage: usage or known)]
    again = [e.usage is not None and e.usage is last for e, last in zip(out, told, strict=False)]  # to the meter
    return [datas, again, *[(e.content, e.hidden, e.finish, e.by_choice, type(e.usage), e.usage) for e in out]]


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("name", ["content", "reasoning", "both names", "Ollama's", "OpenRouter's", "thinking"])
def test_a_text_goes_around_wherever_it_stands_and_however_often(name: str, spaced: bool) -> None:
    events = [spelt(DELTAS[name](text), spaced=spaced) for text in ("Hello", " wor", "ld", ' é "!"')]
    shapes = Shapes()
    _, _, learnt, *_ = normalize(iter([*events[:3], Event(DONE)]), api="chat")
    shapes.learn(events[2].data, learnt)

    passed = shapes.match(events[3].data)

    assert passed is not None and passed.content + passed.hidden == ' é "!"'
    other = events[3].data.replace(b"!", b"?", 1)
    assert b"!" not in other or shapes.match(other) is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("content", counted),
        ("reasoning", counted),
        ("content", lambda output: counted(output, total_tokens=9 + output)),
        ("content", timed),
        ("content", lambda output: {**timed(output), **counted(output)}),
        ("Together's", lambda output: {"usage": None}),
    ],
)
def test_what_counts_on_from_chunk_to_chunk_goes_around_and_says_its_usage(
    name: str, fields: Callable[[int], dict[str, Any]]
) -> None:
    texts = ["Hello", " wor", "ld", " and", " so", " on"]
    events = [spelt(DELTAS[name](text), spaced=False, **fields(at)) for at, text in enumerate(texts, 1)]
    plain = Plain()
    out = normalize(iter(events), api="chat", plain=plain)
    told = [next(out) for _ in range(4)]

    assert plain.shapes is not None
    passed = plain.shapes.match(events[4].data)

    assert passed is not None and passed.content + passed.hidden == " so"
    assert type(passed.usage) is type(told[-1].usage)
    if passed.usage is not None:
        assert passed.usage.output_tokens == told[-1].usage.output_tokens + 1  # type: ignore[union-attr]
        assert plain.shapes.match(events[5].data, 1000) is None  # who asks like this hears of texts alone
    assert outcome([*events, Event(DONE)]) == outcome([*as_none_is_known(events), Event(DONE)])


def test_usage_that_moves_without_text_leaves_the_shape_known() -> None:
    running = [spelt({"content": f"{n}." if n % 2 else ""}, spaced=False, **counted(n)) for n in range(1, 10)]
    plain = Plain()
    out = normalize(iter(running), api="chat", plain=plain)
    told = [next(out) for _ in range(8)]

    assert told[-1].content == "" and plain.shapes is not None
    assert plain.shapes.match(running[8].data) is not None


@pytest.mark.parametrize("last", [[Event(DONE)], [Event(b"{")], []], ids=["done", "broken", "cut"])
def test_the_usage_at_the_end_is_the_last_that_went_around(last: list[Event]) -> None:
    running = [spelt({"content": "." * output}, spaced=False, **counted(output)) for output in range(1, 9)]
    for events in (running, [*running, chunk("!"), *running], [*running, chunk("!"), chunk("?")]):
        assert outcome([*events, *last]) == outcome([*as_none_is_known(events), *last])


@pytest.mark.parametrize("text", ["!", ""])
def test_what_one_usage_alone_said_is_still_known_where_the_next_says_the_same_counts(text: str) -> None:
    running = [spelt({"content": f"{output}."}, spaced=False, **counted(output)) for output in range(1, 5)]
    dear = spelt({"content": text}, spaced=False, **counted(5, cost=0.1))
    later = [spelt({"content": "?"}, spaced=False, **counted(output)) for output in (5, 6, 7)]
    events = [*running, dear, *later, Event(DONE)]
    assert outcome(events) == outcome([*as_none_is_known(events[:-1]), *events[-1:]])


def test_usage_that_came_before_more_text_is_that_of_a_beginning_though_the_text_goes_around() -> None:
    told = Event(json.dumps({"choices": [], **counted(9)}).encode())
    events = [*map(chunk, ("Hello", " wor", "ld", "!")), told, chunk(""), chunk(" and"), chunk(" so"), Event(b"{")]
    assert outcome(events) == outcome(as_none_is_known(events[:-1]) + events[-1:])
    assert outcome(events)[-1][-2] is UsageOfBeginning


def test_heartbeats_are_counted_from_the_last_text_though_it_goes_around() -> None:
    ended = spelt({}, spaced=False, choices=[{"index": 0, "finish_reason": "stop"}])
    quiet = [HEARTBEAT] * (HEARTBEATS_FOR_USAGE - 1)
    events = [ended, *map(chunk, ("Hello", " wor", "ld")), *quiet, chunk(" and"), *quiet, chunk(" so"), Event(DONE)]
    assert "".join(e.content for e in normalize(iter(events), api="chat")) == "Hello world and so"


said = st.sampled_from(["a", "ab", "", "é", "data: x", '"', "stop", "assistant", "a", "Hello", "m", "index"])
counts = st.sampled_from([0, 1, 2, 3])
fields = st.sampled_from([{}, {}, {"model": "n"}]) | counts.map(counted) | counts.map(timed)
fields |= st.sampled_from([counted(1, cost=0.1), counted(2, prompt_tokens=0), {"usage": {"total_tokens": 5}}])
chosen = st.tuples(st.sampled_from(list(DELTAS)), said, st.booleans(), fields)
scraps = st.sampled_from([b'"', b"\\", b"{", b"}", b",", b":", b" ", b'"a"', b'"text":"a",', b'"content":"a",', b"b"])
damage = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 250), st.integers(0, 4), scraps), max_size=3)


@given(chosen=st.lists(chosen, min_size=2, max_size=12), times=st.integers(1, 3), damage=damage)
def test_a_known_shape_changes_nothing_whatever_is_said_in_whichever_way(
    chosen: list[tuple[str, str, bool, dict[str, Any]]], times: int, damage: list[tuple[int, int, int, bytes]]
) -> None:
    events = [
        spelt(DELTAS[name](text), spaced=spaced, **fields)
        for name, text, spaced, fields in chosen
        for text in [text + "." * at for at in range(times)]
    ]
    for number, at, gone, scrap in damage:
        data = events[number % len(events)].data
        at = max(1, at % len(data))
        data = data[:at] + scrap + data[at + gone :]
        events[number % len(events)] = Event(data.decode("utf-8", "replace").encode())
    assert outcome([*events, Event(DONE)]) == outcome([*as_none_is_known(events), Event(DONE)])
