"""Usage from wherever vendors put it."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.usage import TotalAlone, Usage, find_usage, openai_usage, read_usage, tidy_usage, usage_of
from sseproxy.core.usage_so_far import merge_fields, merge_usage

PLAIN = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@pytest.mark.parametrize(
    "payload",
    [
        {"usage": PLAIN},
        {"x_groq": {"usage": PLAIN}},
        {"choices": [{"usage": PLAIN}]},
        {"choices": [{}, {"usage": PLAIN}]},
        {"response": {"usage": PLAIN}},
        {"usage": None, "x_groq": {"usage": PLAIN}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}, "choices": [{"usage": PLAIN}]},
        {"timings": {"prompt_n": 5, "predicted_n": 2, "prompt_ms": 0.5}},
        {"done": True, "prompt_eval_count": 5, "eval_count": 2},
        {"usage": {"input_tokens": 5, "output_tokens": 2}},
        {"usage": {"prompt_tokens": "5", "completion_tokens": 2.0, "total_tokens": "7"}},
        {"usage": {"promptTokens": 5, "completionTokens": 2}},
        {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}},
        {"usage": {"completion_tokens": 2, "total_tokens": 7}},
    ],
)
def test_the_same_usage_is_found_in_every_place(payload: dict[str, Any]) -> None:
    assert read_usage(payload) == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"usage": None},
        {"usage": []},
        {"usage": {}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        {"usage": {"prompt_tokens": True, "completion_tokens": None}},
        {"usage": {"prompt_tokens": -3, "completion_tokens": "many"}},
        {"usage": {"prompt_tokens": 1e300, "completion_tokens": float("nan")}},
        {"choices": [{"usage": None}, None]},
    ],
)
def test_what_says_nothing_is_not_reported(payload: dict[str, Any]) -> None:
    assert read_usage(payload) is None


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({**PLAIN, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 3, 0, 2)),
        ({**PLAIN, "prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 2}, Usage(5, 3, 0, 2)),
        ({**PLAIN, "prompt_tokens_details": {"cached_tokens": 0}, "cache_read_input_tokens": 3}, Usage(5, 3, 0, 2)),
        ({**PLAIN, "prompt_tokens_details": {"cache_write_tokens": 4}}, Usage(5, 0, 4, 2)),
        ({**PLAIN, "prompt_tokens_details": {"created_cache_tokens": 4}}, Usage(5, 0, 4, 2)),  # vLLM's
        ({**PLAIN, "completion_tokens_details": {"reasoning_tokens": 1}}, Usage(5, 0, 0, 2, 1)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "cache_read_input_tokens": 9}, Usage(14, 9, 0, 2)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 19, "cache_read_input_tokens": 8},
            Usage(17, 8, 0, 2),
        ),
        (
            {
                "inputTokens": 11,
                "outputTokens": 22,
                "totalTokens": 39,
                "cacheReadInputTokens": 4,
                "cacheWriteInputTokens": 2,
            },
            Usage(17, 4, 2, 22),
        ),
        (
            {"inputTokens": 11, "outputTokens": 22, "totalTokens": 33, "cachedInputTokens": 4, "reasoningTokens": 5},
            Usage(11, 4, 0, 22, 5),
        ),
        (  # LangChain's
            {
                "input_tokens": 11,
                "output_tokens": 22,
                "total_tokens": 33,
                "input_token_details": {"cache_read": 4, "cache_creation": 2},
                "output_token_details": {"reasoning": 5},
            },
            Usage(11, 4, 2, 22, 5),
        ),
    ],
)
def test_cached_written_and_reasoning_tokens_are_subsets(raw: dict[str, Any], usage: Usage) -> None:
    assert read_usage({"usage": raw}) == usage


def test_reasoning_left_out_is_folded_only_where_the_counts_prove_it() -> None:
    def usage(output: int, reasoning: int, total: int) -> Usage | None:
        details = {"completion_tokens_details": {"reasoning_tokens": reasoning}}
        return read_usage({"usage": {**PLAIN, **details, "completion_tokens": output, "total_tokens": total}})

    assert usage(12, 10, 27) == Usage(5, 0, 0, 22, 10)
    assert usage(12, 10, 17) == Usage(5, 0, 0, 12, 10)
    assert usage(12, 10, 30) == Usage(5, 0, 0, 12, 10)
    assert usage(2, 10, 7) == usage(2, 10, 17) == usage(2, 10, 20) == Usage(5, 0, 0, 12, 10)
    assert usage(10, 10, 15) == Usage(5, 0, 0, 10, 10)


@pytest.mark.parametrize(
    ("thoughts", "usage"),
    [({}, Usage(36, 0, 0, 45)), ({"thoughtsTokenCount": 31}, Usage(36, 0, 0, 76, 31)),
     ({"thoughtsTokenCount": 50}, Usage(36, 0, 0, 95, 50))],
)  # fmt: skip
def test_what_gemini_s_own_tools_gave_it_is_input_where_the_total_has_it(
    thoughts: dict[str, int], usage: Usage
) -> None:
    counts = {"promptTokenCount": 27, "toolUsePromptTokenCount": 9, "candidatesTokenCount": 45, **thoughts}
    tidy = tidy_usage({**counts, "totalTokenCount": sum(counts.values())})

    assert tidy is not None
    assert tidy_usage(tidy) == tidy
    assert usage_of(tidy) == usage
    assert read_usage({"usageMetadata": {**counts, "totalTokenCount": sum(counts.values()) - 9}}) != usage


@pytest.mark.parametrize(("output", "reasoning"), [(2, {}), (6, {"reasoning_tokens": 4})])
def test_audio_of_the_prompt_is_input_where_the_total_has_it_beside_the_prompt(
    output: int, reasoning: dict[str, int]
) -> None:
    """Voxtral's, as recorded by ruby_llm: it was taken for reasoning."""
    details = {"prompt_tokens_details": {"audio_tokens": 30}, "completion_tokens_details": reasoning}
    tidy = tidy_usage({**PLAIN, "total_tokens": 5 + 30 + output, **details})

    assert tidy is not None
    assert tidy_usage(tidy) == tidy
    usage = usage_of(tidy)
    assert (usage.input_tokens, usage.output_tokens, usage.apart) == (35, output, (("input_audio", 30),))
    inside = tidy_usage({**PLAIN, "prompt_tokens": 35, "total_tokens": 37, **details})
    assert inside is not None and inside["prompt_tokens"] == 35


