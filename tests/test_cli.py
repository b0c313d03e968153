"""The commands, run as users run them; what goes to standard output and what to standard error."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result

from sseproxy.cli import main, reports
from sseproxy.cli.serve import chat_line, demo_lines
from sseproxy.config import Config
from sseproxy.core.printable import printable
from sseproxy.core.spreadsheet import safe_cell
from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import Charge, GroupBy, Settlement, State
from tests.harness import PATIENCE, free_port
from tests.harness.servers import wait_until_listening

ROOT = Path(__file__).parent.parent
Run = Callable[..., Result]
NOW = datetime.now(timezone.utc)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSEPROXY_CONFIG", raising=False)
    # main() lets `wsgi:` find modules of the working directory; the next test has another one.
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def run(root_logger: logging.Logger) -> Run:
    """Runs ``sseproxy`` in this process."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def ledger() -> Iterator[SQLLedger]:
    """The books of the configuration that the commands find here: the built-in one."""
    ledger = open_ledger("sqlite:///usage.db")
    yield ledger
    ledger.close()


def book(ledger: SQLLedger, id: str, user: str = "alice", at: datetime = NOW, model: str = "m") -> None:
    """A charge of 0.0015 USD for 10 + 5 tokens."""
    charge = Charge(id, user, None, "/v1/chat/completions", model, "main", model, 2_000_000, at)
    ledger.reserve(charge)
    usage = Usage(input_tokens=10, output_tokens=5)
    ledger.settle(id, Settlement("completed", "reported", usage, 0, 1_500_000, 200, 12, 34))


def rows(result: Result) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(result.stdout)
    return parsed


@pytest.mark.parametrize(
    "command",
    ["serve", "check", "schema", "keys new", "keys list", "keys revoke", "usage", "charges", "prices"],
)
def test_every_command_takes_a_file_and_explains_itself(run: Run, command: str) -> None:
    help = run(*command.split(), "--help").stdout

    assert "-c, --config FILE" in help
    assert run(*command.split(), "-h").stdout == help


def test_check_is_content_and_says_which_configuration_it_read(run: Run) -> None:
    assert run("check").stdout == "built-in demo configuration: the configuration is valid\n"
    Path("config.yaml").write_text("log: {level: debug}")
    assert run("check").stdout == "config.yaml: the configuration is valid\n"


@pytest.mark.parametrize("group", [[], ["keys"]])
def test_no_command_is_described_in_half_a_sentence(run: Run, group: list[str]) -> None:
    assert "..." not in run(*group, "--help").stdout.partition("Commands:")[2]


def test_check_shows_every_problem_and_ends_with_2(run: Run) -> None:
    Path("bad.yaml").write_text("sever: {}\nlog:\n  level: loud\n")
    result = run("check", "-c", "bad.yaml", code=2)

    assert result.stdout == ""
    assert "bad.yaml:1: sever: unknown key;" in result.stderr
    assert "(did you mean server?)" in result.stderr
    assert "bad.yaml:3: log.level: expected debug, info, warning or error" in result.stderr
    assert "2 problems in the configuration" in result.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
def test_no_upstream_at_all_ends_every_command_with_2(run: Run, command: str) -> None:
    Path("config.yaml").write_text("upstreams: {}\n")

    assert "config.yaml:1: upstreams: expected at least one upstream" in run(command, code=2).stderr


def test_check_warns_of_plain_text_keys_and_is_content(run: Run) -> None:
    Path("config.yaml").write_text("users:\n  alice:\n    keys: [sk-plain]\n")
    result = run("check")

    assert "warning: config.yaml:3: users.alice.keys[0]: a key in plain text" in result.stderr
    assert "sk-plain" not in result.output


@pytest.mark.parametrize("command", ["serve", "usage", "charges", "keys list", "prices gpt-4o", "keys new alice"])
def test_every_command_refuses_a_bad_configuration_alike(run: Run, command: str) -> None:
    Path("bad.yaml").write_text("sever: {}\n")

    assert "bad.yaml:1: sever: unknown key" in run(*command.split(), "-c", "bad.yaml", code=2).stderr


