"""What an event costs does not grow: not with running streams, users or charges, nor with the answer so far.

Operations are counted, not seconds: lines of Python run from an event's arrival until it has left.
"""

from __future__ import annotations

import contextlib
import select
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import open_ledger
from sseproxy.ledger.protocol import Charge, Settlement
from sseproxy.wsgi.ride import Ride
from tests.harness import RawClient, Upstream, stream
from tests.harness.scripts import choose

from .books import CHAT, KEY, config
from .processes import served_here

STEPPED = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "step by step"}]}
OTHER = {**CHAT, "stream": True}
MEASURED = 20
MORE_STREAMS, MORE_USERS, MORE_CHARGES, LONGER = 40, 300, 500, 600


class Counted:
    """The lines run for each event that the relay moved."""

    def __init__(self) -> None:
        self.moves: list[int] = []
        self._lines: int | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Counted | None:
        if frame.f_code is Ride.move_here.__code__ and event in ("call", "return"):
            if event == "return" and self._lines is not None:
                self.moves.append(self._lines)
            self._lines = 0 if event == "call" else None
        if self._lines is None:
            return None
        self._lines += 1
        return self


@contextlib.contextmanager
def counted(settings: dict[str, Any]) -> Iterator[tuple[str, Counted]]:
    """A proxy in this process, and what its relay does."""
    counts = Counted()

    def only_the_relay(frame: FrameType, event: str, argument: Any) -> Counted | None:
        if threading.current_thread().name == "sseproxy-relay":
            sys.settrace(counts)
            return counts(frame, event, argument)
        sys.settrace(None)
        return None

    before = threading.gettrace()
    threading.settrace(only_the_relay)
    try:
        with served_here(settings, threads=MORE_STREAMS + 4) as url:
            yield url, counts
    finally:
        threading.settrace(before)  # type: ignore[arg-type]


@contextlib.contextmanager
def running_streams(url: str, upstream: Upstream, number: int) -> Iterator[None]:
    """So many streams that have begun and now are silent."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(RawClient(url))
            client.post("/v1/chat/completions", OTHER, key=KEY).read_event()
        yield


def operations(url: str, counts: Counted, upstream: Upstream, skipped: int = 5) -> int:
    """What one event takes, after so many that are not looked at."""
    with RawClient(url) as client:
        before = len(upstream.exchanges)
        client.send("POST", "/v1/chat/completions", STEPPED, key=KEY)
        exchange = upstream.wait_for_request(before + 1)
        exchange.allow()
        client.read_head().read_event()
        for number in range(skipped + MEASURED):
            if number == skipped:
                counts.moves.clear()
            exchange.allow()
            client.read_event()
        usual, times = Counter(counts.moves).most_common(1)[0]
    assert times > MEASURED // 2, counts.moves
    return usual


def with_history(settings: dict[str, Any]) -> dict[str, Any]:
    """More users, and books with charges in them."""
    with contextlib.closing(open_ledger(settings["accounting"]["ledger"])) as ledger:
        for number in range(MORE_CHARGES):
            at = datetime.now(timezone.utc)
            ledger.reserve(Charge(f"chg_{number}", "alice", None, "/v1/chat/completions", "m", "main", "m", 10, at))
            ledger.settle(f"chg_{number}", Settlement("completed", "reported", Usage(1, 1), 0, 10, 200, 1, 1))
    more = {f"user-{number}": {"keys": [f"sk-{number}"]} for number in range(MORE_USERS)}
    return {**settings, "users": {**settings["users"], **more}}


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="missing part: epoll (Linux)")
def test_an_event_takes_as_many_operations_whatever_else_there_is_and_however_long_the_answer(
    upstream: Upstream, tmp_path: Path
) -> None:
    long = stream(tokens=2 * LONGER, steps=True)
    silent = stream(tokens=4, fault="hang", after=2)
    upstream.script = choose(lambda exchange: long if b"step by step" in exchange.raw_body else silent)
    settings = config(upstream.url, tmp_path)
    with counted(settings) as (url, counts):
        alone = operations(url, counts, upstream)
    with counted(with_history(settings)) as (url, counts), running_streams(url, upstream, MORE_STREAMS):
        assert operations(url, counts, upstream) == alone
        assert operations(url, counts, upstream, skipped=LONGER) == alone
