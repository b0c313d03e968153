"""middleware/prompt: whose prefix applies."""

from __future__ import annotations

import pytest

from sseproxy.core.prompt import Prefix
from sseproxy.middleware.auth import AuthMiddleware
from sseproxy.middleware.credentials import ConfiguredKeys
from sseproxy.middleware.prompt import Prefixes, PromptMiddleware
from sseproxy.wsgi.exchange import User

from .apps import CHAT, Echo, error_of, post, request
from .test_auth import sha

PREFIXES = Prefixes(Prefix("for all"), models={"gpt-*": Prefix("for gpt")}, users={"alice": Prefix("for alice")})


def test_the_general_prefix_applies_without_a_better_one() -> None:
    echo = Echo()

    post(PromptMiddleware(echo, PREFIXES))

    assert echo.json["messages"][0]["content"] == "for all"


def test_a_model_s_prefix_beats_the_general_one() -> None:
    echo = Echo()

    post(PromptMiddleware(echo, PREFIXES), body={**CHAT, "model": "gpt-5"})

    assert echo.json["messages"][0]["content"] == "for gpt"


def test_a_user_s_prefix_beats_a_model_s() -> None:
    echo = Echo()
    app = AuthMiddleware(PromptMiddleware(echo, PREFIXES), [ConfiguredKeys({sha("k"): User("alice")})])

    post(app, body={**CHAT, "model": "gpt-5"}, Authorization="Bearer k")

    assert echo.json["messages"][0]["content"] == "for alice"


def test_a_user_s_empty_prefix_means_none() -> None:
    echo = Echo()
    prefixes = Prefixes(Prefix("for all"), users={"alice": Prefix("")})

    post(
        AuthMiddleware(PromptMiddleware(echo, prefixes), [ConfiguredKeys({sha("k"): User("alice")})]),
        Authorization="Bearer k",
    )

    assert echo.json == CHAT


def test_a_prompt_that_cannot_carry_the_prefix_is_400_and_goes_nowhere() -> None:
    echo = Echo()

    answer = post(PromptMiddleware(echo, PREFIXES), "/v1/completions", {"model": "m", "prompt": [1, 2]})

    assert answer.code == 400
    assert error_of(answer)["param"] == "prompt"
    assert echo.environ is None


def test_requests_that_are_no_llm_calls_pass_untouched() -> None:
    echo = Echo()

    request(PromptMiddleware(echo, PREFIXES), "POST", "/upload", b"\x00")

    assert echo.body == b"\x00"


@pytest.mark.parametrize(
    ("prefixes", "change"),
    [
        (Prefixes(Prefix("")), False),
        (Prefixes(Prefix(""), users={"alice": Prefix("")}, models={"m": Prefix("")}), False),
        (PREFIXES, True),
        (Prefixes(Prefix(""), users={"alice": Prefix("for alice")}), True),
        (Prefixes(Prefix(""), models={"gpt-*": Prefix("for gpt")}), True),
        (Prefixes(Prefix("", client_system="reject")), True),
    ],
)
def test_prefixes_tell_whether_any_of_them_does_anything(prefixes: Prefixes, change: bool) -> None:
    assert prefixes.change_prompts is change