def test_serve_refuses_a_bad_address_and_workers_of_waitress(run: Run) -> None:
    assert "expected HOST:PORT" in run("serve", "--listen", "nowhere", code=2).stderr
    assert "--server gunicorn" in run("serve", "--workers", "2", code=2).stderr


def test_serve_refuses_greenlets_of_waitress_before_it_listens(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends too where it would serve
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = run("serve", "--listen", listen, "--worker-class", "gevent", code=2)

    assert "need --server gunicorn" in refused.stderr


def test_serve_warns_in_the_log_s_own_format(run: Run) -> None:
    Path("config.yaml").write_text("users: {alice: {keys: [sk-plain]}}\nlog: {format: json}\n")
    warning, _ = run("serve", "--workers", "2", code=2).stderr.splitlines()

    assert json.loads(warning)["level"] == "warning"
    assert "users.alice.keys[0]: a key in plain text" in json.loads(warning)["message"]


@pytest.mark.parametrize("what", ["the address", "the database"])
def test_serve_ends_with_1_where_only_the_moment_is_wrong(run: Run, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ledger = "sqlite:///config.yaml/usage.db" if what == "the database" else "sqlite://"
        Path("config.yaml").write_text(f"server: {{listen: '{listen}'}}\naccounting: {{ledger: '{ledger}'}}\n")
        result = run("serve", code=1)

    assert ("cannot be opened" if what == "the database" else "Address already in use") in result.stderr


def test_a_module_of_the_working_directory_can_be_an_upstream(run: Run) -> None:
    Path("answers_of_mine.py").write_text("def app(environ, start_response): ...\n")
    Path("config.yaml").write_text('upstreams: {mine: {wsgi: "answers_of_mine:app"}}')

    run("check")


def test_schema_is_json_schema(run: Run) -> None:
    schema = json.loads(run("schema").stdout)

    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "upstreams" in schema["properties"]


def test_a_key_is_shown_once_alone_and_its_hash_is_kept(run: Run, ledger: SQLLedger) -> None:
    made = run("keys", "new", "alice", "--expires", "90d", "--label", "laptop")
    secret = made.stdout.strip()
    listed = rows(run("keys", "list", "--format", "json"))

    assert secret.startswith("sk-sp-") and made.stdout.count("\n") == 1
    assert "alice" in made.stderr and secret not in made.stderr
    assert [(row["user"], row["label"], row["state"]) for row in listed] == [("alice", "laptop", "valid")]
    expires = datetime.fromisoformat(listed[0]["expires_at"])
    assert timedelta(days=89) < expires - NOW < timedelta(days=91)
    assert secret not in Path("usage.db").read_bytes().decode("latin-1")


def test_a_revoked_key_is_listed_as_such_and_cannot_be_revoked_again(run: Run) -> None:
    run("keys", "new", "alice")
    id = rows(run("keys", "list", "--format", "json"))[0]["id"]
    run("keys", "revoke", id)

    assert rows(run("keys", "list", "--format", "json"))[0]["state"] == "revoked"
    assert "there is no valid key" in run("keys", "revoke", id, code=2).stderr
    assert "there is no valid key" in run("keys", "revoke", "key_none", code=2).stderr


def listed_where_the_terminal_lacks_letters(style: str) -> bytes:
    command = [sys.executable, "-m", "sseproxy", "usage", "--format", style]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(ROOT)}
    listed = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE)
    assert (listed.returncode, listed.stderr) == (0, b"")
    return listed.stdout


def test_a_letter_that_the_terminal_lacks_ends_no_table(ledger: SQLLedger) -> None:
    for id, user in (("1", "Zo\u00eb \u65e5\u672c"), ("2", "zz")):
        book(ledger, id, user)

    listed = listed_where_the_terminal_lacks_letters("table")

    assert b"Zo\xeb \\u65e5\\u672c" in listed and b"zz" in listed


