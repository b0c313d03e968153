"""The price table: found offline, and to the nano-USD what its authors compute."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import data_snapshot

from sseproxy.core.pricing import cost_of
from sseproxy.core.tokens_apart import PART_OF
from sseproxy.core.usage import Usage, tidy_usage, usage_of
from sseproxy.prices import TablePrice, find_price, usd_per_million

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("model", "url", "found"),
    [
        ("gpt-4o-mini", None, "openai/gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", None, "openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini", None, "openai/gpt-4o-mini"),
        ("gpt-4o-mini", "https://api.openai.com/v1", "openai/gpt-4o-mini"),
        ("gpt-4o-mini", "http://127.0.0.1:9100/v1", "openai/gpt-4o-mini"),
        ("text-embedding-3-small", None, "openai/text-embedding-3-small"),
        ("claude-3-5-sonnet-20241022", "https://api.anthropic.com", "anthropic/claude-3-5-sonnet"),
        ("anthropic/claude-3-5-sonnet-20241022", None, "anthropic/claude-3-5-sonnet"),
        ("openai/gpt-4o-mini", "https://openrouter.ai/api/v1", "openrouter/openai/gpt-4o-mini"),
    ],
)
def test_a_model_is_found_by_any_of_its_names(model: str, url: str | None, found: str) -> None:
    price = find_price(model, url)

    assert price is not None
    assert price.source.startswith("genai-prices ")
    assert price.source.endswith(f": {found}")


@pytest.mark.parametrize("model", ["", "/", "demo", "my-own-model", "a/b/c/d/e/f/g", "x" * 10_000, "openai/"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert find_price(model) is None
    assert find_price(model, "https://api.openai.com/v1") is None


def test_the_price_of_a_known_model() -> None:
    price = find_price("gpt-4o-mini")

    assert price is not None
    assert price.cost(Usage(1000, cached_input_tokens=400, output_tokens=50), NOW) == 150_000
    assert usd_per_million(price, "input", NOW) == Decimal("0.15")
    assert usd_per_million(price, "cached_input", NOW) == Decimal("0.075")
    assert usd_per_million(price, "output", NOW) == Decimal("0.6")


AUDIO = {
    "prompt_tokens": 1000,
    "completion_tokens": 1000,
    "prompt_tokens_details": {"audio_tokens": 900},
    "completion_tokens_details": {"audio_tokens": 800},
}

CACHED = {"audio_tokens": 900, "cached_tokens": 500}


@pytest.mark.parametrize(
    ("model", "reported", "usd"),
    [
        ("gpt-audio", AUDIO, "0.08225"),
        ("gpt-4o", AUDIO, "0.0125"),
        ("gemini-2.5-flash", AUDIO, "0.00343"),
        ("gpt-audio", {**AUDIO, "prompt_tokens_details": {"audio_tokens": 900, "cached_tokens": 500}}, "0.08225"),
        ("gemini-2.5-flash", {**AUDIO, "prompt_tokens_details": CACHED}, "0.003015"),
        (
            "gemini-2.5-flash",
            {**AUDIO, "prompt_tokens_details": {**CACHED, "cached_tokens_details": {"audio_tokens": 450}}},
            "0.0030115",
        ),
        (
            "claude-sonnet-4-5",
            {
                "prompt_tokens": 100_010,
                "completion_tokens": 100,
                "cache_creation_input_tokens": 100_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 100_000},
            },
            "0.60153",
        ),
    ],
)
def test_tokens_that_the_table_prices_apart_cost_what_it_says(model: str, reported: dict[str, Any], usd: str) -> None:
    price = find_price(model)
    tidy = tidy_usage(reported)

    assert price is not None and tidy is not None
    assert price.cost(usage_of(tidy), NOW) == Decimal(usd) * 10**9


def test_counts_that_contradict_each_other_cost_no_more_than_all_tokens_at_their_dearest() -> None:
    price = find_price("gpt-audio")

    assert price is not None
    assert price.cost(Usage(10, 20, apart=(("input_audio", 900),)), NOW) == 20 * 32_000
    assert price.cost(Usage(10, output_tokens=5, apart=(("output_audio", 7), ("input_audio", 30))), NOW) == (
        10 * 32_000 + 5 * 64_000
    )


def test_a_model_that_its_vendor_says_is_free_is_free_whatever_the_table_says() -> None:
    assert cost_of(Usage(1000, output_tokens=50, cost=0), find_price("gpt-4o-mini"), NOW) == 0


def test_what_is_remembered_of_strange_names_is_bounded() -> None:
    for number in range(5000):
        find_price(f"no-such-model-{number}")

    assert find_price.cache_info().currsize <= 4096


def _edges_of(prices: Any) -> list[int]:
    """Where tiers begin, and one token later."""
    tiers = getattr(getattr(prices, "input_mtok", None), "tiers", [])
    return [size for tier in tiers for size in (tier.start, tier.start, tier.start + 1)]


def _some_apart(counts: dict[str, int], dice: random.Random) -> dict[str, int]:
    """Of every second request some tokens of each kind that any model prices apart, out of what there is."""
    apart = {}
    for kind, whole in PART_OF.items() if dice.random() < 0.5 else ():
        apart[kind] = dice.randint(0, counts[whole])
        counts[whole] -= apart[kind]
    return apart


def _as_authors_count(apart: dict[str, int]) -> dict[str, int]:
    """To them what a cache holds of the audio is audio too."""
    theirs = {f"{kind}_tokens": count for kind, count in apart.items()}
    for medium in ("audio", "image", "video") if apart else ():
        theirs[f"input_{medium}_tokens"] += apart[f"cache_{medium}_read"]
    return theirs


def test_every_price_of_the_table_is_what_its_authors_compute() -> None:
    dice = random.Random(7)
    wrong = []
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            size = dice.choice([0, 10, 1000, 1_000_000, *_edges_of(model.get_prices(NOW))])
            cached = dice.randint(0, size)
            written = dice.randint(0, size - cached)
            output = dice.randint(0, 5000)
            counts = {"input": size - cached - written, "cache_read": cached, "cache_write": written, "output": output}
            apart = _some_apart(counts, dice)
            usage = Usage(size, cached, written, output, apart=tuple(apart.items()) or None)
            theirs = TableUsage(
                input_tokens=size,
                cache_read_tokens=cached,
                cache_write_tokens=written,
                output_tokens=output,
                **_as_authors_count(apart),
            )
            expected = model.calc_price(theirs, provider, genai_request_timestamp=NOW).total_price * 10**9
            if abs(TablePrice(model, "").cost(usage, NOW) - expected) > 1:
                wrong.append((provider.id, model.id, usage))

    assert wrong == []


def test_the_table_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a price was asked from the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    find_price.cache_clear()

    assert find_price("gpt-4o") is not None


def test_the_table_is_loaded_at_the_first_question() -> None:
    code = "import sys, sseproxy.prices; sys.exit('genai_prices' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
