"""When a failed request is sent again, where, and after how long. Pure: no clock, no I/O, no state.

The rule, as OpenAI's own clients have it (https://github.com/openai/openai-python#retries): nothing has reached the
client yet, and the upstream either never had the request (connect errors), refused it in a way that may pass (408,
409, 429, 5xx) or broke off. A try that may have been worked on is repeated too, but never in silence: each one stands
on the charge. What took its whole time-out is not repeated where it was, only elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import Final, Literal

from sseproxy.core.tries import Try

Verdict = Literal["final", "elsewhere", "again"]
"""``final``: the client's answer. ``elsewhere``: another upstream may do better. ``again``: so may the same one."""

FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 8.0
PATIENCE: Final = 5.0
"""Seconds that ``Retry-After`` may ask for where nobody else could answer; with more, the client is told at once."""
BRIEF: Final = 1.0
"""Seconds that are waited where another upstream could answer instead."""

_PASSING: Final = frozenset((408, 409, 429))
_FINAL: Final = frozenset(("upstream_redirect", "answer_too_large", "no_upstream"))
_SILENT: Final = frozenset(("upstream_first_byte_timeout", "upstream_total_timeout"))
_ELSEWHERE: Final = _SILENT | {"upstream_tls", "upstream_idle_timeout"}


def judge(status: int, error: str | None) -> Verdict:
    """What may be done about an answer.

    :param status: what the client would get.
    :param error: code of the failure, if it is one.
    """
    if error in _FINAL or not (status in _PASSING or 500 <= status < 600):
        return "final"
    return "elsewhere" if error in _ELSEWHERE else "again"


def is_failing(status: int) -> bool:
    """Whether an answer says that the upstream does not work, rather than that it is asked too much."""
    return status >= 500


def is_down(last: Try) -> bool:
    """Whether it says so for every request. What an upstream makes of one that it got may be that one's fault."""
    return not last.reached or (last.status is None and last.error in _SILENT)


def delay_before(number: int, random: Callable[[], float]) -> float:
    """Seconds before the retry with this number, from 0: exponential, and jittered so that clients come apart.

    :param random: gives numbers in [0, 1).
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0**number)
    return longest * (0.5 + random() / 2)


def wished_delay(headers: Iterable[tuple[str, str]], now: Callable[[], datetime]) -> float | None:
    """Seconds the upstream asks to wait: ``Retry-After`` (RFC 9110 section 10.2.3) or OpenAI's ``retry-after-ms``; for
    ever by its ``x-should-retry: false``.
    """
    fields = {name.lower(): value.strip() for name, value in headers}
    if fields.get("x-should-retry") == "false":
        return inf
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = fields.get(name, "")
        if value.replace(".", "", 1).isascii() and value.replace(".", "", 1).isdigit():
            return float(value) / scale
    try:
        return max(0.0, (parsedate_to_datetime(fields.get("retry-after", "")) - now()).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