def test_what_programs_read_is_utf_8_whatever_the_terminal_s_encoding(ledger: SQLLedger) -> None:
    user = "Jos\u00e9 \U0001f600"
    book(ledger, "1", user)

    assert json.loads(listed_where_the_terminal_lacks_letters("json"))[0]["user"] == user
    assert user in listed_where_the_terminal_lacks_letters("csv").decode()


def test_a_key_needs_a_sane_user_and_duration(run: Run) -> None:
    for arguments in (["new", "a\nb"], ["new", "\udcff"], ["new", "a", "--label", "\x1b[0m"], ["revoke", "\udcff"]):
        assert "expected printable characters" in run("keys", *arguments, code=2).stderr
    assert "expected a name" in run("keys", "new", " ", code=2).stderr
    for expires in ("90", "soon", "9999999w", "0s", "0.0001ms"):
        assert "expected a duration" in run("keys", "new", "alice", "--expires", expires, code=2).stderr


def test_usage_sums_by_user_and_by_model(run: Run, ledger: SQLLedger) -> None:
    for id, user, model in [("1", "alice", "m"), ("2", "alice", "n"), ("3", "bob", "m")]:
        book(ledger, id, user, model=model)

    assert [(row["user"], row["requests"], row["cost_usd"]) for row in rows(run("usage", "--format", "json"))] == [
        ("alice", 2, "0.003"),
        ("bob", 1, "0.0015"),
    ]
    by_model = rows(run("usage", "--by", "model", "--format", "json"))
    assert {row["model"]: row["output_tokens"] for row in by_model} == {"m": 10, "n": 5}
    assert rows(run("usage", "--user", "bob", "--by", "model", "--format", "json"))[0]["user"] == "bob"


def test_usage_has_exactly_the_promised_columns(run: Run, ledger: SQLLedger) -> None:
    book(ledger, "1")
    for by in ("user", "model", "day", "route", "key", "upstream"):
        promised = ["user", *([by] if by != "user" else []), "requests", "input_tokens", "cached_input_tokens"]
        promised += ["output_tokens", "reasoning_tokens", "cost_usd", "pending", "unpriced"]

        assert list(rows(run("usage", "--by", by, "--format", "json"))[0]) == promised
        assert run("usage", "--by", by, "--format", "csv").stdout.splitlines()[0].split(",") == promised


