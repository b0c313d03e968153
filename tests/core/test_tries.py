from __future__ import annotations

import re
from pathlib import Path

import pytest

from sseproxy.core.tries import KNOWN, Try, in_few_words

PACKAGE = Path(__file__).parent.parent.parent / "sseproxy"


@pytest.mark.parametrize(
    ("status", "error", "result"),
    [
        (200, None, "answered"),
        (None, None, "answered"),
        (429, "rate_limit_exceeded", "status_429"),
        (502, "status_502", "status_502"),
        (None, "upstream_unreachable", "upstream_unreachable"),
        (200, "upstream_truncated", "upstream_truncated"),
        (200, "made_up_by_a_vendor", "error"),
        (999, "made_up_by_a_vendor", "error"),
    ],
)
def test_the_result_of_a_try_is_one_of_few_words(status: int | None, error: str | None, result: str) -> None:
    assert Try("u", "m", status, error).result == result


def test_the_codes_of_the_proxys_own_upstream_failures_are_known_words() -> None:
    files = [*(PACKAGE / "upstream").glob("*.py"), *(PACKAGE / "core").rglob("*.py")]
    codes = {code for file in files for code in re.findall(r'code="(upstream_\w+)"', file.read_text("utf-8"))}

    assert codes and {code for code in codes - KNOWN if code != "upstream_cooling_down"} == set()
    assert in_few_words("upstream_cooling_down") == "error"
