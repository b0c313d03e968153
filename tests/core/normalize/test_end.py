"""The end: finishes, usage, [DONE]; or one error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sseproxy.core.chat import Api
from sseproxy.core.chunk import Chunk, error_event
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import normalize
from sseproxy.core.normalize.bodies import IDLE, Doubt, Lost, events_of
from sseproxy.core.normalize.end import HEARTBEATS, HEARTBEATS_FOR_USAGE, conclude
from sseproxy.core.normalize.envelope import Identity
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event
from sseproxy.core.usage import Usage
from tests.core.normalize.making import END, assert_passes_flush_at_once, chunk, through


def identity() -> Identity:
    return Identity("chat", "m", make_id=lambda: "i", now=lambda: 1)


def end(*events: Event, choices: int = 1, text: bool = False) -> list[str]:
    """What comes out, a word for each event."""
    out = through(partial(conclude, identity=identity(), choices=choices, text=text), *events)
    return [word(event) for event in out]


def word(event: Event) -> str:
    if event.error is not None:
        return f"error {event.error.type}"
    if not isinstance(event, Chunk):
        return event.data.decode()
    if not event.body["choices"]:
        return "usage"
    choice = event.body["choices"][0]
    return str(choice["finish_reason"] or choice["delta"].get("content") or "chunk")


def usage(tokens: int = 1) -> Chunk:
    return Chunk(body={"choices": [], "usage": {}}, usage=Usage(tokens))


def lost() -> Event:
    return Lost(b"{}", read=True, error=UpstreamFailure("gone", type="upstream_truncated"))


TEXT = [chunk({"content": "a"}), chunk({"content": "b"})]
STOP = chunk({}, "stop")
DOUBT = Doubt(read=True, failure=UpstreamFailure("Slow down", type="doubted"))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([*TEXT, STOP, usage(), END], "a b stop usage [DONE]"),
        ([*TEXT, STOP, END], "a b stop [DONE]"),
        ([*TEXT, STOP, usage()], "a b stop usage [DONE]"),
        ([usage(), *TEXT, STOP, END], "a b stop usage [DONE]"),
        ([*TEXT, STOP, END, usage()], "a b stop usage [DONE]"),
        ([*TEXT, STOP, usage(), usage(), END, END], "a b stop usage [DONE]"),
        ([*TEXT, STOP, STOP, END], "a b stop [DONE]"),
        ([TEXT[0], STOP, TEXT[1], END], "a stop b [DONE]"),
        ([*TEXT, STOP, END, chunk({"content": "late"})], "a b stop [DONE]"),
        ([*TEXT, END], "a b stop [DONE]"),
        ([chunk({"tool_calls": []}), END], "chunk tool_calls [DONE]"),
        ([STOP], "stop [DONE]"),
        ([chunk({}, "stop"), chunk({"tool_calls": []}), END], "chunk tool_calls [DONE]"),
        (TEXT, "a b error upstream_truncated"),
        ([], "error upstream_truncated"),
        ([END], "error upstream_invalid_stream"),
        ([usage(), END], "error upstream_invalid_stream"),
        ([TEXT[0], error_event(UpstreamFailure("x", type="t")), TEXT[1], END], "a error t"),
        ([*TEXT, STOP, END, error_event(UpstreamFailure("x", type="t"))], "a b stop [DONE]"),
        ([*TEXT, lost()], "a b error upstream_truncated"),
        ([*TEXT, STOP, lost()], "a b stop [DONE]"),
        ([*TEXT, END, lost()], "a b stop [DONE]"),
    ],
)  # fmt: skip
def test_the_order_at_the_end(events: list[Event], words: str) -> None:
    assert " ".join(end(*events)) == words


def test_what_an_earlier_usage_chunk_says_beside_it_is_kept() -> None:
    told = [Chunk(body={"choices": [], "usage": {"a": n}, name: n}, usage=Usage(n)) for n, name in enumerate("xyx", 1)]
    *_, last, _ = through(partial(conclude, identity=identity()), *TEXT, STOP, *told, END)

    assert isinstance(last, Chunk)
    assert {name: last.body[name] for name in ("usage", "x", "y")} == {"usage": {"a": 3}, "x": 3, "y": 2}


@pytest.mark.parametrize(
    ("before", "ticks"),
    [([STOP, usage()], 1), ([STOP], 2), ([STOP, usage(), END], 1), ([END], 1), ([STOP, END], 1)],
)
def test_a_connection_held_open_is_left_after_few_ticks(before: list[Event], ticks: int) -> None:
    asked = 0

    def source() -> Iterator[Event]:
        nonlocal asked
        yield from [*TEXT, *before]
        while True:
            asked += 1
            yield IDLE

    assert [event.data for event in conclude(source(), identity())][-1] == DONE
    assert asked == ticks


def test_a_finish_that_stands_alone_passes_before_the_next_event_is_asked_for() -> None:
    events = conclude(iter([*TEXT, STOP, END]), identity())

    assert [word(next(events)) for _ in range(3)] == ["a", "b", "stop"]


def test_what_is_news_beside_the_choices_passes_behind_the_finish() -> None:
    empty = [chunk({}, **fields) for fields in ({"provider": "p"}, {"citations": ["u"]}, {"citations": ["u"]}, {})]
    out = end(chunk({"content": "a"}, provider="p"), STOP, *empty, END)

    assert out == ["a", "stop", "chunk", "[DONE]"]


@pytest.mark.parametrize("said", [{"delta": {}}, {"text": "", "logprobs": None}], ids=["chat", "completions"])
def test_of_a_second_finish_what_is_news_beside_its_choice_passes(said: dict[str, Any]) -> None:
    body = {"choices": [{"index": 0, **said, "finish_reason": "stop"}], "citations": ["u"]}
    again = [Chunk(body={**body}) for _ in range(2)]
    _, _, told, done = through(partial(conclude, identity=identity()), TEXT[0], STOP, *again, END)

    assert isinstance(told, Chunk) and done.data == DONE
    assert told.body["choices"] == [{"index": 0, **said, "finish_reason": None}]
    assert told.body["citations"] == ["u"]


def test_a_finish_that_came_with_text_waits_for_what_may_follow_it() -> None:
    hasty = Chunk(body=chunk({}, "stop").body, sure=False)

    assert end(TEXT[0], hasty, TEXT[1], hasty, END) == ["a", "b", "stop", "[DONE]"]


def test_silence_before_the_finish_ends_nothing() -> None:
    assert end(TEXT[0], *[IDLE] * 100, TEXT[1], STOP, END) == ["a", "b", "stop", "[DONE]"]


def test_one_of_two_choices_finished_is_not_the_end() -> None:
    other = [chunk({"content": "c"}, index=1), chunk({}, "length", index=1)]
    assert end(TEXT[0], STOP, usage(), IDLE, IDLE, IDLE, *other, choices=2)[:3] == ["a", "stop", "c"]
    assert end(TEXT[0], other[0], STOP, choices=2) == ["a", "c", "stop", "error upstream_truncated"]


@pytest.mark.parametrize(
    ("before", "heartbeats"),
    [
        ([STOP], HEARTBEATS_FOR_USAGE),
        ([END], HEARTBEATS_FOR_USAGE),
        ([STOP, usage()], HEARTBEATS),
        ([STOP, usage(), END], HEARTBEATS),
    ],
)
def test_a_connection_that_heartbeats_keep_from_ever_being_silent_is_left_too(
    before: list[Event], heartbeats: int
) -> None:
    asked = 0

    def source() -> Iterator[Event]:
        nonlocal asked
        yield from [*TEXT, *[HEARTBEAT] * 100, *before]
        while True:
            asked += 1
            yield from (HEARTBEAT, FLUSH)

    assert [event.data for event in conclude(source(), identity())][-1] == DONE
    assert asked == heartbeats


def test_what_comes_among_a_few_heartbeats_is_still_of_the_answer() -> None:
    some, few = [HEARTBEAT] * (HEARTBEATS_FOR_USAGE - 1), [HEARTBEAT] * (HEARTBEATS - 1)
    assert end(*TEXT, STOP, *some, usage(), *few, END) == ["a", "b", "stop", "usage", "[DONE]"]


def test_what_is_told_beside_the_choices_after_the_end_keeps_no_connection_open() -> None:
    def source() -> Iterator[bytes]:
        yield b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        yield b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        for second in range(4):
            yield b'data: {"alive":%d}\n\n' % second
            yield b""
        pytest.fail("waited on")

    assert [event.data for event in normalize(events_of(source()), api="chat")][-1] == DONE


EMPTY = b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":null,"logprobs":{}}],"alive":%d}\n\n'
STOPPED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop","matched_stop":2}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'


@pytest.mark.parametrize("heartbeat", [
    b'data: {"alive":%d}\n\n', b'data: {"choices":[],"alive":%d}\n\n', b'data: {"choices":[],"id":"%d"}\n\n', EMPTY,
    STOPPED, USED,
])  # fmt: skip
@pytest.mark.parametrize("before", [STOPPED, STOPPED + USED, STOPPED + USED + b"data: [DONE]\n\n"])
def test_heartbeats_of_json_are_heartbeats(heartbeat: bytes, before: bytes) -> None:
    most = 2 + (HEARTBEATS if USED in before + heartbeat else HEARTBEATS_FOR_USAGE)
    asked = 0

    def source() -> Iterator[bytes]:
        nonlocal asked
        yield b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        yield before
        for second in range(100):
            asked += 1
            yield heartbeat.replace(b"%d", b"%d" % second)

    assert [event.data for event in normalize(events_of(source()), api="chat")][-1] == DONE
    assert asked <= most


@pytest.mark.parametrize("heartbeat", [b'data: {"alive":1}\n\n', STOPPED])
@pytest.mark.parametrize("behind", [b"data: [DONE]\n\n", b"data: {.\n\n"])
def test_usage_behind_any_number_of_heartbeats_is_taken_where_it_came_with_them(
    heartbeat: bytes, behind: bytes
) -> None:
    def source() -> Iterator[bytes]:
        yield b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        yield STOPPED + heartbeat * HEARTBEATS_FOR_USAGE * 2 + USED + behind
        pytest.fail("waited on")

    *_, used, last = (event for event in normalize(events_of(source()), api="chat") if event is not FLUSH)

    assert used.usage == Usage(1, output_tokens=1) and last.data == DONE


@pytest.mark.parametrize("first", ["", "a"])
def test_silence_of_an_upstream_that_finishes_every_chunk_is_no_end(first: str) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":"stop"}]}\n\n'
    thinking = [chunk % b""] * 2 * HEARTBEATS_FOR_USAGE

    *texts, finish, usage, _ = through(
        lambda events: normalize(events, api="chat"),
        *events_of([chunk % first.encode(), *thinking, chunk % b"b", USED, b"data: [DONE]\n\n"]),
    )

    assert "".join(event.content for event in texts) == first + "b"
    assert finish.finish == "stop" and usage.usage is not None


def test_what_is_news_among_heartbeats_of_json_is_still_of_the_answer() -> None:
    news = [b'data: {"choices":[],"%b":[1]}\n\n' % name for name in (b"citations", b"images", b"steps", b"sources")]
    body = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n' + STOPPED + USED
    last = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":1}}\n\n'

    events = [*normalize(events_of([body, *news, b": hm\n\n", last, b"data: [DONE]\n\n"]), api="chat")]
    said = b"".join(event.data for event in events)

    assert all(name in said for name in (b"citations", b"images", b"steps", b"sources"))
    assert [event.usage.cost for event in events if event.usage is not None][-1] == 10**9


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([TEXT[0], DOUBT, END], "a error doubted"),
        ([TEXT[0], DOUBT], "a error doubted"),
        ([TEXT[0], DOUBT, usage(), END], "a error doubted"),
        ([TEXT[0], DOUBT, TEXT[1], END], "a b stop [DONE]"),
        ([TEXT[0], DOUBT, STOP, END], "a stop [DONE]"),
        ([TEXT[0], STOP, DOUBT, END], "a stop [DONE]"),
        ([DOUBT, *TEXT, STOP], "a b stop [DONE]"),
        ([TEXT[0], DOUBT, DOUBT, END], "a stop [DONE]"),
        ([TEXT[0], DOUBT, TEXT[1], DOUBT], "a b error upstream_truncated"),
        ([DOUBT, END], "error upstream_invalid_stream"),
    ],
)
def test_what_may_be_a_failure_is_one_if_it_is_new_and_nothing_more_comes(events: list[Event], words: str) -> None:
    assert " ".join(end(*events)) == words


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
def test_words_that_may_be_a_failure_reach_no_client_as_they_are(api: Api) -> None:
    assert all(event.data[:1] in b"{[" for event in normalize(events_of([b"data: alive\n\n"]), api=api))


def test_chatter_after_the_end_mark_is_bounded() -> None:
    def source() -> Iterator[Event]:
        yield from [*TEXT, END]
        while True:
            yield FLUSH

    events = [event for event in conclude(source(), identity()) if event is not FLUSH]
    assert events[-1].data == DONE


def test_a_failing_connection_says_how_it_failed() -> None:
    timeout = Lost(b"{}", read=True, error=UpstreamFailure("silent", status=504, type="upstream_timeout"))
    assert end(TEXT[0], timeout) == ["a", "error upstream_timeout"]
    assert end(timeout) == ["error upstream_timeout"]


def test_an_error_says_what_usage_was_known() -> None:
    out = through(partial(conclude, identity=identity()), TEXT[0], usage(7), lost())
    assert out[-1].usage == Usage(7)


def test_a_made_finish_has_the_streams_envelope() -> None:
    (_, made, _) = through(partial(conclude, identity=identity()), TEXT[0], END)
    assert isinstance(made, Chunk)
    assert made.body["id"] == "chatcmpl-i"
    (_, legacy, _) = through(partial(conclude, identity=identity(), text=True), TEXT[0], END)
    assert isinstance(legacy, Chunk)
    choice: dict[str, Any] = legacy.body["choices"][0]
    assert choice == {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(partial(conclude, identity=identity()))
