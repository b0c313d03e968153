"""Usage that needs no repair is told from any other, and read alike."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.chunk import write_json
from sseproxy.core.plain_usage import plain_counts, plain_usage, timed_counts, timed_fields
from sseproxy.core.usage import Usage, tidy_usage, usage_of

PLAIN = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
INS = {"audio_tokens": 0, "cached_tokens": 5, "cache_write_tokens": 2}
OUTS = {"reasoning_tokens": 3, "accepted_prediction_tokens": 0}

DETAILS = st.dictionaries(
    st.sampled_from(
        ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "cache_read_tokens", "audio_tokens", "image_tokens")
    ),
    st.sampled_from((0, 1, 2, 5, None, "5")),
    max_size=2,
)
COUNTS = st.sampled_from((0, 3, 9))


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (PLAIN, Usage(9, 0, 0, 4, 0)),
        ({**PLAIN, "prompt_tokens_details": INS, "completion_tokens_details": OUTS}, Usage(9, 5, 2, 4, 3)),
        ({**PLAIN, "completion_tokens_details": OUTS}, Usage(9, 0, 0, 4, 3)),
    ],
)
def test_openai_s_own_usage_is_plain(raw: dict[str, Any], usage: Usage) -> None:
    assert plain_usage(raw) == usage


@pytest.mark.parametrize(
    "change",
    [
        {"total_tokens": 14},
        {"prompt_tokens": "9"},
        {"completion_tokens": True, "total_tokens": 10},
        {"prompt_tokens": -1, "total_tokens": 3},
        {"prompt_tokens": 2**53 + 1, "total_tokens": 2**53 + 5},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"cost": 1},
        {"input_tokens": 9},
        {"prompt_tokens_details": {}},
        {"completion_tokens_details": None},
        {"prompt_tokens_details": {"cached_tokens": 10}},
        {"prompt_tokens_details": {"cached_tokens": "5"}},
        {"prompt_tokens_details": {"cache_read_tokens": 5}},
        {"prompt_tokens_details": {"cachedInputTokens": 5}},
        {"prompt_tokens_details": {"created_cache_tokens": 5}},
        {"completion_tokens_details": {"thinking_tokens": 1}},
        {"prompt_tokens_details": {"audio_tokens": 1}},
        {"completion_tokens_details": {"image_tokens": 1}},
        {"completion_tokens_details": {"reasoning_tokens": 5}},
        {"completion_tokens_details": OUTS, "prompt_tokens_details": INS},
    ],
)
def test_what_might_be_put_right_is_not_plain(change: dict[str, Any]) -> None:
    assert plain_usage({**PLAIN, **change}) is None


def test_counts_in_another_order_are_not_plain() -> None:
    assert plain_usage(dict(reversed(PLAIN.items()))) is None


@given(COUNTS, COUNTS, st.integers(0, 1), DETAILS, DETAILS)
def test_plain_usage_is_what_tidying_leaves_as_it_is(
    ins: int, outs: int, more: int, of_ins: dict[str, Any], of_outs: dict[str, Any]
) -> None:
    raw: dict[str, Any] = {"prompt_tokens": ins, "completion_tokens": outs, "total_tokens": ins + outs + more}
    raw |= {"prompt_tokens_details": of_ins, "completion_tokens_details": of_outs}
    usage = plain_usage(raw)
    if usage is not None:
        tidy = tidy_usage(raw)
        assert tidy is not None
        assert write_json(tidy) == write_json(raw)
        assert usage_of(tidy) == usage


@given(COUNTS, COUNTS, st.integers(0, 3), DETAILS, DETAILS, st.booleans(), st.permutations(range(5)))
def test_plain_counts_are_read_as_if_they_had_been_put_right(
    ins: int, outs: int, more: int, of_ins: dict[str, Any], of_outs: dict[str, Any], fold: bool, order: list[int]
) -> None:
    counts: dict[str, Any] = {"prompt_tokens": ins, "completion_tokens": outs, "total_tokens": ins + outs + more}
    details = {"prompt_tokens_details": of_ins, "completion_tokens_details": of_outs}
    fields = [*counts.items(), *((name, value) for name, value in details.items() if value)]
    raw = dict(fields[place] for place in order if place < len(fields))
    usage = plain_counts(raw, fold=fold)
    if usage is not None:
        tidy = tidy_usage(raw, fold=fold)
        assert tidy is not None and usage_of(tidy) == usage


@pytest.mark.parametrize("details", [{}, {"completion_tokens_details": {"reasoning_tokens": 30}}])
def test_reasoning_that_only_the_total_counts_is_plain(details: dict[str, Any]) -> None:
    raw = {"completion_tokens": 4, "prompt_tokens": 9, "total_tokens": 43, **details}
    assert plain_counts(raw, fold=not details) == Usage(9, 0, 0, 34, 30)


TIMINGS = {"cache_n": 1, "prompt_n": 4, "prompt_ms": 38.1, "predicted_n": 2, "predicted_ms": 3.5}
ODD_TIMINGS = st.dictionaries(
    st.sampled_from((*TIMINGS, "draft_n", "prompt_tokens", "total_tokens", "cost", "cached_tokens")),
    st.sampled_from((0, 1, 7, 2.5, None, "5", 2**53, {})),
    max_size=2,
)


@given(ODD_TIMINGS, st.permutations([*TIMINGS]), st.sets(st.sampled_from([*TIMINGS])))
def test_timings_are_read_as_if_they_had_been_put_right(
    odd: dict[str, Any], order: list[str], without: set[str]
) -> None:
    raw = {name: TIMINGS[name] for name in order if name not in without} | odd
    usage, tidy = timed_counts(raw), tidy_usage(raw)
    if usage is not None and usage.input_tokens and usage.output_tokens:
        assert tidy is not None and usage_of(tidy) == usage and [*tidy] == timed_fields(raw)


def test_what_llama_cpp_tells_with_each_token_is_known() -> None:
    assert timed_counts({**TIMINGS, "draft_n": 3}) == Usage(5, 1, 0, 2, 0)


AT_ONCE = """
import os, sys, threading
threading.excepthook = lambda _: os._exit(1)
import msgspec
from sseproxy.core.chat import Request
from sseproxy.core.plain_usage import plain_usage
TOOLS = {"tools": msgspec.Raw(b'[{"type":"function","function":{"name":"f"}}]')}
sys.setswitchinterval(1e-6)
together = threading.Barrier(16)
def first():
    together.wait()
    assert Request("chat", TOOLS, "m", False, False, 1).tools() == {"f"}
    assert plain_usage({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}) is not None
threads = [threading.Thread(target=first) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_many_threads_may_be_the_first_to_look() -> None:
    for _ in range(8):  # what msgspec puts together at a type's first use is no matter for two threads: they crash
        assert subprocess.run([sys.executable, "-c", AT_ONCE], check=False).returncode == 0
