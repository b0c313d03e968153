"""routes: which path is which route."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.config import Config
from sseproxy.core.inputs import Inputs
from sseproxy.core.prompt import Prefix
from sseproxy.routes import Routes

REPLAY = {"input": {"path": "cid"}}


def routes(sections: dict[str, Any], **others: Any) -> Routes:
    config = Config.load({"routes": sections, **others})
    return Routes(config.routes, config.prompt)


def found(all_routes: Routes, path: str) -> tuple[str, dict[str, str]] | None:
    match = all_routes.match(path)
    return match and (match[0].pattern, match[1])


SEVERAL = routes(
    {
        "/chat": {},
        "/chat/<cid>": REPLAY,
        "/chat/new": {},
        "/n/<int:n>": {},
        "/f/<path:rest>": {},
        "/slash/": {},
        "/größe": {},
    }
)


@pytest.mark.parametrize(
    ("path", "pattern", "variables"),
    [
        ("/chat", "/chat", {}),
        ("/chat/abc", "/chat/<cid>", {"cid": "abc"}),
        ("/chat/new", "/chat/new", {}),
        ("/chat/a b?c", "/chat/<cid>", {"cid": "a b?c"}),
        ("/chat/gr\xc3\xb6\xc3\x9fe", "/chat/<cid>", {"cid": "größe"}),
        ("/gr\xc3\xb6\xc3\x9fe", "/größe", {}),
        ("/n/7", "/n/<int:n>", {"n": "7"}),
        ("/f/a/b", "/f/<path:rest>", {"rest": "a/b"}),
        ("/f/a//b", "/f/<path:rest>", {"rest": "a//b"}),
        ("/slash/", "/slash/", {}),
    ],
)
def test_a_path_is_its_route_with_its_variables(path: str, pattern: str, variables: dict[str, str]) -> None:
    assert found(SEVERAL, path) == (pattern, variables)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "chat",
        "/chat/",
        "//chat",
        "/chat//abc",
        "/chat/a/b",
        "/Chat",
        "/n/x",
        "/slash",
        "/chat/\xff",
        "/v1/chat",
    ],
)
def test_no_other_spelling_is_a_route(path: str) -> None:
    assert SEVERAL.match(path) is None


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "//v1/chat/completions", "/v1//x", "/-/health", "//-/health", "///v1/x/y"]
)
def test_a_pattern_of_variables_does_not_get_at_the_proxy_s_own_paths(path: str) -> None:
    greedy = routes({"/<path:all>": {}, "/<a>/<b>": {}, "/<a>/<b>/<c>": {}})

    assert greedy.match(path) is None
    assert greedy.match("/elsewhere") is not None


def test_a_prompt_s_open_ends_are_those_of_the_section_prompt() -> None:
    prompt = {"prefix": "all", "role": "developer", "client_system": "drop"}
    own = routes({"/a": {"prompt": {"prefix": "A"}}, "/b": {}, "/c": {"prompt": {"prefix": ""}}}, prompt=prompt)

    assert [match and match[0].prefix for match in map(own.match, ("/a", "/b", "/c"))] == [
        Prefix("A", "developer", "drop"),
        None,
        Prefix("", "developer", "drop"),
    ]


def test_a_prompt_of_its_own_goes_before_the_section_prompt() -> None:
    given = {"prefix": "A", "role": "system", "client_system": "reject"}
    match = routes({"/a": {"prompt": given}}, prompt={"role": "developer"}).match("/a")

    assert match is not None
    assert match[0].prefix == Prefix("A", "system", "reject")


def test_a_route_says_what_it_reads_and_how_it_answers() -> None:
    match = routes({"/a": {"input": {"messages": "history"}, "format": "plain", "methods": ["GET"]}}).match("/a")

    assert match is not None
    assert match[0].inputs == Inputs(message=None, messages="history")
    assert match[0].methods == ("GET",)
    assert match[0].format is not None
    assert match[0].format.content_type.startswith("text/plain")


@pytest.mark.parametrize("name", ["openai", "text", "envelope", "plain"])
def test_a_route_may_have_any_format(name: str) -> None:
    match = routes({"/a": {"format": {"type": name}}}).match("/a")

    assert match is not None
    assert type(match[0].format).__name__.lower() == name


def test_only_routes_without_auth_are_public() -> None:
    both = routes({"/open/<x>": {"auth": False}, "/closed": {}})

    assert [both.is_public(path) for path in ("/open/1", "/closed", "/open", "/v1/models")] == [
        True,
        False,
        False,
        False,
    ]


def test_what_is_told_of_a_path_is_the_route_s_pattern() -> None:
    assert [SEVERAL.pattern(path) for path in ("/chat/my secret", "/other/thing")] == ["/chat/<cid>", "/other/thing"]


def test_without_routes_nothing_matches() -> None:
    assert routes({}).match("/") is None
