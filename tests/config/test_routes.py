"""The section routes: what it takes, and every way in which a route cannot be meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sseproxy.config import Config

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]


def test_a_route_has_every_default(load: Load) -> None:
    route = load("routes: {/chat: }").routes["/chat"]

    assert (route.methods, route.model, route.prompt, route.auth) == (("GET", "POST"), None, None, True)
    assert (route.input.message, route.input.messages, route.input.path) == ("message", None, None)
    assert route.format.type == "openai"


def test_a_route_as_people_write_it(load: Load) -> None:
    Path("tone.md").write_text("Be kind.\n")
    route = load(
        """\
        models: {gpt-*: {}}
        routes:
          /gpt/<kind>:
            methods: post
            model: gpt-4o-mini
            prompt: {prefix: {file: tone.md}, role: developer, client_system: drop}
            input: {message: content, messages: history}
            format: {type: text, newline: "[ENTRY]"}
            auth: false
        """
    ).routes["/gpt/<kind>"]

    assert (route.methods, route.model, route.auth, route.format.type) == (("POST",), "gpt-4o-mini", False, "text")
    assert route.prompt is not None
    assert (route.prompt.prefix, route.prompt.role, route.prompt.client_system) == ("Be kind.", "developer", "drop")
    assert (route.input.message, route.input.messages) == ("content", "history")


@pytest.mark.parametrize(
    "pattern",
    [
        "/",
        "/a/b.c~d-e",
        "/<a>/<b_1>",
        "/x-<id>",
        "/f/<path:rest>",
        "/n/<int:n>",
        "/größe",
        "/<a>-<b>/c",
        "/<int:a>-<int:b>.txt",
        "/<path:a>.txt",
        "/<path:a>/<b>.txt",
        "/<a>/<path:b>/c",
        "/<path:a>/b/<c>/<d>",
    ],
)
def test_patterns_that_are_taken(load: Load, pattern: str) -> None:
    assert list(load(f"routes: {{'{pattern}': }}").routes) == [pattern]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("chat", "expected a path that begins with / (did you mean /chat?)"),
        ("", "expected a path that begins with /"),
        ("/v1/chat/completions", "the paths under /v1/ and /-/ are taken"),
        ("/v1", "the paths under /v1/ and /-/ are taken"),
        ("/-/mine", "the paths under /v1/ and /-/ are taken"),
        ("/a//b", "expected a path of at most 200 plain characters"),
        ("//a", "expected a path of at most 200 plain characters"),
        ("/a b", "expected a path of at most 200 plain characters"),
        ("/a?b=c", "expected a path of at most 200 plain characters"),
        ("/a%20b", "expected a path of at most 200 plain characters"),
        ("/../a", "expected a path of at most 200 plain characters"),
        ("/<a", "expected a path of at most 200 plain characters"),
        ("/a>", "expected a path of at most 200 plain characters"),
        ("/" + "x" * 200, "expected a path of at most 200 plain characters"),
        ("/<>", "expected variables of letters, digits and _"),
        ("/<a-b>", "expected variables of letters, digits and _"),
        ("/<1a>", "expected variables of letters, digits and _"),
        ("/<a>/<a>", "each with a name of its own"),
        ("/<integer:a>", "a kind of string, path, int or uuid (did you mean int?)"),
        ("/<any(a,b):x>", "a kind of string, path, int or uuid"),
        ("/<path:a>/b/<path:c>/d", "expected one <path:name> at most"),
        ("/<path:a>-<b>", "expected one <path:name> at most and no other variable in its part"),
        ("/<path:a>/<b>-<c>", "and nothing is a <path:name>"),
        ("/<a>-<b>.txt", "two texts in a part only where they end it"),
        ("/<a><int:b>", "something between two variables"),
    ],
)
def test_patterns_that_are_none(problems: Problems, pattern: str, message: str) -> None:
    (found,) = problems(f"routes:\n  '{pattern}': {{auth: false}}\n")

    assert found.startswith(f"config.yaml:2: routes.{pattern}: ")
    assert message in found


@pytest.mark.parametrize(
    ("first", "second"), [("/a/<x>", "/a/<y>"), ("/<x>", "/<string:y>"), ("/<path:a>", "/<path:b>")]
)
def test_patterns_that_match_the_same_paths_collide(problems: Problems, first: str, second: str) -> None:
    assert problems(f"routes:\n  {first}: {{methods: [GET]}}\n  {second}: {{methods: [POST]}}\n") == [
        f"config.yaml:3: routes.{second}: matches the same paths as {first}; a path must have one route"
    ]


def test_the_same_pattern_twice_is_a_problem(problems: Problems) -> None:
    assert "given twice" in problems("routes:\n  /a:\n  /a:\n")[0]


def test_patterns_of_which_one_is_more_special_do_not_collide(load: Load) -> None:
    assert len(load("routes: {/a/<x>: , /a/b: , /a/<int:n>: , '/<path:rest>': }").routes) == 4


def test_a_model_that_no_entry_matches_is_a_problem(problems: Problems, load: Load) -> None:
    assert problems("models: {gpt-*: , fast: }\nroutes:\n  /a: {model: fasd}\n") == [
        "config.yaml:3: routes./a.model: no entry of models matches fasd; known: gpt-*, fast (did you mean fast?)"
    ]
    assert load("models: {gpt-*: }\nroutes: {/a: {model: gpt-5}}").routes["/a"].model == "gpt-5"
    assert load("routes: {/a: {model: any}}").routes["/a"].model == "any"


@pytest.mark.parametrize(
    ("route", "key", "message"),
    [
        ("methods: [PUT]", ".methods", "expected a list of GET and POST"),
        ("methods: []", ".methods", "expected a list of GET and POST"),
        ("methods: [GET, 1]", ".methods", "expected a list of GET and POST"),
        ("auth: maybe", ".auth", "expected true or false"),
        ("prompt: Be kind.", ".prompt", "expected a mapping"),
        ("prompt: {role: system}", ".prompt.prefix", "missing; it has no default"),
        ("prompt: {prefix: x, role: user}", ".prompt.role", "expected system or developer"),
        ("prompt: {prefix: x, client_system: dropp}", ".prompt.client_system", "(did you mean drop?)"),
        ("prompt: {prefix: {file: gone.md}}", ".prompt.prefix", "gone.md cannot be read"),
        ("modle: x", ".modle", "(did you mean model?)"),
        ("model: ''", ".model", "expected the name of a model"),
        ("input: message", ".input", "expected a mapping"),
        ("input: {}", ".input", "expected message, messages or path"),
        ("input: {message: }", ".input", "expected message, messages or path"),
        ("input: {mesage: q}", ".input.mesage", "(did you mean message?)"),
        ("input: {message: ' '}", ".input.message", "expected the name of a field"),
        ("input: {message: 5}", ".input.message", "expected text"),
        ("input: {message: q, messages: q}", ".input.messages", "the same field as message"),
        ("input: {message: model}", ".input.message", "the field model names the model"),
        ("input: {path: other}", ".input.path", "the pattern has no variable other; its variables: cid"),
        ("input: {path: cid, message: q}", ".input", "path stands alone"),
        ("{model: m, input: {path: cid}}", ".model", "no model is asked where input.path names a stream"),
        ("{prompt: {prefix: x}, input: {path: cid}}", ".prompt", "no model is asked where"),
        ("format: txt", ".format.type", "(did you mean text?)"),
    ],
)
def test_what_a_route_cannot_have(problems: Problems, route: str, key: str, message: str) -> None:
    written = route if route.startswith("{") else f"{{{route}}}"

    found = problems(f"routes:\n  /a/<cid>: {written}\n")

    assert any(each.startswith(f"config.yaml:2: routes./a/<cid>{key}: ") and message in each for each in found), found
    assert len({each.split(": ")[1] for each in found}) == len(found)


def test_a_field_called_model_is_free_where_the_route_has_its_own(load: Load) -> None:
    assert load("routes: {/a: {model: m, input: {message: model}}}").routes["/a"].input.message == "model"


def test_routes_that_are_no_mapping_are_one_problem(problems: Problems) -> None:
    assert problems("routes: [/a]") == ["config.yaml:1: routes: expected a mapping (`key: value` lines), not a list"]
