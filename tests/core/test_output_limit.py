"""How many tokens of output a request allows."""

from __future__ import annotations

import json

import pytest

from sseproxy.core.chat import Api, Request
from sseproxy.core.output_limit import output_limit


@pytest.mark.parametrize(
    ("api", "field"),
    [
        ("chat", "max_tokens"),
        ("chat", "max_completion_tokens"),
        ("completions", "max_tokens"),
        ("responses", "max_output_tokens"),
        ("messages", "max_tokens"),
    ],
)
def test_the_output_limit_is_read_under_the_names_that_it_has_in_its_api(api: Api, field: str) -> None:
    body = b'{"model":"m","messages":[],"prompt":"","%s":7}' % field.encode()

    assert output_limit(Request.parse(api, body)) == 7


@pytest.mark.parametrize(
    ("api", "field"),
    [
        ("chat", "max_output_tokens"),
        ("chat", "n_predict"),
        ("completions", "max_completion_tokens"),
        ("responses", "max_tokens"),
        ("chat", "other"),
    ],
)
def test_a_limit_by_the_name_of_another_api_limits_nothing(api: Api, field: str) -> None:
    body = b'{"model":"m","messages":[],"prompt":"","%s":7}' % field.encode()

    assert output_limit(Request.parse(api, body)) is None


@pytest.mark.parametrize("limits", [(1, 900), (900, 1), (900, None), (0, 900)])
def test_of_several_limits_the_largest_counts(limits: tuple[int | None, int | None]) -> None:
    fields = dict(zip(("max_completion_tokens", "max_tokens"), limits, strict=True))

    request = Request.parse("chat", json.dumps({"model": "m", "messages": [], **fields}).encode())

    assert output_limit(request) == 900


@pytest.mark.parametrize("other", [b'"max_output_tokens":900', b'"n_predict":900'])
def test_a_larger_limit_that_an_upstream_may_read_beside_its_api_s_own_counts(other: bytes) -> None:
    body = b'{"model":"m","messages":[],"max_tokens":1,%s}' % other

    assert output_limit(Request.parse("chat", body)) == 900


@pytest.mark.parametrize("other", [b'"n_predict":-1', b'"n_predict":-1.0', b'"max_completion_tokens":-1'])
def test_a_limit_that_an_upstream_may_read_as_lifted_by_another_is_none(other: bytes) -> None:
    body = b'{"model":"m","messages":[],"max_tokens":1,%s}' % other

    assert output_limit(Request.parse("chat", body)) is None


@pytest.mark.parametrize("value", [b'"900"', b"900.0", b'" +900.0"'])
def test_a_limit_is_read_as_generously_as_upstreams_read_it(value: bytes) -> None:
    body = b'{"model":"m","messages":[],"max_tokens":1,"max_completion_tokens":%s}' % value

    assert output_limit(Request.parse("chat", body)) == 900


@pytest.mark.parametrize("value", [b'"many"', b"null", b"-1", b"0", b"true", b"[7]"])
def test_what_is_no_limit_is_left_for_the_upstream_to_judge(value: bytes) -> None:
    body = b'{"model":"m","messages":[],"max_tokens":%s}' % value

    assert output_limit(Request.parse("chat", body)) is None
