"""config/allowance, config/limits and auth.jwt: what is accepted, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from sseproxy.config import Config
from sseproxy.core.allowance import Budget, Limits, Rate
from sseproxy.users import Users
from sseproxy.wsgi.exchange import User

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]
PEM = (
    "-----BEGIN PUBLIC KEY-----\\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n"
    "-----END PUBLIC KEY-----\\n"
)


def test_a_user_has_what_is_said_of_them_and_everybody_else_the_defaults(load: Load) -> None:
    users = Users(
        load(
            """\
            users:
              alice: {budget: {usd: "5.00", per: week}, limits: {requests: 60/minute, tokens: 100000/hour, streams: 8}}
              bob: {budget: , limits: }
            defaults: {models: [gpt-*], budget: {usd: 0.1}, limits: {streams: "2"}}
            """
        )
    )

    assert users.find("alice") == User(
        "alice", budget=Budget(5 * 10**9, "week"), limits=Limits(Rate(60, 60), Rate(100_000, 3600), 8)
    )
    assert users.find("bob") == User("bob")
    assert users.find("carol") == User(
        "carol", models=("gpt-*",), budget=Budget(10**8, "month"), limits=Limits(streams=2)
    )


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/minute", Rate(60, 60)),
        ("5/second", Rate(5, 1)),
        ("1000/hour", Rate(1000, 3600)),
        ("9/day", Rate(9, 86400)),
    ],
)
def test_frequencies(load: Load, text: str, rate: Rate) -> None:
    limits = load(f"defaults: {{limits: {{requests: {text}}}}}").defaults.limits

    assert limits is not None and limits.requests == rate


@pytest.mark.parametrize(
    "text",
    ["60", "0/minute", "-1/minute", "60/fortnight", "60/", "/minute", "1.5/minute", "[]",
     "60/minutes", "60 per minute", "60 / minute", "1_0_/minute"],
)  # fmt: skip
def test_what_is_no_frequency_is_refused(problems: Problems, text: str) -> None:
    hint = " (did you mean 60/minute?)" if text == "60" else ""

    assert problems(f"defaults: {{limits: {{requests: {text}}}}}") == [
        "config.yaml:1: defaults.limits.requests: expected so many per second, minute, hour or day, such as 60/minute"
        + hint
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "users.a.budget.usd: missing"),
        ('{usd: "-1"}', "expected USD as a decimal in quotes"),
        ("{usd: much}", "expected USD as a decimal in quotes"),
        ('{usd: "1", per: year}', "expected day, week, month or total"),
        ('{usd: "1", per: moth}', "(did you mean month?)"),
    ],
)
def test_what_is_no_budget_is_refused(problems: Problems, text: str, words: str) -> None:
    assert words in problems(f"users: {{a: {{budget: {text}}}}}")[0]


def test_streams_are_some(problems: Problems) -> None:
    assert "1 to 100000 streams" in problems("defaults: {limits: {streams: 0}}")[0]


@pytest.mark.parametrize("store", ["memory://", "redis://h:6379/0", "rediss://:secret@h/1", "redis+unix:///run/r.sock"])
def test_stores_of_limits(load: Load, store: str) -> None:
    config = load(f"limits: {{store: '{store}'}}")

    assert config.limits.store.get_secret_value() == store
    assert "secret" not in repr(config)


@pytest.mark.parametrize("store", ["memory", "memory://x", "memcached://h", "redis:", "h:6379", "3"])
def test_other_stores_are_refused_without_being_repeated(problems: Problems, store: str) -> None:
    (problem,) = problems(f"limits: {{store: '{store}'}}")

    assert "expected memory:// or a Redis address" in problem


@pytest.mark.parametrize(
    "keys", ["secret: 0123456789abcdef0123456789abcdef", "jwks_url: https://i.example/keys", f'public_key: "{PEM}"']
)
def test_each_kind_of_key_for_tokens_makes_a_verifier(load: Load, keys: str) -> None:
    section = load(f"auth: {{jwt: {{{keys}, issuer: i, audience: a, user_claim: email}}}}").auth.jwt

    assert section is not None
    assert callable(section.verifier())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("{}", "exactly one of jwks_url, secret and public_key"),
        ("{secret: a, jwks_url: 'https://x/'}", "exactly one of jwks_url, secret and public_key"),
        ("{secret: ''}", "a secret that is not empty"),
        ("{jwks_url: 'file:///etc/passwd'}", "http:// or https:// address"),
        ("{jwks_url: 'https://['}", "http:// or https:// address"),
        ("{jwks_url: 'https://x:99999/'}", "http:// or https:// address"),
        ("{public_key: hello}", "expected a public key in PEM"),
        ("{secret: a, algorithms: [none]}", "expected some of HS256"),
        ("{secret: a, algorithms: [RS256]}", "HS256, HS384 and HS512 are for a secret"),
        ("{jwks_url: 'https://x/', algorithms: [HS256]}", "HS256, HS384 and HS512 are for a secret"),
    ],
)
def test_tokens_that_could_not_be_checked_safely_are_a_problem_now(problems: Problems, keys: str, words: str) -> None:
    assert words in problems(f"auth: {{jwt: {keys}}}")[0]


def test_a_secret_in_plain_text_is_warned_of_and_never_shown(load: Load) -> None:
    config = load("auth: {jwt: {secret: hunter2-very-secret-hunter2-very-se}}")

    assert [warning.key for warning in config.warnings] == ["auth.jwt.secret"]
    assert "hunter2" not in repr(config) + str(config.warnings)


def test_a_secret_that_can_be_found_by_trying_is_warned_of(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x" * 31)

    (warning,) = load("auth: {jwt: {secret: '${SECRET}'}}").warnings

    assert str(warning) == "config.yaml:1: auth.jwt.secret: 31 bytes; tokens are safe from forgery with 32 or more"


def test_prices_and_budgets_are_money(load: Load) -> None:
    budget = load('users: {a: {budget: {usd: "0.000000001"}}}').users["a"].budget

    assert budget is not None and budget.usd == Decimal("0.000000001")
