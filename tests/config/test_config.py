"""The whole: where it comes from, all problems at once, secrets that stay secret."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from sseproxy.config import DEMO_KEY, Config, ConfigError
from sseproxy.config.users import hash_key

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]
ROOT = Path(__file__).parent.parent.parent
SECRET = "hunter2-very-secret"


def test_without_a_file_it_is_the_built_in_demo() -> None:
    config = Config.load()

    assert config.source == "built-in demo configuration"
    assert config.upstreams["demo"].wsgi == "sseproxy.demo:app"
    assert config.users["demo"].keys == (hash_key(DEMO_KEY),)
    assert config.server.listen == "127.0.0.1:8080"
    assert config.demo_model == "demo"
    assert config.warnings == ()


def test_config_yaml_of_the_working_directory_goes_before_the_built_in(load: Load) -> None:
    load("server: {threads: 3}")

    assert (Config.load().server.threads, Config.load().source) == (3, "config.yaml")


def test_the_environment_names_a_file_before_the_working_directory_does(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("server: {threads: 3}")
    Path("other.yaml").write_text("server: {threads: 4}")
    monkeypatch.setenv("SSEPROXY_CONFIG", "other.yaml")

    assert (Config.load().server.threads, Config.load().source) == (4, "other.yaml")


def test_a_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSEPROXY_CONFIG", "gone.yaml")
    for source in ("gone.yaml", None):
        with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file or directory"):
            Config.load(source)


def test_a_mapping_is_checked_like_a_file_and_a_config_is_taken_as_it_is() -> None:
    config = Config.load({"server": {"threads": 2}})

    assert config.server.threads == 2
    assert Config.load(config) is config
    with pytest.raises(ConfigError, match=r"^configuration: server\.treads: unknown key"):
        Config.load({"server": {"treads": 2}})


def test_an_empty_file_has_every_default_but_no_demo_user(load: Load) -> None:
    config = load("")

    assert list(config.upstreams) == ["demo"]
    assert config.users == {}
    assert config.demo_model is None
    assert load("server:\nusers:\n  alice:\nmodels:\n  '*':\n") != config
    assert config.server == load("server:\n  threads:\n").server


@pytest.mark.parametrize("text", ["", "\n", "# users: {alice: {}}\n"])
def test_a_file_with_nothing_in_it_is_warned_of(load: Load, text: str) -> None:
    assert [str(warning) for warning in load(text).warnings] == [
        "config.yaml: there is nothing in this file: every key has its default, and it names no user"
    ]


def test_every_problem_is_reported_at_once_with_its_line_key_and_suggestion(problems: Problems) -> None:
    found = problems(
        """\
        server:
          listn: 127.0.0.1:80
          threads: many
        upstreams:
          main:
            url: ftp://example.com
            api_key: ${SSEPROXY_TEST_UNSET}
            timeout: {idle: 60}
          both: {url: "https://example.com/v1", wsgi: "sseproxy.demo:app"}
        models:
          gpt: {upstream: mian}
        users:
          alice: {keys: ["sha256:12"]}
        prompt: {role: sytem, prefix: {file: gone.md}}
        streams: 15s
        limit: 3
        """
    )

    assert found == [
        "config.yaml:2: server.listn: unknown key; known here: listen, threads, trusted_proxy,"
        " allowed_hosts, max_body, shutdown_grace (did you mean listen?)",
        "config.yaml:3: server.threads: expected a whole number",
        "config.yaml:6: upstreams.main.url: expected an http:// or https:// address, such as https://api.openai.com/v1",
        "config.yaml:7: upstreams.main.api_key: the environment variable SSEPROXY_TEST_UNSET is not set",
        "config.yaml:8: upstreams.main.timeout.idle: expected a duration with its unit, such as 500ms, 5s, 15m, 90d"
        " (did you mean 60s?)",
        "config.yaml:9: upstreams.both: expected exactly one of url and wsgi",
        "config.yaml:11: models.gpt.upstream: no upstream is called mian; known: main, both (did you mean main?)",
        "config.yaml:13: users.alice.keys[0]: expected 64 hex digits after sha256:",
        "config.yaml:14: prompt.prefix: gone.md cannot be read: No such file or directory",
        "config.yaml:14: prompt.role: expected system or developer (did you mean system?)",
        "config.yaml:15: streams: expected a mapping (`key: value` lines), not text",
        "config.yaml:16: limit: unknown key; known here: server, upstreams, models, auth, users, defaults, prompt,"
        " routes, wrap, accounting, limits, streams, cors, log, metrics, tracing, dashboard (did you mean limits?)",
    ]


def test_keys_of_later_versions_are_refused_as_unknown(problems: Problems) -> None:
    for text in ("dashboards: {}", "users: {a: {budgets: {}}}", "upstreams: {a: {wsgi: x, weight: 1}}"):
        assert any("unknown key" in problem for problem in problems(text)), text


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: {a: {url: 'https://user:%s@x/'}}",
        "upstreams: {a: {url: 'https://x/', api_kye: %s}}",
        "upstreams: {a: {url: 'https://x/', api_key: ['%s']}}",
        'upstreams: {a: {url: "https://x/", api_key: "%s\\nx: y"}}',
        'upstreams: {a: {url: "https://x/", headers: {x-key: "%s\\r\\nx: y"}}}',
        "upstreams: {a: {url: 'https://x/', headers: {x-key: {y: %s}}}}",
        "users: {a: {keys: %s}}",
        "users: {a: {keys: ['%s with blanks']}}",
        "users: {a: {keys: ['sha256:%s']}}",
        "users: {a: {keys: ['%s']}, b: {keys: ['%s']}}",
        "accounting: {ledger: 'mysql://root:%s@db/x'}",
        "accounting: {ledger: {password: %s}}",
        "log: {level: %s}",
        "server: {listen: %s}",
        "users: {a: {keys: ['%s}}",
        "users: {a: {keys: ['${%s']}}",
    ],
)
def test_no_problem_repeats_a_secret(problems: Problems, text: str) -> None:
    assert SECRET not in "\n".join(problems(text.replace("%s", SECRET)))


def test_no_secret_is_in_the_repr_or_in_a_validation_error() -> None:
    config = Config.load(
        {
            "upstreams": {"a": {"url": "https://x/v1", "api_key": SECRET, "headers": {"x-key": SECRET}}},
            "users": {"alice": {"keys": [SECRET]}},
            "accounting": {"ledger": f"postgresql://u:{SECRET}@h/n"},
        }
    )

    assert SECRET not in repr(config) + str(config) + repr(config.warnings) + config.model_dump_json()
    assert config.upstreams["a"].api_key is not None
    assert config.upstreams["a"].api_key.get_secret_value() == SECRET
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"users": {"a": {"keys": SECRET}}})
    assert SECRET not in str(caught.value)


def test_the_plain_text_of_a_users_key_is_not_kept() -> None:
    config = Config.load({"users": {"alice": {"keys": [SECRET]}}})

    assert SECRET.encode() not in pickle.dumps((config.__dict__, config.__pydantic_private__))


def test_it_cannot_be_changed() -> None:
    config = Config.load({})

    with pytest.raises(ValidationError):
        config.server.threads = 3  # type: ignore[misc]


def test_plain_text_keys_are_warned_of_but_references_and_hashes_are_not(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALICE_KEY", SECRET)
    config = load(
        f"""\
        upstreams:
          a: {{url: "https://x/v1", api_key: plain}}
          b: {{url: "https://x/v1", api_key: "${{ALICE_KEY}}"}}
        users:
          alice: {{keys: ["${{ALICE_KEY}}", "sha256:{"0" * 64}", "sk-plain"]}}
        """
    )

    assert [str(warning) for warning in config.warnings] == [
        "config.yaml:5: users.alice.keys[2]: a key in plain text; better sha256:<hex> of it, or ${VAR}",
        "config.yaml:2: upstreams.a.api_key: a key in plain text; better ${VAR}",
    ]


def test_every_other_secret_in_plain_text_is_warned_of_and_no_reference(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)
    secrets = """\
        upstreams:
          a:
            url: https://x/v1
            headers: {{X-Title: Acme, X-Api-Key: "{0}", Helicone-Auth: "Bearer {0}"}}
            proxy: http://me:{0}@proxy:3128
        accounting: {{ledger: "postgresql://me:{0}@db/books"}}
        limits: {{store: "redis://:{0}@cache:6379/0"}}
        streams: {{store: "redis://cache:6379/0?password={0}"}}
        """
    plain, referred = (load(secrets.format(secret)).warnings for secret in ("hunter2", "${PASSWORD}"))

    assert referred == ()
    assert [str(warning) for warning in plain] == [
        "config.yaml:4: upstreams.a.headers.X-Api-Key: a secret in plain text; better ${VAR}",
        "config.yaml:4: upstreams.a.headers.Helicone-Auth: a secret in plain text; better ${VAR}",
        "config.yaml:5: upstreams.a.proxy: a password in plain text; better ${VAR}",
        "config.yaml:6: accounting.ledger: a password in plain text; better ${VAR}",
        "config.yaml:7: limits.store: a password in plain text; better ${VAR}",
        "config.yaml:8: streams.store: a password in plain text; better ${VAR}",
    ]


@pytest.mark.parametrize(
    ("names", "never_used"),
    [
        ('["*", gpt-4o]', ["gpt-4o"]),
        ('[gpt-4o, "gpt-*", "*"]', []),
        ('["gpt-*", gpt-4o, "gpt-4?", "o*", o3]', ["gpt-4o", "gpt-4?", "o3"]),
        ('["gpt-?", "gpt-*", "gpt-[45]", gpt-4, "gpt-??"]', ["gpt-4", "gpt-??"]),
        ('["[ab]", "[abc]", a]', ["a"]),
    ],
)
def test_a_model_that_one_above_it_hides_is_warned_of(load: Load, names: str, never_used: list[str]) -> None:
    entries = ", ".join(f'"{name}": {{}}' for name in yaml.safe_load(names))

    warnings = load(f"models: {{{entries}}}").warnings

    assert [warning.key.removeprefix("models.") for warning in warnings] == never_used
    assert all("stands above it" in warning.message for warning in warnings)


def test_a_list_of_names_twice_as_long_takes_twice_the_work() -> None:
    def calls(names: int) -> int:
        made: list[object] = []
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument: made.append(None) if event == "call" else None)
        try:
            Config.load({"models": {f"model-{number}": {} for number in range(names)}})
        finally:
            sys.setprofile(before)
        return len(made)

    calls(200)  # what is made once
    assert calls(400) < 3 * calls(200)


def test_the_demo_key_is_warned_of_as_soon_as_others_can_connect() -> None:
    config = Config.load()

    assert config.listening_on("localhost:1").warnings == ()
    assert [warning.key for warning in config.listening_on("0.0.0.0:80").warnings] == ["users.demo.keys[0]"]
    assert config.listening_on("*:80").server.listen == "*:80"


def test_the_example_configuration_is_the_built_in_one_with_every_section() -> None:
    config = Config.load(ROOT / "config.yaml")

    assert config.demo_model == "demo"
    assert config.warnings == ()
    assert config.model_dump() == Config.load(None).model_dump()
    assert config.model_fields_set == set(Config.model_fields)


def test_the_example_configuration_needs_five_edited_lines_for_a_real_upstream(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    before = (ROOT / "config.yaml").read_text("utf-8")
    edited = (
        before.replace("  # main:", "  main:")
        .replace("  #   url:", "    url:")
        .replace("  #   api_key:", "    api_key:")
    )
    edited = edited.replace('"*": {upstream: demo}', '"*": {upstream: main}').replace(
        '"sk-demo"', '"${OPENAI_API_KEY}"'
    )
    config = load(edited)

    changed = [new for old, new in zip(before.splitlines(), edited.splitlines(), strict=True) if old != new]
    assert [line.split("# ")[1][0] for line in changed] == ["1", "2", "3", "4", "5"]
    assert config.upstream_of(config.models["*"]).url == "https://api.openai.com/v1"
    assert config.demo_model is None


def test_names_that_would_garble_logs_are_refused(problems: Problems) -> None:
    for name in ('"a\\nb"', '" "', f'"{"x" * 201}"'):
        assert "expected names of 1 to 200 printable characters" in problems(f"users: {{{name}: {{}}}}")[0]


def test_the_schema_knows_every_section_and_shows_no_masked_default() -> None:
    schema = Config.model_json_schema()

    assert list(schema["properties"]) == list(Config.model_fields)
    assert schema["$defs"]["Accounting"]["properties"]["ledger"]["default"] == "sqlite:///usage.db"
    assert "**" not in str(schema)
    mappings = [section.get("anyOf", [section])[-1] for section in schema["$defs"].values()]  # a format is a name, too
    assert all("description" in key for mapping in mappings for key in mapping["properties"].values())
