"""config/formats: what a route's ``format`` takes, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sseproxy.config import Config
from sseproxy.config.formats import RouteFormat
from sseproxy.core.formats import Envelope, Format, OpenAI, Plain, Text

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]


def route(format: str) -> str:
    return f"routes: {{/chat: {{model: m, format: {format}}}}}"


@pytest.mark.parametrize(
    ("given", "format"),
    [
        ("openai", OpenAI()),
        ("text", Text()),
        ("envelope", Envelope()),
        ("plain", Plain()),
        ("", OpenAI()),
        ("{type: text}", Text()),
        ("{event: delta}", OpenAI("delta")),
        (
            "{type: text, event: message, newline: '[ENTRY]', done: '[DONE]', error: '<ERR>'}",
            Text(event="message", newline="[ENTRY]", done="[DONE]", error="<ERR>"),
        ),
        ("{type: text, newline: '[DONE]', done: '[END]'}", Text(newline="[DONE]", done="[END]")),
        ("{type: text, newline: }", Text()),
        ("{type: plain, error: '<ERR>'}", Plain("<ERR>")),
        (
            "{type: envelope, template: {t: '{text}', n: [null, 1]}, done: '{answer}', error: {$json: '{message}'}}",
            Envelope(template={"t": "{text}", "n": [None, 1]}, done="{answer}", error={"$json": "{message}"}),
        ),
    ],
)
def test_a_format_is_a_name_or_a_mapping(load: Load, given: str, format: Format) -> None:
    assert load(route(given)).routes["/chat"].format.build() == format


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("txt", ".type: expected openai, text, envelope or plain (did you mean text?)"),
        ("{type: txt}", ".type: expected openai, text, envelope or plain (did you mean text?)"),
        ("5", ": expected openai, text, envelope or plain, or a mapping with such a type, not a number"),
        ("[text]", ": expected openai, text, envelope or plain, or a mapping with such a type, not a list"),
        ("{type: text, eror: x}", ".eror: unknown key; known here: "),
        ("{newline: '[ENTRY]'}", ".newline: format openai has no newline: it goes with type text"),
        ("{type: plain, event: x}", ".event: format plain has no event: it goes with type openai, text or envelope"),
        ("{type: text, template: x}", ".template: format text has no template: it goes with type envelope"),
        ("{type: text, done: 5}", ".done: expected text, not a number; put it in quotes"),
        ("{type: plain, error: {a: b}}", ".error: expected text, not a mapping; put it in quotes"),
        ("{type: text, newline: '|'}", ": newline needs at least two characters, to be told from text"),
        ("{type: text, newline: '[DONE]'}", ": newline, done and error must differ"),
        ("{event: error}", ".event: an event named error would be taken for EventSource's own"),
        ("{type: envelope, done: '{answr}'}", ".done: unknown placeholder {answr}; known here: {answer}, {id}, "),
        ("{type: envelope, template: !!timestamp 2026-01-01}", ".template: a date is no JSON; put it in quotes"),
    ],
)
def test_what_does_not_fit_is_told_at_its_key(problems: Problems, given: str, problem: str) -> None:
    (line,) = problems(route(given))

    assert line.startswith(f"config.yaml:1: routes./chat.format{problem}")


def test_every_wrong_key_is_told_at_once(problems: Problems) -> None:
    assert len(problems(route("{type: envelope, newline: x, template: '{a}', done: '{b}'}"))) == 3


@pytest.mark.parametrize("given", ["text", {"type": "text", "newline": "[ENTRY]"}])
def test_the_schema_takes_both_forms(given: Any) -> None:
    name, mapping = RouteFormat.model_json_schema()["anyOf"]

    assert given in name["enum"] if isinstance(given, str) else set(given) <= set(mapping["properties"])
