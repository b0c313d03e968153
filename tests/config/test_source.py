"""YAML as people write it wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sseproxy.config import Config, ConfigError

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: !b c\n", "config.yaml:1: a: a value that YAML cannot read as anything it knows; put it in quotes"),
        ("- a\n", "config.yaml:1: expected a mapping (`key: value` lines) at the top of the file"),
        ("log: !!python/object:os.system {}\n", "config.yaml:1: log"),
        ("server: {threads: !!int x}\n", "config.yaml:1: server.threads: a value that YAML cannot read as int"),
        ("a: !!float\n", "config.yaml:1: a: a value that YAML cannot read as float"),
        ("a: !!bool maybe\n", "config.yaml:1: a: a value that YAML cannot read as bool"),
        ("a: !!timestamp abc\n", "config.yaml:1: a: a value that YAML cannot read as timestamp"),
        ("log: &a {level: info, x: *a}\n", "config.yaml:1: log.x: an alias that contains itself"),
        ("log:\n  <<: 3\n", "config.yaml:1: log: `<<` expects an alias of a mapping"),
        ("log:\n  ? [a, b]\n  : 3\n", "config.yaml:2: log: a key must be text"),
        ('"a\\nFAKE \\e[0m": 3\n', "config.yaml:1: a\ufffdFAKE \ufffd[0m: unknown key"),
        ("a: " + "[" * 3000, "config.yaml: is nested too deeply"),
        ("a: " + "{a: " * 600 + "1" + "}" * 600, "config.yaml: is nested too deeply"),
        (
            "a: &a0 [1]\n" + "".join(f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(7)),
            "config.yaml: has more than 300,000 values, aliases written out",
        ),
    ],
)
def test_what_no_configuration_can_hold_is_said_with_its_line(problems: Problems, text: str, problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(text)), problems(text)


def test_a_key_that_yaml_reads_as_something_else_is_not_repeated(problems: Problems) -> None:
    assert "hunter2" not in "".join(problems("upstreams: {a: {url: 'https://x/v1', api_key: !sk-hunter2 x}}"))


@pytest.mark.parametrize(
    "entry",
    [
        "api_key:sk-hunter2",
        '"apikey:hunter2": x',
        "sk-hunter2-hunter2-hunter2: x",
        "apikey:hunter2",
        "headers: {Authorization:Bearer hunter2}",
        "headers: {'X-Key: hunter2': []}",
    ],
)
def test_a_secret_that_was_taken_for_a_key_of_the_file_is_not_repeated(problems: Problems, entry: str) -> None:
    [found] = problems(f"upstreams: {{a: {{url: 'https://x/v1', {entry}}}}}")

    assert found.startswith("config.yaml:1: upstreams.a.")
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "text",
    [
        "models: {x: {upstream: SECRET}}",
        "users: {SECRET: {kys: []}}",
        "log: {SECRET: 1, SECRET: 2}",
        "prompt: {prefix: {file: SECRET}}",
        "upstreams: {a: {wsgi: 'SECRET:app'}}",
        "log: {level: '${SECRET}'}",
        "log: {level: !!SECRET x}",
    ],
)
def test_an_api_key_in_the_wrong_place_is_not_repeated(problems: Problems, text: str) -> None:
    assert "hunter2" not in "\n".join(problems(text.replace("SECRET", "sk-hunter2-hunter2")))


def test_a_place_is_told_though_names_in_it_begin_as_api_keys_do(tmp_path: Path) -> None:
    folder = tmp_path / "sk-production-models"
    folder.mkdir()
    file = folder / "config.yaml"
    file.write_text("upstreams: {xai-eu: {url: 'https://x/v1', timeout: {connect: 5}}}")

    with pytest.raises(ConfigError) as caught:
        Config.load(file)
    assert str(caught.value).startswith(f"{file}:1: upstreams.xai-eu.timeout.connect: expected a duration")


def test_a_blank_that_is_missing_after_a_colon_is_named(problems: Problems) -> None:
    assert problems("upstreams: {a: {wsgi: 'sseproxy.demo:app', retries:3}}") == [
        "config.yaml:1: upstreams.a.retries: a blank is missing after the colon"
    ]


def test_what_is_no_configuration_at_all_is_a_type_error_that_says_what_is() -> None:
    with pytest.raises(TypeError, match="expected a configuration as a file's name, a mapping or a Config, not int"):
        Config.load(5)  # type: ignore[arg-type]


def test_a_file_that_is_not_utf_8_is_said_to_be_so() -> None:
    Path("latin.yaml").write_bytes(b"log:\n  level: inf\xf6\n")

    with pytest.raises(ConfigError, match=r"latin\.yaml:2: is not UTF-8 text"):
        Config.load("latin.yaml")


def test_a_byte_order_mark_is_no_mistake() -> None:
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbflog: {level: debug}")

    assert Config.load("bom.yaml").log.level == "debug"


def test_a_key_given_twice_is_a_problem_that_names_both_lines(problems: Problems) -> None:
    assert problems("users:\n  alice: {}\n  bob: {}\n  alice: {}\n") == [
        "config.yaml:4: users.alice: given twice; the first is on line 2"
    ]


def test_anchors_and_merges_work_and_own_keys_win(load: Load) -> None:
    config = load(
        """\
        upstreams:
          a: &a
            url: https://a.example/v1
            timeout: &slow {connect: 9s, idle: 8s}
          b: {<<: *a, url: "https://b.example/v1"}
          c: {wsgi: "sseproxy.demo:app", timeout: {idle: 7s, <<: [*slow]}}
        """
    )

    assert config.upstreams["b"].url == "https://b.example/v1"
    assert config.upstreams["b"].timeout.connect == 9
    assert (config.upstreams["c"].timeout.connect, config.upstreams["c"].timeout.idle) == (9, 7)


def test_a_problem_inside_a_merged_mapping_is_on_the_line_where_it_stands(problems: Problems) -> None:
    found = problems("upstreams:\n  a: &a\n    url: https://a/v1\n    x: 1\n  b:\n    <<: *a\n")

    assert [line.split(": unknown")[0] for line in found] == [
        "config.yaml:4: upstreams.a.x",
        "config.yaml:4: upstreams.b.x",
    ]


def test_keys_are_text_whatever_yaml_takes_them_for(load: Load) -> None:
    assert list(load("users: {007: {}, on: {}, 1.50: {}, null: {}}").users) == ["007", "on", "1.50", "null"]


@pytest.mark.parametrize("word", ["no", "on", "Yes", "2024-08-06", "1_000", "12:30", "190:20:30.15", "=", "0b1"])
def test_a_word_without_quotes_is_text_where_text_is_expected(load: Load, word: str) -> None:
    config = load(f"models: {{{word}: {{model: {word}}}}}\nusers: {{{word}: {{keys: [{word}], models: [{word}]}}}}\n")

    assert (config.models[word].model, config.users[word].models) == (word, (word,))


@pytest.mark.parametrize(
    ("word", "read"), [("010", 10), ("0o17", 15), ("0x1F", 31), ("-08", -8), ("1e3", 1e3), ("1.", 1.0), (".5E-1", 0.05)]
)
def test_a_word_without_quotes_is_the_number_that_yaml_1_2_has_it_be(load: Load, word: str, read: float) -> None:
    route = load(f"routes: {{/a: {{format: {{type: envelope, template: {{number: {word}}}}}}}}}").routes["/a"]

    assert repr(route.format.template) == repr({"number": read})


@pytest.mark.parametrize("word", ["010", "0o17", "1e3", ".inf"])
def test_a_number_where_text_is_expected_is_told_to_need_quotes(problems: Problems, word: str) -> None:
    assert problems(f"models: {{a: {{model: {word}}}}}") == [
        "config.yaml:1: models.a.model: expected text; put the value in quotes"
    ]


def test_a_number_with_a_zero_before_it_is_that_number(load: Load) -> None:
    config = load("server: {threads: 010, max_body: 0100}\nusers: {a: {budget: {usd: 012}}}\n")

    assert (config.server.threads, config.server.max_body) == (10, 100)
    assert config.users["a"].budget is not None and config.users["a"].budget.usd == 12


@pytest.mark.parametrize("word", ["1:30", "2024-08-06", "no", "1_000"])
def test_what_is_no_number_is_none(problems: Problems, word: str) -> None:
    assert problems(f"server: {{threads: {word}}}") == ["config.yaml:1: server.threads: expected a whole number"]


@pytest.mark.parametrize(("word", "flag"), [("yes", True), ("On", True), ("no", False), ("OFF", False)])
def test_where_true_or_false_is_expected_other_words_for_it_will_do(load: Load, word: str, flag: bool) -> None:
    assert load(f"users: {{a: {{admin: {word}}}}}").users["a"].admin is flag


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("users: {alice:sk-hunter2}", "users.alice: a blank is missing after the colon"),
        ("users: {alice: {}, bob:sk-hunter2 , carol: {}}", "users.bob: a blank is missing after the colon"),
        ("upstreams: {main:hunter2, a: {wsgi: 'x:y'}}", "upstreams.main: a blank is missing after the colon"),
        ("users: {alice:sk-hunter2 # hers\n}", "users.alice: a blank is missing after the colon"),
        ("users: {alice: sk-hunter2}", 'users.alice: expected a mapping (`{keys: ["${KEY}"]}`), not text'),
        (
            "users: {alice: {keys: sk-hunter2}}",
            "users.alice.keys: expected a list (`[…]`, or lines that begin with `- `),",
        ),
        ("users: {alice: {budget: 5}}", 'users.alice.budget: expected a mapping (`{usd: "5.00", per: month}`), not a'),
    ],
)
def test_what_is_written_in_the_place_of_an_entry_is_told_how_to_be_one(
    problems: Problems, text: str, problem: str
) -> None:
    found = problems(f"server: {{}}\n{text}\n")

    assert found[0].startswith(f"config.yaml:2: {problem}")
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize("text", ["org:alice: {}", "org:alice:", "{org:alice: , bob}", "{'org:alice'}"])
def test_a_name_may_have_a_colon(load: Load, text: str) -> None:
    assert "org:alice" in load(f"users:\n  {text}\n").users