@pytest.mark.parametrize("raw", [{"total_tokens": 9}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 9}])
def test_of_a_total_alone_nothing_is_made_up(raw: dict[str, Any]) -> None:
    tidy = tidy_usage(raw)

    assert tidy == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 9} == tidy_usage(tidy)
    assert read_usage({"usage": raw}) == TotalAlone(input_tokens=9)


def test_a_total_that_counts_more_is_output_unless_switched_off() -> None:
    raw = {**PLAIN, "total_tokens": 20}
    assert read_usage({"usage": raw}) == Usage(5, 0, 0, 15, 13)
    found = tidy_usage(raw, fold=False)
    assert found is not None and usage_of(found) == Usage(5, 0, 0, 2)


def test_anthropic_counts_are_exclusive_and_added() -> None:
    found = tidy_usage(
        {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 2},
        exclusive=True,
    )
    assert found is not None and usage_of(found) == Usage(10, 3, 2, 2)


ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 0}}


@pytest.mark.parametrize(
    "raw",
    [
        {
            **ZEROS,
            "total_tokens": 7,
            "input_tokens": 5,
            "output_tokens": 2,
            "input_tokens_details": {"cached_tokens": 3},
        },
        {**PLAIN, "input_tokens": 0, "output_tokens": 0, "prompt_tokens_details": {}, "cached_tokens": 3},
        {**PLAIN, "prompt_tokens_details": {"cached_tokens": 3}, "input_tokens_details": {"cached_tokens": 0}},
        {**PLAIN, "prompt_cache_hit_tokens": 3, "cached_tokens": 0},
    ],
)
def test_a_zero_by_one_name_takes_nothing_from_a_count_by_another(raw: dict[str, Any]) -> None:
    assert read_usage({"usage": raw}) == Usage(5, 3, 0, 2)


