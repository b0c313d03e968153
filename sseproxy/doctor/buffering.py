"""Judges times: is anything held back, in which blocks, and after which silence is a stream cut? Pure."""

from __future__ import annotations

from statistics import median
from typing import Final

from sseproxy.doctor.finding import Finding
from sseproxy.doctor.fronts import cure
from sseproxy.doctor.reading import Reading

#: A wide-area network delays events unevenly too, but hardly by so much.
HELD_SECONDS: Final = 0.6
#: Reads that follow each other faster came together; a probe that measures blocks sends slower.
TOGETHER_SECONDS: Final = 0.01


def held_back(reading: Reading) -> float:
    """Seconds by which an event came later than the path's own delay, at most."""
    lags = [arrival.at - arrival.sent for arrival in reading.arrivals]
    return max(lags) - min(lags) if lags else 0.0


def check_buffering(reading: Reading, blocks: Reading | None = None) -> Finding:
    """Whether events arrive when they are sent.

    :param blocks: a probe of many long events, to tell how much is collected.
    """
    held = held_back(reading)
    if reading.arrivals and held < HELD_SECONDS:
        return Finding("buffering", "ok", f"events arrive when they are sent (within {held * 1000:.0f} ms)")
    if not reading.arrivals:
        message = f"no event came within {reading.ended_at:.0f} s"
    else:
        message = f"events are held back for up to {held:.1f} s, {describe_blocks(blocks)}"
    return Finding("buffering", "fault", message, cure("buffering", reading))


def describe_blocks(reading: Reading | None) -> str:
    """How much is collected before it is handed on, in words."""
    size = block_size(reading) if reading is not None else None
    return f"in blocks of about {size / 1024:.0f} KiB" if size else "until the answer has ended"


def block_size(reading: Reading) -> float | None:
    """Bytes that came together, of a stream that was sent evenly; None if all of it did."""
    sizes: list[int] = []
    before = float("-inf")
    for at, size in reading.reads:
        if sizes and at - before < TOGETHER_SECONDS:
            sizes[-1] += size
        else:
            sizes.append(size)
        before = at
    # What comes last is what was left over.
    return median(sizes[:-1]) if len(sizes) > 1 else None


def check_hint(reading: Reading) -> Finding:
    """Whether events flow without ``X-Accel-Buffering: no`` too."""
    held = held_back(reading)
    if reading.arrivals and held < HELD_SECONDS:
        return Finding("buffering_default", "ok", "events flow without the header X-Accel-Buffering too")
    message = (
        "buffering is on: streams flow only because each answer says X-Accel-Buffering: no, which the next change "
        f"(proxy_ignore_headers, another hop) can undo; without it events were held back for {held:.1f} s"
    )
    return Finding("buffering_default", "warning", message, cure("buffering", reading))


def check_idle(reading: Reading, silence: float, keepalive: float) -> Finding:
    """Whether a silence is survived, with the keep-alives that every stream of this proxy gets.

    :param silence: seconds it was asked for.
    :param keepalive: seconds between two keep-alives.
    """
    if reading.done:
        return _survived(silence, keepalive)
    quiet = reading.ended_at - reading.last_at
    if reading.ending == "silent":
        message = f"nothing more came for {quiet:.0f} s, though the proxy sent: a middlebox forgot the connection"
    else:
        message = f"cut after {quiet:.1f} s of silence ({reading.ended_at:.0f} s after the request)"
    return Finding("idle_timeout", "fault", message, _idle_cure(reading, quiet, keepalive))


def _survived(silence: float, keepalive: float) -> Finding:
    message = f"a silence of {silence:.0f} s is survived"
    if silence < keepalive:
        message += f"; keep-alives come every {keepalive:.0f} s: `--idle {keepalive + 5:.0f}` goes beyond the first"
    return Finding("idle_timeout", "ok", message)


def _idle_cure(reading: Reading, quiet: float, keepalive: float) -> str:
    if quiet > keepalive + 1:
        return (
            f"Keep-alives are sent every {keepalive:.0f} s: this is no idle time-out but a limit on the whole answer "
            "or on the connection: raise it (gunicorn: workers of gthread or gevent, not sync; serverless platforms: "
            "their request time-out). " + cure("idle_timeout", reading)
        )
    below = max(1, int(quiet / 2))
    return (
        f"Raise the idle time-out above streams.keepalive ({keepalive:.0f} s), better to an hour, or send keep-alives "
        f"more often: `streams: {{keepalive: {below}s}}`. " + cure("idle_timeout", reading)
    )
