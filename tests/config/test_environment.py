"""References to the environment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sseproxy.config import Config

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "value"),
        ("a ${NAME} b ${NAME}", "a value b value"),
        ("${GONE:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${GONE:-}", ""),
        ("${NAME:-default}", "value"),
        ("$${NAME}", "${NAME}"),
        ("$NAME and $ and {NAME}", "$NAME and $ and {NAME}"),
        ("${RECURSIVE}", "${NAME}"),
    ],
)
def test_references_are_replaced_once(load: Load, monkeypatch: pytest.MonkeyPatch, text: str, result: str) -> None:
    monkeypatch.setenv("NAME", "value")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("RECURSIVE", "${NAME}")
    monkeypatch.delenv("GONE", raising=False)

    assert load(f"prompt: {{prefix: '{text}'}}").prompt.prefix == result


def test_numbers_flags_durations_and_sizes_may_come_from_the_environment(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("N", "7")
    monkeypatch.setenv("FLAG", "false")
    config = load(
        "server: {threads: '${N}', max_body: '${N}KiB'}\nauth: {required: '${FLAG}'}\nstreams: {keepalive: '${N}s'}"
    )

    assert (config.server.threads, config.server.max_body) == (7, 7168)
    assert (config.auth.required, config.streams.keepalive) == (False, 7)


def test_a_variable_that_is_not_set_is_one_problem_with_the_nearest_name(
    problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSEPROXY_TEST_KEY", "x")

    assert problems("server: {threads: '${SSEPROXY_TEST_KYE}'}") == [
        "config.yaml:1: server.threads: the environment variable SSEPROXY_TEST_KYE is not set"
        " (did you mean SSEPROXY_TEST_KEY?)"
    ]


@pytest.mark.parametrize("text", ["${NAME", "${}", "${A B}", "${1}"])
def test_a_malformed_reference_is_a_problem(problems: Problems, text: str) -> None:
    assert "expected ${VAR} or ${VAR:-default}" in problems(f"prompt: {{prefix: '{text}'}}")[0]
