"""middleware/generation: however a generation ends, nobody waits for it any longer, and who is to be told is told."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from werkzeug.test import create_environ

from sseproxy.core.failure import Failure
from sseproxy.core.sse import Event
from sseproxy.middleware.generation import Generation
from sseproxy.streams.live import LiveStream
from sseproxy.streams.protocol import Busy
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream
from tests.harness import PATIENCE

from .apps import CHAT


class Endless(LiveStream):
    """A stream in a store that is away when its end is to be written."""

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        raise OSError("the store is away")


def refusing(environ: Any, start_response: Any) -> Iterable[bytes]:
    return refuse(Failure("No such thing.", status=404), environ)(environ, start_response)


def generation_in(stream: LiveStream, app: Any = refusing) -> tuple[Generation, Exchange]:
    environ = create_environ("/v1/chat/completions", method="POST", json={**CHAT, "stream": True})
    exchange = Exchange.of(environ)
    exchange.read_request(environ)
    exchange.in_background = True
    return Generation(app, environ, exchange, stream), exchange


def kept_in(stream: type[LiveStream] = LiveStream) -> LiveStream:
    return stream("id", "alice", buffer=4096, keep_alone=30.0)


@pytest.mark.parametrize("stream", [LiveStream, Endless])
def test_whoever_is_to_hear_of_the_end_does_whatever_fails_at_it(
    stream: type[LiveStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    generation, exchange = generation_in(kept_in(stream))
    told, over = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda raised: over.set())

    def fail() -> None:
        raise OSError("no space left on device")

    exchange.when_generated += [fail, told.set]
    generation.start()
    asking = threading.Thread(target=generation.is_accepted, daemon=True)
    asking.start()

    assert over.wait(PATIENCE)
    assert told.is_set()
    assert not exchange.in_background
    asking.join(PATIENCE)
    assert not asking.is_alive()


def test_a_generation_that_no_thread_is_left_for_is_none_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    generation, exchange = generation_in(kept_in())
    monkeypatch.setattr(threading.Thread, "start", start)

    with pytest.raises(Busy):
        generation.start()
    assert not exchange.in_background


def test_what_is_stopped_behind_its_end_has_only_that_end() -> None:
    live, over = kept_in(), threading.Event()

    def answering(environ: Any, start_response: Any) -> EventStream:
        def events() -> Iterator[Event]:
            yield Event(b"{}")
            live.stop()
            yield Event(b"[DONE]")

        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return EventStream(events())

    generation, exchange = generation_in(live, answering)
    exchange.when_generated.append(over.set)
    generation.start()

    assert over.wait(PATIENCE)
    assert live.kept_after(0) == (0, [b"data: {}\n\n", b"data: [DONE]\n\n"])