COMPACTION = {"type": "compaction", "input_tokens": 100, "cache_read_input_tokens": 30, "output_tokens": 40}
ITERATION = {"type": "message", "input_tokens": 5, "output_tokens": 2}
ADVICE = {"type": "advisor_message", "input_tokens": 900, "output_tokens": 900}


@pytest.mark.parametrize(
    ("stated", "iterations", "usage"),
    [
        ((5, 2), [COMPACTION, ITERATION], Usage(135, 30, 0, 42)),
        ((5, 2), [COMPACTION, None, ITERATION, ADVICE], Usage(135, 30, 0, 42)),
        ((0, 0), [COMPACTION], Usage(130, 30, 0, 40)),
        ((10, 4), [COMPACTION, ITERATION, COMPACTION, ITERATION], Usage(270, 60, 0, 84)),
        ((135, 42), [COMPACTION, ITERATION], Usage(135, 0, 0, 42)),
        ((5, 2), [ITERATION, ADVICE], Usage(5, 0, 0, 2)),
        ((5, 2), None, Usage(5, 0, 0, 2)),
    ],
)
def test_what_a_compaction_took_is_added_where_the_counts_leave_it_out(
    stated: tuple[int, int], iterations: Any, usage: Usage
) -> None:
    found = tidy_usage(
        {"input_tokens": stated[0], "output_tokens": stated[1], "iterations": iterations}, exclusive=True
    )
    assert found is not None and usage_of(found) == usage
    assert tidy_usage(found) == found


@pytest.mark.parametrize(
    ("further", "usage"),
    [
        ({}, Usage(110, 30, 20, 9)),
        ({"total_tokens": 69}, Usage(60, 30, 20, 9)),
        ({"prompt_tokens": 60, "completion_tokens": 9}, Usage(60, 30, 20, 9)),
    ],
)
def test_a_usage_of_anthropic_s_is_read_as_such_wherever_it_stands(further: dict[str, Any], usage: Usage) -> None:
    fields = {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 20, "output_tokens": 9}
    assert read_usage({"usage": {"input_tokens": 60, **fields, **further}}) == usage
    found = tidy_usage({"input_tokens": 60, **fields})
    assert found is not None and tidy_usage(found) == found


@pytest.mark.parametrize(("cached", "prompt"), [(5, 20), (20, 5), (0, 25)])
def test_llama_cpp_s_timings_are_exclusive(cached: int, prompt: int) -> None:
    timings = {"cache_n": cached, "prompt_n": prompt, "prompt_ms": 30.9, "predicted_n": 8}
    assert read_usage({"timings": timings}) == read_usage({"usage": timings}) == Usage(25, cached, 0, 8)
    assert read_usage({"usage": {**PLAIN, "cache_n": 3}, "timings": timings}) == Usage(5, 3, 0, 2)


@pytest.mark.parametrize(
    ("fields", "nano"),
    [
        ({"cost": 0.00095}, 950_000),
        ({"cost": 7.5e-07}, 750),
        ({"cost": "0.0000001"}, 100),
        ({"cost": 0}, 0),
        ({"cost_in_usd_ticks": 1_721_250}, 172_125),
        ({"cost_in_usd_ticks": 123_456_789_012}, 12_345_678_901),
        ({"cost_in_usd_ticks": "1e999999"}, None),
        ({"cost": {"request_cost": 0.005, "total_cost": 0.005007}}, 5_007_000),
        ({"estimated_cost": 1.5e-06}, 1_500),
        ({"cost": 5e-05, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.00095}}, 1_000_000),
        ({"cost": 5e-05, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.00095}}, 50_000),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0}}, 0),
        ({"cost": 0, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, 0),
        ({"cost": None}, None),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": "free"}, None),
        ({"cost": {"total": 1}}, None),
        ({"cost": float("inf")}, None),
    ],
)
def test_the_vendors_cost_is_nano_usd_without_a_float_in_between(fields: dict[str, Any], nano: int | None) -> None:
    usage = read_usage({"usage": {**PLAIN, **fields}})
    assert usage is not None and usage.cost == nano


