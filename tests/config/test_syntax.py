"""A file that is no YAML, told in words that say what to change, and where."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Problems = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server:\n\tthreads: 3\n", "2: is no valid YAML: a tab; YAML indents with spaces only (column 1)"),
        ("users:\n  alice\n    keys: []\n", "3: is no valid YAML: no key can be here: "),
        ("prompt:\n  prefix: Note: be brief\n", "2: is no valid YAML: no key can be here: "),
        ("log:\n    level: info\n  format: text\n", "3: is no valid YAML: the line is indented as none above it"),
        ("log: {level: 'info' x}\n", "1: is no valid YAML: of the bracket opened on line 1, the end or a comma is"),
        ("log:\n  {level: info\ncors: {}\n", "3: is no valid YAML: of the bracket opened on line 2, the end or a"),
        ("log: {level: ${LEVEL}}\n", "1: is no valid YAML: of the bracket opened on line 1, the end or a comma is"),
        ("log:\n  level: 'info\ncors: {}\n", "2: is no valid YAML: a quote that is opened here is not closed"),
        ("log:\n  level:info\n  format: text\ncors: {}\n", "3: is no valid YAML: no key can be here: "),
        ("log:\n  format: text\n  level:info\ncors: {}\n", "3: is no valid YAML: neither `key: value`, with a blank"),
        ("prompt:\n  prefix: @all\n", "2: is no valid YAML: a text that begins so needs quotes (column 11)"),
        ('prompt:\n  prefix: "\\d"\n', "2: is no valid YAML: within double quotes a backslash begins an escape"),
        ("a: *b\n", "1: is no valid YAML: what begins with * is an alias, and this one is not defined"),
        ("models:\n  *: {}\n", "2: is no valid YAML: what begins with * is an alias, with & what one"),
        ("{}\n---\n{}\n", "2: is no valid YAML: expected a single document"),
        ("log:\n  level: \x00\n", "2: is no valid YAML: the control character U+0000"),
    ],
)
def test_what_is_no_yaml_says_what_to_change_on_which_line(problems: Problems, text: str, problem: str) -> None:
    [found] = problems(text)

    assert found.startswith(f"config.yaml:{problem}")


@pytest.mark.parametrize("key", ["*sk-hunter2", "@hunter2", '"sk-hunter2', '"\\hunter2"', "sk: hunter2", "[hunter2"])
def test_nothing_of_the_file_is_repeated(problems: Problems, key: str) -> None:
    assert "hunter2" not in "".join(problems(f"upstreams:\n  a:\n    url: https://x/v1\n    api_key: {key}\n"))
