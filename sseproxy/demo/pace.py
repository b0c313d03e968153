"""A reply in time: one event per write at the pace asked for, and the fault. The one file here that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sseproxy.core.failure import Failure
from sseproxy.demo.faults import Script
from sseproxy.demo.wire import Format

TICK_SECONDS = 0.25
"""While it waits the body yields b"" this often, PEP 3333's "nothing yet", so that whoever runs it can close it."""


def play(format: Format, script: Script) -> Iterator[bytes]:
    """The events of a stream, when their time has come.

    :raises ConnectionResetError: where the fault is ``cut``; every WSGI server then breaks the connection.
    """
    yield from format.opening()
    ends_early = script.fault in ("cut", "error", "hang")
    for number, token in enumerate(format.tokens()):
        if ends_early and number >= script.after:
            break
        yield from _wait(script.interval_ms / 1000)
        yield token
    if ends_early:
        yield from _break_off(format, script)
    else:
        yield from format.closing()


def deliver(body: bytes, script: Script) -> Iterator[bytes]:
    """A body that is no stream: at once and whole, but for the fault. :raises ConnectionResetError: as above."""
    if script.fault == "hang":
        yield from _hang()
    if script.fault == "cut":
        yield body[: len(body) // 2]
        raise ConnectionResetError("the demo was asked to break off")
    yield body


def failure_of(script: Script) -> Failure:
    """The failure that the faults ``error`` and ``status`` name."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = "server_error" if script.status >= 500 else kinds.get(script.status, "invalid_request_error")
    return Failure(script.message, status=script.status, type=kind, code="demo_fault")


def _break_off(format: Format, script: Script) -> Iterator[bytes]:
    if script.fault == "error":
        yield format.failure(failure_of(script))
    elif script.fault == "hang":
        yield from _hang()
    else:
        raise ConnectionResetError("the demo was asked to break off")


def _hang() -> Iterator[bytes]:
    while True:
        time.sleep(TICK_SECONDS)
        yield b""


def _wait(seconds: float) -> Iterator[bytes]:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, TICK_SECONDS))
        if left > TICK_SECONDS:
            yield b""
