"""upstream/retry: which failure is tried again, where, and after how long."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from math import inf

import pytest

from sseproxy.core.tries import Try
from sseproxy.upstream.retry import LONGEST_DELAY, Verdict, delay_before, is_down, judge, wished_delay

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("status", "error", "verdict"),
    [
        (200, None, "final"),
        (400, "invalid", "final"),
        (401, None, "final"),
        (404, None, "final"),
        (408, None, "again"),
        (409, None, "again"),
        (429, "rate_limit_exceeded", "again"),
        (499, "client_gone", "final"),
        (500, None, "again"),
        (503, None, "again"),
        (503, "server_shutting_down", "again"),
        (529, None, "again"),
        (502, "upstream_unreachable", "again"),
        (502, "upstream_truncated", "again"),
        (504, "upstream_connect_timeout", "again"),
        (504, "upstream_first_byte_timeout", "elsewhere"),
        (504, "upstream_idle_timeout", "elsewhere"),
        (502, "upstream_tls", "elsewhere"),
        (502, "upstream_redirect", "final"),
        (502, "answer_too_large", "final"),
    ],
)
def test_each_failure_has_its_verdict(status: int, error: str | None, verdict: Verdict) -> None:
    assert judge(status, error) == verdict


def test_delays_grow_and_are_jittered_and_bounded() -> None:
    shortest = [delay_before(number, lambda: 0.0) for number in range(12)]
    longest = [delay_before(number, lambda: 1.0) for number in range(12)]

    assert shortest[:3] == [0.125, 0.25, 0.5]
    assert [low * 2 for low in shortest] == longest
    assert longest[-1] == LONGEST_DELAY


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([("Retry-After", "3")], 3.0),
        ([("retry-after", " 0 ")], 0.0),
        ([("Retry-After", "1.5")], 1.5),
        ([("Retry-After", "30"), ("Retry-After-Ms", "250")], 0.25),
        ([("Retry-After", format_datetime(NOW + timedelta(seconds=7), usegmt=True))], 7.0),
        ([("Retry-After", format_datetime(NOW - timedelta(days=1), usegmt=True))], 0.0),
        ([("Retry-After", "Sat, 21 Nov 2026 12:00:09")], None),
        ([("Retry-After", "soon")], None),
        ([("Retry-After", "-5")], None),
        ([("Retry-After", "1e9")], None),
        ([("Retry-After", "Wed, 21 Oct 999999999999999999999 07:28:00 GMT")], None),
        ([("Retry-After", "Wed, 21 Oct 2035 07:28:00 +99999999999999999999")], None),
        ([("Retry-After", "\u0663")], None),
        ([("Retry-After", "")], None),
        ([("Retry-After", "1"), ("X-Should-Retry", "true")], 1.0),
        ([("Retry-After", "1"), ("X-Should-Retry", "false")], inf),
    ],
)
def test_what_an_upstream_wishes_is_read_in_every_spelling(
    headers: list[tuple[str, str]], seconds: float | None
) -> None:
    assert wished_delay(headers, lambda: NOW) == seconds


def test_an_upstream_is_down_if_it_takes_no_request_or_says_nothing_to_one() -> None:
    assert is_down(Try("a", "m", error="upstream_unreachable", reached=False))
    assert is_down(Try("a", "m", error="upstream_first_byte_timeout"))
    assert is_down(Try("a", "m", error="upstream_total_timeout"))
    assert not is_down(Try("a", "m", status=200, error="upstream_total_timeout"))
    assert not is_down(Try("a", "m", error="upstream_unreachable"))
    assert not is_down(Try("a", "m", status=503, error="overloaded"))