def test_charges_are_listed_with_exactly_the_promised_columns(run: Run, ledger: SQLLedger) -> None:
    book(ledger, "1")
    promised = [
        *("id", "user", "key", "route", "model", "upstream", "upstream_model", "state", "outcome", "usage_source"),
        *("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "prefix_tokens", "cost_usd"),
        *("status", "started_at", "first_token_ms", "duration_ms", "unpriced", "tries"),
    ]

    assert list(rows(run("charges", "--format", "json"))[0]) == promised
    assert run("charges", "--format", "csv").stdout.splitlines()[0].split(",") == promised


def test_charges_are_chosen_by_user_state_time_and_number(run: Run, ledger: SQLLedger) -> None:
    book(ledger, "old", at=NOW - timedelta(days=40))
    book(ledger, "new")
    book(ledger, "other", user="bob")

    def ids(*options: str) -> set[str]:
        return {row["id"] for row in rows(run("charges", "--format", "json", *options))}

    assert ids() == {"old", "new", "other"}
    assert ids("--user", "alice", "--since", "7d") == {"new"}
    assert ids("--until", "7d") == {"old"}
    assert ids("--state", "pending") == set()
    assert len(ids("--limit", "1")) == 1
    assert ids("--since", (NOW + timedelta(hours=1)).isoformat()) == set()
    assert "'--limit'" in run("charges", "--limit", "9" * 20, code=2).output


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_times_that_are_none_are_refused_in_words(run: Run, option: str) -> None:
    assert "expected 2026-11-01, " in run("usage", option, "yesterdayish", code=2).stderr


@pytest.mark.parametrize("command", ["usage", "charges"])
def test_a_range_that_ends_before_it_begins_is_refused(run: Run, command: str) -> None:
    said = run(command, "--since", "2026-11-02", "--until", "2026-11-01", code=2).stderr

    assert "expected a time before --until, which is 2026-11-01 00:00:00 UTC" in said


@pytest.mark.parametrize("command", [("keys", "new", "alice"), ("keys", "list"), ("usage",), ("charges",)])
def test_books_in_memory_are_no_other_process_s_to_read(run: Run, command: tuple[str, ...]) -> None:
    Path("memory.yaml").write_text("accounting: {ledger: 'sqlite://'}")

    result = run(*command, "-c", "memory.yaml", code=2)

    assert "accounting.ledger: in memory, where no other process sees it" in result.stderr
    assert not result.stdout


def test_an_empty_report_is_empty_in_every_format(run: Run) -> None:
    assert run("usage", "--format", "json").stdout == "[]\n"
    assert run("charges", "--format", "csv").stdout.count("\n") == 1
    for report in ("usage", "charges"):
        assert run(report).stdout == f"nothing booked in sqlite:///{Path.cwd()}/usage.db\n"


def test_a_table_is_not_cut_off_where_there_is_no_terminal(run: Run, ledger: SQLLedger) -> None:
    book(ledger, "a-rather-long-identifier-of-a-charge", user="somebody@a-long-domain.example", model="m" * 40)
    table = run("charges").stdout

    for text in ("a-rather-long-identifier-of-a-charge", "somebody@a-long-domain.example", "m" * 40):
        assert text in table


def test_names_in_a_table_are_no_markup_and_cannot_steer_the_terminal(run: Run, ledger: SQLLedger) -> None:
    book(ledger, "1", model="[red]x[/red]\x1b[2J")

    assert "[red]x[/red]\ufffd[2J" in run("usage", "--by", "model").stdout
    assert printable("a\u202eb") == "a\ufffdb"


def test_a_spreadsheet_executes_no_cell(run: Run, ledger: SQLLedger) -> None:
    for number, model in enumerate(["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", 'a"b,c', "plain"]):
        book(ledger, str(number), model=model)
    text = run("charges", "--format", "csv").stdout
    models = {row["model"] for row in csv.DictReader(io.StringIO(text, newline=""))}

    assert models == {"'=1+1", "'+1", "'-1", "'@x", "'\t=1", "'\n=1", 'a"b,c', "plain"}
    assert (safe_cell(-1), safe_cell(None)) == (-1, "")


def test_prices_say_where_they_come_from(run: Run) -> None:
    found = rows(run("prices", "demo", "gpt-4o-mini", "no-such-model-at-all", "--format", "json"))

    assert (found[0]["input"], found[0]["output"], found[0]["upstream"]) == ("0.15", "0.6", "demo")
    assert found[1]["source"].startswith("genai-prices ")
    assert found[2]["input"] is None and found[2]["source"].startswith("unknown: booked at 0")


def test_a_model_that_no_pattern_matches_has_no_price(run: Run) -> None:
    Path("config.yaml").write_text("models: {gpt-*: {}}")

    assert "not served" in rows(run("prices", "o3", "--format", "json"))[0]["source"]


def test_a_ledger_that_cannot_be_opened_is_no_traceback(run: Run) -> None:
    Path("config.yaml").write_text("accounting: {ledger: 'sqlite:///config.yaml/usage.db'}")
    result = run("usage", code=1)

    assert result.stderr.startswith("sseproxy: accounting.ledger: ")


@pytest.mark.parametrize("server", [["waitress"], ["gunicorn"], ["gunicorn", "--worker-class", "gevent"]])
def test_the_printed_line_makes_text_type_out_and_sigterm_settles_what_still_runs(
    run: Run, tmp_path: Path, server: list[str]
) -> None:
    if "gunicorn" in server:
        pytest.importorskip("gunicorn")
        pytest.importorskip("gevent")
    command = [sys.executable, "-m", "sseproxy", "serve", "--listen", "127.0.0.1:0", "--server", *server]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        source, listening, _, curl, _, usage, chat = (process.stdout.readline().strip() for _ in range(7))
        assert source == "sseproxy: configuration: built-in demo configuration"
        assert listening.startswith("sseproxy: listening on http://127.0.0.1:")
        assert usage.endswith("-m sseproxy usage")
        assert chat == f"Chat in a browser: {listening.rpartition(' ')[2]}/-/chat#key=sk-demo"
        with post_as_curl(curl) as response:
            assert response.readline().startswith(b"data: {")
            process.terminate()
        # The reader has left: else the rest would be typed out first.
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()

    assert [(row["user"], row["state"]) for row in rows(run("charges", "--format", "json"))] == [("demo", "settled")]
    assert float(rows(run("usage", "--format", "json"))[0]["cost_usd"]) > 0


@pytest.mark.parametrize("redirected", [">&-", ">/dev/full", ""])
def test_serve_serves_where_its_standard_output_is_closed_full_or_a_pipe_without_a_reader(redirected: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "sseproxy", "serve", "--listen", f"127.0.0.1:{port}"]
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = ["sh", "-c", f'exec "$@" {redirected}', "sh", *command]
    process = subprocess.Popen(shell, env=environment, stdout=writer)
    os.close(writer)
    try:
        wait_until_listening(port, process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/health", timeout=PATIENCE) as response:
            assert response.status == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def post_as_curl(line: str) -> Any:
    """What the curl line does: curl itself may not be there."""
    _, _, url, *options = shlex.split(line)
    headers = dict(value.split(": ") for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "-H")
    return urllib.request.urlopen(urllib.request.Request(url, options[-1].encode(), headers), timeout=PATIENCE)


def test_the_demo_says_how_to_see_it_work() -> None:
    lines = demo_lines(Config.load(), "http://0.0.0.0:81", "sseproxy", "my file.yaml")

    assert "curl -N http://127.0.0.1:81/v1/chat/completions -H 'Authorization: Bearer sk-demo'" in lines[1]
    assert lines[3] == "  sseproxy usage -c 'my file.yaml'"


def test_without_the_demo_key_or_the_demo_upstream_nothing_is_suggested() -> None:
    without_key = {"users": {"alice": {"keys": ["x"]}}}
    without_upstream = {"upstreams": {"a": {"url": "https://x/v1"}}, "users": {"demo": {"keys": ["sk-demo"]}}}

    for source in (without_key, without_upstream):
        assert demo_lines(Config.load(source), "http://127.0.0.1:1", "sseproxy", None) == []
        assert chat_line(Config.load(source), "http://[::]:1") == "Chat in a browser: http://[::1]:1/-/chat"


def test_checking_a_file_loads_no_database_toolkit_and_no_http_client(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sseproxy.cli import main\nmain(['check'], standalone_mode=False)\n"
        "print(sorted({'sqlalchemy', 'alembic', 'requests', 'rich', 'genai_prices', 'splintr'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_asking_for_help_does_not_load_the_configuration(tmp_path: Path) -> None:
    code = "import sys, sseproxy.cli; print('pydantic' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert result.stdout.strip() == "False", result.stderr


def test_the_module_runs_too(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sseproxy", "--version"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert result.stdout.startswith("sseproxy, version ")


def test_the_choices_are_those_of_the_books() -> None:
    """Written down a second time, for no command is to wait for what it does not need."""
    assert get_args(GroupBy) == reports.GROUPS
    assert get_args(State) == reports.STATES
