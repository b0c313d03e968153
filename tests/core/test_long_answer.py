"""core/long_answer: usage from the ends of what passes."""

from __future__ import annotations

import pytest

from sseproxy.core.long_answer import END, Ends
from sseproxy.core.usage import Usage

USAGE = b'"usage": {"prompt_tokens": 7, "total_tokens": 7}'
VECTORS = b'"data": [' + b"0.1, " * END + b"0]"


@pytest.mark.parametrize("answer", [b"{%b, %b}" % (VECTORS, USAGE), b"{%b, %b}" % (USAGE, VECTORS)])
@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_usage_is_found_at_either_end_however_it_is_cut(answer: bytes, size: int) -> None:
    ends = Ends()
    for start in range(0, len(answer), size):
        ends.feed(answer[start : start + size])

    assert ends.usage() == Usage(input_tokens=7)


def test_details_inside_of_it_do_not_hide_it() -> None:
    ends = Ends()
    ends.feed(b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":1}}}')

    assert ends.usage() == Usage(input_tokens=3, cached_input_tokens=1)


@pytest.mark.parametrize("answer", [b"", VECTORS, b'{"usage": null}', b'{"usage": {x}}'])
def test_none_is_none(answer: bytes) -> None:
    ends = Ends()
    ends.feed(answer)

    assert ends.usage() is None
