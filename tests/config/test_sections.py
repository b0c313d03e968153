"""What each section refuses, and what it makes of what it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from sseproxy.config import Config, Model, find_model

Load = Callable[[str], Config]
Problems = Callable[[str], list[str]]


@pytest.mark.parametrize("given", ["127.0.0.1:80", "[::1]:80", "localhost:0", "*:65535", "my-host.example:1"])
def test_addresses_to_listen_on(load: Load, given: str) -> None:
    assert load(f"server: {{listen: '{given}'}}").server.listen == given


@pytest.mark.parametrize(
    ("given", "suggestion"),
    [("8080", "127.0.0.1:8080"), (":80", "127.0.0.1:80"), ("::1:80", ""), ("x:70000", ""), ("a b:1", ""), ("h:", "")],
)
def test_what_is_no_address_to_listen_on(problems: Problems, given: str, suggestion: str) -> None:
    hint = f" (did you mean {suggestion}?)" if suggestion else ""

    for written in (f"'{given}'", *([given] if given.isdigit() else [])):
        assert problems(f"server: {{listen: {written}}}") == [
            f"config.yaml:1: server.listen: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080{hint}"
        ]


@pytest.mark.parametrize(
    ("given", "suggestion"),
    [
        ("https://LLM.example.com:8443/v1", "llm.example.com"),
        ("llm.example.com:80", "llm.example.com"),
        ("*", ""),
        ("a.*.b", ""),
        ("3", ""),
    ],
)
def test_what_is_no_host_name(problems: Problems, given: str, suggestion: str) -> None:
    hint = f" (did you mean {suggestion}?)" if suggestion else ""

    assert problems(f"server: {{allowed_hosts: ['{given}']}}".replace("'3'", "3")) == [
        "config.yaml:1: server.allowed_hosts[0]: expected a host name without scheme and port, such as llm.example.com,"
        f" or *.example.com for all below it{hint}"
    ]


@pytest.mark.parametrize("threads", ["0", "-1", "10001", "yes", "1.5"])
def test_threads_are_some_but_not_any_number(problems: Problems, threads: str) -> None:
    assert "config.yaml:1: server.threads: expected " in problems(f"server: {{threads: {threads}}}")[0]


def test_no_retries_at_all_fit_the_schema_too(load: Load) -> None:
    retries = Config.model_json_schema()["$defs"]["Upstream"]["properties"]["retries"]

    assert load("upstreams: {a: {url: 'https://x.example/v1', retries: 0}}").upstreams["a"].retries == 0
    assert retries["anyOf"][0] == {"type": "integer", "minimum": 0}


@pytest.mark.parametrize("section", ["dashboard", "metrics", "tracing"])
def test_a_section_is_switched_on_and_off_by_true_and_false_alone(
    load: Load, problems: Problems, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANTED", "true")
    assert getattr(load(f"{section}: {{enabled: '${{WANTED}}'}}"), section).enabled is True

    for given in ("1", "y", "maybe"):
        assert problems(f"{section}: {{enabled: {given}}}") == [
            f"config.yaml:1: {section}.enabled: expected true or false"
        ]


def test_a_base_address_loses_its_last_slash(load: Load) -> None:
    assert load("upstreams: {a: {url: 'https://x.example/v1/'}}").upstreams["a"].url == "https://x.example/v1"


@pytest.mark.parametrize("url", ["http://embeddings", "http://gateway.example/messages", "https://x/llm-responses"])
def test_a_host_or_a_gateway_s_path_may_be_called_as_an_api_is(load: Load, url: str) -> None:
    assert load(f"upstreams: {{a: {{url: '{url}'}}}}").upstreams["a"].url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("api.openai.com/v1", "expected an http:// or https:// address"),
        ("https://", "expected an http:// or https:// address"),
        ("https://x:99999/", "expected an http:// or https:// address"),
        ("https://[x/", "expected an http:// or https:// address"),
        ("https://x/ y", "without blanks"),
        ("https://x/v1?key=1", "without a query"),
        ("https://x/v1#a", "without a query"),
        ("https://u:p@x/v1", "credentials do not belong"),
        ("https://u@x/v1", "credentials do not belong"),
        ("https://x/v1/chat/completions", "expected the base address"),
        ("https://x/api/v1/responses/", "expected the base address"),
        ("https://x/chat/completions", "expected the base address"),
    ],
)
def test_addresses_that_are_no_base_address(problems: Problems, url: str, message: str) -> None:
    assert message in problems(f"upstreams: {{a: {{url: '{url}'}}}}")[0]


@pytest.mark.parametrize(
    ("wsgi", "message"),
    [
        ("nonesuch:app", "nonesuch:app cannot be imported: ModuleNotFoundError: No module named 'nonesuch'"),
        ("sseproxy.demo:nonesuch", "sseproxy.demo:nonesuch cannot be imported: AttributeError"),
        ("sseproxy.demo:__doc__", "sseproxy.demo:__doc__ is not callable"),
        ("myapp", 'expected "package.module:attribute" of a WSGI application (did you mean myapp:app?)'),
        ("a:b()", 'expected "package.module:attribute" of a WSGI application'),
    ],
)
def test_an_application_that_cannot_be_imported_is_a_problem_now(problems: Problems, wsgi: str, message: str) -> None:
    assert message in problems(f"upstreams: {{a: {{wsgi: '{wsgi}'}}}}")[0]


def test_in_python_the_application_itself_will_do() -> None:
    def app(environ: object, start_response: object) -> list[bytes]:
        return []

    assert Config.load({"upstreams": {"a": {"wsgi": app}}}).upstreams["a"].application is app
    assert callable(Config.load({}).upstreams["demo"].application)


def test_no_upstream_at_all_is_a_problem(problems: Problems, load: Load) -> None:
    assert problems("log: {}\nupstreams: {}\n") == [
        "config.yaml:2: upstreams: expected at least one upstream; without the key it is the built-in demo"
    ]
    assert list(load("upstreams:\n").upstreams) == ["demo"]


def test_an_upstream_has_exactly_one_of_url_and_wsgi(problems: Problems) -> None:
    assert "expected exactly one of url and wsgi" in problems("upstreams: {a: {}}")[0]
    assert "expected exactly one of url and wsgi" in problems("upstreams: {a: }")[0]


@pytest.mark.parametrize("value", ['"a\\r\\nb: c"', '"a\\nb"', '"a\\0b"', '" a"', '"a "', '"\\u20ac"', "3", "[a]"])
def test_a_header_value_cannot_bring_a_header_along(problems: Problems, value: str) -> None:
    for key in (f"api_key: {value}", f"headers: {{x-a: {value}}}"):
        assert len(problems(f"upstreams: {{a: {{url: 'https://x/v1', {key}}}}}")) == 1


@pytest.mark.parametrize("name", ["x y", "x:", "", '"x\\n"', "Host", "content-length", "Transfer-Encoding"])
def test_header_names_that_are_none_or_not_ours_to_set(problems: Problems, name: str) -> None:
    name = name if name.startswith('"') else f"'{name}'"

    assert "upstreams.a.headers" in problems(f"upstreams: {{a: {{url: 'https://x/v1', headers: {{{name}: y}}}}}}")[0]


def test_a_header_given_twice_in_other_letters_is_a_problem(problems: Problems) -> None:
    assert "x-a is given twice" in problems("upstreams: {a: {url: 'https://x/v1', headers: {X-A: y, x-a: z}}}")[0]


def test_an_empty_api_key_is_none(load: Load) -> None:
    assert load("upstreams: {a: {url: 'https://x/v1', api_key: '${SSEPROXY_GONE:-}'}}").upstreams["a"].api_key is None


def test_passthrough_paths_are_under_v1_however_they_are_written(load: Load) -> None:
    config = load("upstreams: {a: {url: 'https://x/v1', passthrough: [audio/speech, /moderations, /v1/files]}}")

    assert config.upstreams["a"].passthrough == ("/v1/audio/speech", "/v1/moderations", "/v1/files")


def test_all_below_a_passthrough_path_is_named_by_a_star(load: Load, problems: Problems) -> None:
    text = "upstreams: {a: {url: 'https://x/v1', passthrough: ['%s']}}"

    assert load(text % "files/*").upstreams["a"].passthrough == ("/v1/files/*",)
    assert load(text % "chat/completions/*").upstreams["a"].passthrough == ("/v1/chat/completions/*",)
    for path in ("chat/*", "Chat/*", "deployments/*"):
        assert "no LLM path below /v1/" in problems(text % path)[0]


@pytest.mark.parametrize(
    "path", ["/", "../admin", "a/../b", "a?b=c", "a b", "a//b", "", "*", "/v1/*", "files*", "a/*/b", "../*", "a/**"]
)
def test_paths_that_are_none_are_refused(problems: Problems, path: str) -> None:
    text = f"upstreams: {{a: {{url: 'https://x/v1', passthrough: ['{path}']}}}}"

    assert "expected a path under /v1/" in problems(text)[0]


def test_the_first_model_pattern_that_matches_wins() -> None:
    models = {"gpt-4o": Model(model="a"), "gpt-*": Model(model="b"), "*": Model(model="c")}

    found = [find_model(models, name) for name in ("gpt-4o", "gpt-4o-mini", "GPT-4o", "")]
    assert [pattern for pattern, _ in filter(None, found)] == ["gpt-4o", "gpt-*", "*", "*"]
    assert find_model({"gpt-*": Model()}, "o3") is None
    assert find_model({"ft:[x]": Model()}, "ft:[x]") is not None


def test_a_model_without_an_upstream_goes_to_the_first_one(load: Load) -> None:
    config = load("upstreams: {b: {url: 'https://b/v1'}, a: {url: 'https://a/v1'}}\nmodels: {x: , y: {upstream: a}}")

    assert [config.upstream_name(model) for model in config.models.values()] == ["b", "a"]


def test_a_price_needs_input_and_output_and_is_decimal(load: Load, problems: Problems) -> None:
    price = load('models: {x: {price: {input: "0.15", cached_input: 0.075, output: "0.60"}}}').models["x"].price

    assert price is not None
    assert (price.input, price.cached_input, price.cache_write) == (Decimal("0.15"), Decimal("0.075"), None)
    assert "models.x.price.output: missing" in problems('models: {x: {price: {input: "1"}}}')[0]
    assert "as a decimal in quotes" in problems('models: {x: {price: {input: "-1", output: "1"}}}')[0]


def test_keys_become_hashes_and_hashes_stay(load: Load) -> None:
    digest = hashlib.sha256(b"sk-x").hexdigest()

    assert load(f"users: {{a: {{keys: [sk-x]}}, b: {{keys: ['sha256:{'A' * 64}']}}}}").users["a"].keys == (digest,)
    assert load(f"users: {{a: {{keys: ['sha256:{digest.upper()}']}}}}").users["a"].keys == (digest,)


def test_a_key_has_one_user(problems: Problems) -> None:
    digest = hashlib.sha256(b"sk-x").hexdigest()

    assert problems(f"users:\n  a: {{keys: [sk-x]}}\n  b: {{keys: ['sha256:{digest}']}}\n") == [
        "config.yaml:3: users.b.keys[0]: the same key as users.a.keys[0]; each key has one user"
    ]


@pytest.mark.parametrize("key", ["'a b'", "''", '"a\\n"', "ключ", "12", "[x]"])
def test_keys_that_cannot_be_sent_are_refused(problems: Problems, key: str) -> None:
    assert "users.a.keys[0]: expected a key" in problems(f"users: {{a: {{keys: [{key}]}}}}")[0]


def test_a_prefix_may_stand_in_a_file_beside_the_configuration() -> None:
    directory = Path("etc")
    directory.mkdir()
    (directory / "house.md").write_bytes("\ufeffBe brief.\r\nÄ\n\n".encode())
    (directory / "c.yaml").write_text("prompt: {prefix: {file: house.md}, users: {a: {prefix: ''}}}")
    config = Config.load(directory / "c.yaml")

    assert config.prompt.prefix == "Be brief.\nÄ"
    assert config.prompt.users["a"].prefix == ""


@pytest.mark.parametrize("prefix", ["{file: .}", "{file: ''}", "{fiel: a}", "{file: a, b: c}", "[a]", "3"])
def test_a_prefix_is_text_or_a_file(problems: Problems, prefix: str) -> None:
    assert problems(f"prompt: {{prefix: {prefix}}}")[0].startswith("config.yaml:1: prompt.prefix: ")


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite://", "postgresql://h/n", "postgresql+psycopg://u:p@h/n", "postgres://u:p@h/n"]
)
def test_databases(load: Load, url: str) -> None:
    assert load(f"accounting: {{ledger: '{url}'}}").accounting.ledger.get_secret_value() == url


def test_other_databases_are_refused(problems: Problems) -> None:
    others = (
        "usage.db",
        "mysql://h/n",
        "sqlite:a.db",
        "postgresql+asyncpg://h/n",
        "sqlite+pysqlcipher://:topsecret@/a.db",
    )
    for url in others:
        (problem,) = problems(f"accounting: {{ledger: '{url}'}}")
        assert "expected a database address" in problem and "topsecret" not in problem


@pytest.mark.parametrize("url", ["sqlite://usage.db", "sqlite://var/lib/usage.db", "sqlite://:topsecret@/usage.db"])
def test_a_file_of_sqlite_that_would_be_taken_for_a_host_is_refused(problems: Problems, url: str) -> None:
    (problem,) = problems(f"accounting: {{ledger: '{url}'}}")

    assert "expected three slashes" in problem and "topsecret" not in problem


@pytest.mark.parametrize("journal", ["", ".", "folder", "folder/"])
def test_a_journal_is_a_file_and_no_folder(problems: Problems, load: Load, journal: str) -> None:
    Path("folder").mkdir()

    assert "expected the name of a file" in problems(f"accounting: {{journal: '{journal}'}}")[0]
    assert load("accounting: {journal: folder/new}").accounting.journal == "folder/new"


def test_an_unknown_key_that_exists_elsewhere_is_pointed_to(problems: Problems) -> None:
    assert problems("keepalive: 3s")[0].endswith("(did you mean streams.keepalive?)")
    assert problems("users: {a: {api_key: x}}")[0].endswith("(did you mean upstreams.NAME.api_key?)")


def test_a_model_may_have_several_upstreams_with_shares_and_names_of_their_own(load: Load) -> None:
    config = load(
        "upstreams: {a: {url: 'https://a/v1'}, b: {url: 'https://b/v1'}}\n"
        "models: {x: {upstream: [a, b]}, y: {upstream: [{name: b, weight: 3}, {name: a, model: z}]}}"
    )

    assert [[place.name for place in model.upstream] for model in config.models.values()] == [["a", "b"], ["b", "a"]]
    assert (config.models["y"].upstream[0].weight, config.models["y"].upstream[1].model) == (3, "z")


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ("[a, c]", "models.x.upstream[1]: no upstream is called c; known: a"),
        ("[{name: c}]", "models.x.upstream[0].name: no upstream is called c"),
        ("[]", "models.x.upstream: expected the name of an upstream, or a list such as [main, spare]"),
        ("[a, 3]", "models.x.upstream: expected the name of an upstream"),
        ("[{name: a, weight: 0}]", "models.x.upstream[0].weight: expected 1 to 1000 as a weight"),
        ("[{name: a, weight: '${LARGE}'}]", "models.x.upstream[0].weight: expected 1 to 1000 as a weight"),
        ("[{weight: 2}]", "models.x.upstream[0].name: missing"),
        ("[{name: a, wieght: 2}]", "models.x.upstream[0].wieght: unknown key"),
    ],
)
def test_what_a_model_s_upstreams_cannot_be(
    upstream: str, message: str, problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARGE", "5000")
    found = problems(f"upstreams: {{a: {{url: 'https://a/v1'}}}}\nmodels: {{x: {{upstream: {upstream}}}}}")

    assert len(found) == 1 and message in found[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("retries: 11", "expected 0 to 10 retries"),
        ("flavor: azzure", "did you mean azure?"),
        ("api_version: '1'", "api_version is for flavor: azure"),
        ("cooldown: 3", "did you mean 3s?"),
        ("proxy: 'socks5://secret@x:1'", "expected the http:// or https:// address of a proxy"),
        ("proxy: 'http://u:secret@x:99999'", "expected the http:// or https:// address of a proxy"),
        ("ca_file: missing.pem", "missing.pem cannot be used: No such file or directory"),
        ("ca_file: config.yaml", "config.yaml cannot be used: holds no certificates in PEM"),
    ],
)
def test_what_the_keys_of_an_upstream_cannot_be(keys: str, message: str, problems: Problems) -> None:
    found = problems(f"upstreams: {{a: {{url: 'https://a/v1', {keys}}}}}")

    assert len(found) == 1 and message in found[0] and "secret" not in found[0]
