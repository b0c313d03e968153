"""Sealing: final bytes, and what the meter needs."""

from __future__ import annotations

from functools import partial

from sseproxy.core.chunk import write_json
from sseproxy.core.normalize.seal import seal
from sseproxy.core.shapes import Shapes
from sseproxy.core.usage import Usage
from tests.core.normalize.making import END, assert_passes_flush_at_once, chunk, through


def test_a_chunk_becomes_an_event_with_its_texts_usage_and_finish() -> None:
    said, done = chunk({"content": "a", "reasoning_content": "b"}), chunk({}, "stop")
    said.usage = Usage(1)
    out = through(partial(seal, shapes=Shapes()), said, done, END)
    assert [(e.content, e.hidden, e.usage, e.finish, e.read) for e in out[:2]] == [
        ("a", "b", Usage(1), None, True),
        ("", "", None, "stop", True),
    ]
    assert (
        out[0].data == b'{"choices":[{"index":0,"delta":{"content":"a","reasoning_content":"b"},"finish_reason":null}]}'
    )
    assert out[2] is END


def test_type_id_and_retry_of_the_upstream_go() -> None:
    event = chunk({"content": "a"})
    event.type, event.id, event.retry = "message", "1", 5
    (sealed,) = through(partial(seal, shapes=Shapes()), event)
    assert (sealed.type, sealed.id, sealed.retry) == ("", None, None)


def test_steady_chunks_teach_and_others_make_forget() -> None:
    shapes = Shapes()
    event = chunk({"content": "a"})
    event.data = b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}'
    through(partial(seal, shapes=shapes), event)
    assert shapes.match(event.data.replace(b'"a"', b'"b"')) is not None
    event.steady = False
    through(partial(seal, shapes=shapes), event)
    assert shapes.match(event.data) is None


def test_a_tool_that_the_vendor_ran_passes_each_time_and_counts_once() -> None:
    shapes = Shapes()
    called = {"index": 0, "type": "search", "arguments": "a"}
    events = [chunk({"executed_tools": [called]}), chunk({"executed_tools": [{**called, "output": "o"}]})]
    for event in events:
        event.data = write_json(event.body)
    first, second = through(partial(seal, shapes=shapes), *events)
    assert (first.hidden, second.hidden) == ("a", "")
    assert b'"output":"o"' in second.data and b'"arguments":"a"' in second.data
    assert shapes.match(first.data) is None


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(partial(seal, shapes=Shapes()))
