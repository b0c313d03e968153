"""Money is exact."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.pricing import FlatPrice, cost_of, nano_to_usd, usd_to_nano
from sseproxy.core.usage import Usage

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
MINI = FlatPrice(input=Decimal("0.15"), output=Decimal("0.60"), cached_input=Decimal("0.075"))


@pytest.mark.parametrize(
    ("nano", "usd"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (172_125, "0.000172125"),
        (150_000_000, "0.15"),
        (5 * 10**9, "5"),
        (-1_500_000_000, "-1.5"),
        (10**30, "1000000000000000000000"),
    ],
)
def test_an_amount_is_shown_exactly_and_without_an_exponent(nano: int, usd: str) -> None:
    assert nano_to_usd(nano) == usd
    assert usd_to_nano(usd) == nano


@given(st.integers(min_value=-(10**38), max_value=10**38))
def test_every_amount_survives_being_shown(nano: int) -> None:
    assert usd_to_nano(nano_to_usd(nano)) == nano


@pytest.mark.parametrize(("usd", "nano"), [("7.5e-07", 750), ("0.0000000005", 1), ("5.00", 5 * 10**9), (5, 5 * 10**9)])
def test_an_amount_is_read_in_any_notation(usd: str | int, nano: int) -> None:
    assert usd_to_nano(usd) == nano


@pytest.mark.parametrize("usd", ["", "five", "nan", "Infinity", "1e999999999", "1,5"])
def test_what_is_no_amount_is_refused(usd: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        usd_to_nano(usd)


def test_each_kind_of_token_has_its_price() -> None:
    usage = Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=50)

    assert MINI.cost(usage, NOW) == 600 * 150 + 400 * 75 + 50 * 600


def test_cached_tokens_cost_as_much_as_others_unless_said() -> None:
    price = FlatPrice(input=Decimal(3), output=Decimal(15))

    assert price.cost(Usage(1000, cached_input_tokens=400, cache_write_tokens=100), NOW) == 3_000_000


def test_a_cache_can_be_free() -> None:
    price = FlatPrice(input=Decimal(3), output=Decimal(15), cached_input=Decimal(0), cache_write=Decimal("3.75"))

    assert price.cost(Usage(1000, cached_input_tokens=400, cache_write_tokens=100), NOW) == 500 * 3000 + 100 * 3750


def test_subsets_larger_than_their_whole_are_no_discount() -> None:
    assert MINI.cost(Usage(input_tokens=10, cached_input_tokens=30), NOW) == 30 * 75


def test_a_charge_is_rounded_once_and_half_up() -> None:
    price = FlatPrice(input=Decimal("0.0005"), output=Decimal("0.0001"))

    assert price.cost(Usage(input_tokens=1), NOW) == 1
    assert price.cost(Usage(input_tokens=0, output_tokens=4), NOW) == 0
    assert price.cost(Usage(input_tokens=1, output_tokens=4), NOW) == 1


TOKENS = st.integers(min_value=0, max_value=10**12)
RATE = st.decimals(min_value=0, max_value=10**6, places=6)


@given(TOKENS, TOKENS, TOKENS, TOKENS, RATE, RATE, RATE, RATE)
def test_a_cost_is_the_exact_sum_rounded_half_up(
    plain: int, cached: int, written: int, output: int, of_plain: Decimal, of_cached: Decimal, of_written: Decimal,
    of_output: Decimal,
) -> None:  # fmt: skip
    price = FlatPrice(of_plain, of_output, of_cached, of_written)
    usage = Usage(plain + cached + written, cached, written, output)

    with localcontext(Context(prec=60)):
        exact = 1000 * (plain * of_plain + cached * of_cached + written * of_written + output * of_output)
        assert price.cost(usage, NOW) == exact.to_integral_value(ROUND_HALF_UP)


def test_what_the_vendor_reports_beats_any_price() -> None:
    assert cost_of(Usage(1000, output_tokens=5, cost=42), MINI, NOW) == 42
    assert cost_of(Usage(1000, output_tokens=5, cost=0), None, NOW) == 0


def test_that_an_answer_costs_nothing_does_not_beat_what_the_operator_wrote() -> None:
    assert cost_of(Usage(1000, output_tokens=5, cost=0), MINI, NOW) == 153_000
    assert cost_of(Usage(cost=0), MINI, NOW) == 0


def test_without_a_price_a_request_costs_nothing() -> None:
    assert cost_of(Usage(1000, output_tokens=5), None, NOW) == 0
    assert cost_of(Usage(1000, output_tokens=5), MINI, NOW) == 153_000
