"""Tokens that some models price apart, as vendors tell of them."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.core.tokens_apart import TokensApart
from sseproxy.core.usage import tidy_usage, usage_of

PLAIN = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
WRITTEN = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}


def apart(raw: dict[str, Any], **how: Any) -> TokensApart | None:
    tidy = tidy_usage(raw, **how)
    assert tidy is not None
    return usage_of(tidy).apart


@pytest.mark.parametrize(
    ("details", "found"),
    [
        ({"prompt_tokens_details": {"audio_tokens": 9, "text_tokens": 91}}, {"input_audio": 9}),
        ({"input_tokens_details": {"image_tokens": 9}}, {"input_image": 9}),
        ({"completion_tokens_details": {"audio_tokens": 8, "reasoning_tokens": 2}}, {"output_audio": 8}),
        ({"output_tokens_details": {"image_tokens": 8}}, {"output_image": 8}),
        (
            {"prompt_tokens_details": {"audio_tokens": 9, "cached_tokens_details": {"audio_tokens": 4}}},
            {"cache_audio_read": 4, "input_audio": 5},
        ),
        (
            {"prompt_tokens_details": {"cache_creation_tokens": 50, "cache_creation_token_details": WRITTEN}},
            {"cache_write_1h": 30},
        ),
    ],
)  # fmt: skip
def test_each_vendor_s_details_are_read(details: dict[str, Any], found: dict[str, int]) -> None:
    assert dict(apart({**PLAIN, **details}) or ()) == found


def test_what_anthropic_writes_for_an_hour_is_told_from_the_rest() -> None:
    raw = {"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 50, "cache_creation": WRITTEN}

    assert apart(raw, exclusive=True) == (("cache_write_1h", 30),)


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}},
        {"prompt_tokens_details": {"audio_tokens": None}, "completion_tokens_details": {"audio_tokens": -1}},
        {"prompt_tokens_details": {"audio_tokens": "9"}, "cache_creation": 30},
        {"cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0}},
    ],
)
def test_an_answer_of_nothing_but_text_has_none(details: dict[str, Any]) -> None:
    assert apart({**PLAIN, **details}) is None
