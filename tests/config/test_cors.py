"""config/cors: origins as they are written, and what is refused with what was expected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sseproxy.config import Config

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]


def test_nobody_is_allowed_unless_listed(load: Load) -> None:
    for text in ("", "cors:\n", "cors: {origins: }"):
        assert (load(text).cors.origins, load(text).cors.credentials) == ((), False)


def test_origins_are_kept_as_browsers_write_them(load: Load) -> None:
    section = load("cors: {origins: ['https://App.example.com:443', 'http://*.localhost:3000', 'null']}").cors

    assert section.origins == ("https://app.example.com", "http://*.localhost:3000", "null")


def test_an_origin_may_come_from_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSEPROXY_PAGE", "https://app.example.com")

    assert load("cors: {origins: ['${SSEPROXY_PAGE}'], credentials: true}").cors.origins == ("https://app.example.com",)


def test_a_bad_origin_is_named_by_its_place_with_what_was_expected(problems: Problems) -> None:
    assert problems("cors:\n  origins:\n    - https://ok.example\n    - https://app.example.com/\n") == [
        "config.yaml:4: cors.origins[1]: expected an origin, which ends with its host or port and has no path "
        "(did you mean https://app.example.com?)"
    ]
    assert problems("cors: {origins: [app.example.com]}") == [
        "config.yaml:1: cors.origins[0]: expected scheme and host, such as https://app.example.com "
        "(did you mean https://app.example.com?)"
    ]


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        ("[null]", 'the one that browsers call null is written "null", in quotes'),
        ("[3]", "expected an origin such as https://app.example.com, not a number"),
        ("'*'", "expected a list (`[…]`, or lines that begin with `- `), not text"),
        ("['https://*']", "expected `*` alone, or as the first part of a host"),
    ],
)
def test_what_is_no_origin_or_no_list(problems: Problems, origins: str, message: str) -> None:
    assert message in problems(f"cors: {{origins: {origins}}}")[0]


def test_every_origin_with_credentials_is_refused_and_the_message_says_why(problems: Problems) -> None:
    [problem] = problems("cors: {origins: ['*', 'https://a.example'], credentials: true}")

    assert problem.startswith(
        'config.yaml:1: cors: origins: ["*"] and credentials: true exclude each other: every page'
    )