def test_a_cost_beside_the_usage_is_taken() -> None:
    assert read_usage({"usage": PLAIN, "cost": "0.001"}) == Usage(5, 0, 0, 2, 0, 1_000_000)


def test_fields_nobody_knows_are_kept() -> None:
    found = find_usage({"usage": {**PLAIN, "num_sources_used": 4, "prompt_tokens_details": {"audio_tokens": 1}}})
    assert found is not None
    assert found["num_sources_used"] == 4
    assert found["prompt_tokens_details"] == {"audio_tokens": 1}


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN,
        {"input_tokens": 5, "output_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": 2, "cache_read_input_tokens": 9},
        {**PLAIN, "total_tokens": 99},
        {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 10}},
        {"reasoning_tokens": 3},
        {**PLAIN, "cost": 1e-6, "is_byok": True, "cost_details": {"upstream_inference_cost": 1e-3}},
        {**PLAIN, "cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0}},
        {**PLAIN, "cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}},
        {**PLAIN, "cost": {"total_cost": 1e-3}},
        {**PLAIN, "cost_in_usd_ticks": 5},
    ],
)
def test_tidying_twice_is_tidying_once(raw: dict[str, Any]) -> None:
    once = tidy_usage(raw)
    assert once is not None and tidy_usage(once) == once


def test_the_last_usage_wins_and_nothing_erases() -> None:
    first, last = tidy_usage({"prompt_tokens": 5, "completion_tokens": 1}), tidy_usage(PLAIN)
    assert merge_usage(first, last) == last
    assert merge_usage(last, None) == last
    assert merge_usage(None, None) is None


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (({"prompt_tokens": 5, "completion_tokens": 0}, {"prompt_tokens": 0, "completion_tokens": 2}), PLAIN),
        ((PLAIN, {"prompt_tokens": 5, "completion_tokens": 0}), PLAIN),
        (({**PLAIN, "cost": 0.5}, {"prompt_tokens": 5, "completion_tokens": 0}), {**PLAIN, "cost": 0.5}),
        (
            (
                {
                    "prompt_tokens": 5,
                    "completion_tokens": 1,
                    "prompt_tokens_details": {"cached_tokens": 3},
                    "cost": 0.5,
                },
                {"prompt_tokens": 0, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}},
            ),
            {**PLAIN, "prompt_tokens_details": {"cached_tokens": 3}},
        ),
    ],
)
def test_a_zero_erases_no_count_that_was_told_before(told: tuple[dict[str, Any], ...], known: dict[str, Any]) -> None:
    assert merge_usage(*map(tidy_usage, told)) == known


def test_a_zero_or_null_of_a_message_delta_erases_nothing() -> None:
    start = {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1}
    delta = {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 2, "service_tier": None, "new": 0}
    assert merge_fields(start, delta) == {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 2, "new": 0}


def test_a_repeated_usage_keeps_what_only_the_first_one_said() -> None:
    first = tidy_usage({**PLAIN, "cost": 0.5})
    assert merge_usage(first, tidy_usage(PLAIN)) == first


def test_openai_usage_reads_back_as_itself() -> None:
    usage = Usage(10, 4, 1, 6, 2, 1_234_567)
    written = openai_usage(usage)
    assert written["total_tokens"] == 16
    assert written["cost"] == 0.001234567
    assert read_usage({"usage": written}) == usage
    assert "cost" not in openai_usage(Usage(1))


def test_what_the_total_has_beyond_both_counts_is_the_reasoning_where_it_is_as_much_as_the_cached() -> None:
    usage = read_usage(
        {
            "usage": {
                "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 160,
                "prompt_tokens_details": {"cached_tokens": 50}, "completion_tokens_details": {"reasoning_tokens": 50},
            }
        }
    )  # fmt: skip

    assert usage == Usage(input_tokens=100, cached_input_tokens=50, output_tokens=60, reasoning_tokens=50)
