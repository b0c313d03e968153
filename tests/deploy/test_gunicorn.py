"""deploy/gunicorn.conf.py: gunicorn itself, with waitress in its workers, with greenlets, and preloaded."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from gunicorn.config import Config as Settings

from sseproxy.config import DEMO_KEY
from sseproxy.server.address import ipv6_works
from sseproxy.server.gunicorn import GREENLETS, allow_connections
from sseproxy.server.hooks import Connected
from sseproxy.server.waitress_worker import WaitressWorker
from tests.harness import PATIENCE, RawClient, Server, free_port, launch, start, wait_until, write_config
from tests.harness.old_books import make_old_books

CONF = Path(__file__).parent.parent.parent / "deploy" / "gunicorn.conf.py"
ASK = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
CONFIG: dict[str, Any] = {"users": {"alice": {"keys": ["sk-alice"]}}, "server": {"shutdown_grace": "20s", "threads": 8}}
HURRIED = CONFIG | {"server": {"threads": 8, "shutdown_grace": "500ms"}}
CHANGED = CONFIG | {"users": {"bob": {"keys": ["sk-bob"]}}}
KINDS = pytest.mark.parametrize(
    "options", [(), ("-k", "gevent"), ("--preload",)], ids=["waitress", "gevent", "preload"]
)
AROUND = """
from sseproxy import create_app
inner = create_app()

def app(environ, start_response):
    return inner(environ, start_response)

app.drain = inner.drain
"""
WITHOUT_THREADS = """
import _thread
from sseproxy import create_app

start, refused = _thread.start_new_thread, []

def start_third(function, *rest):
    if getattr(function, "__name__", "") == "_drain" and len(refused) < 2:
        refused.append(function)
        raise RuntimeError("can't start new thread")
    return start(function, *rest)

_thread.start_new_thread = start_third
app = create_app()
"""
PATIENT = """
from sseproxy import create_app
from sseproxy.server import waitress_worker

waitress_worker.LAST_WORD = 60.0
app = create_app()
"""
BAD_DRAIN = """
from sseproxy import create_app
inner = create_app()

def app(environ, start_response):
    return inner(environ, start_response)

def drain(grace):
    raise ValueError("it cannot")

app.drain = drain
"""
HELD = """
import os
from sseproxy import create_app

def create():
    app = create_app()
    if os.path.exists("gate"):
        with open("gate", "r+b", buffering=0) as gate:
            with open("waiting.new", "w") as waiting:
                waiting.write(str(os.getpid()))
            os.replace("waiting.new", "waiting")
            gate.read(1)
    return app
"""

EARLY = """
import os, signal, sys

class HangUp:
    def find_spec(self, name, path=None, target=None):
        if name == "sseproxy.config":
            os.kill(os.getpid(), signal.SIGHUP)

sys.meta_path.insert(0, HangUp())
"""


@contextlib.contextmanager
def gunicorn(
    directory: Path,
    *options: str,
    config: dict[str, Any] = CONFIG,
    workers: int = 2,
    app: str = "sseproxy:create_app()",
    counts: bool = False,
) -> Iterator[Server]:
    """gunicorn itself, ready to serve.

    :param counts: its workers are to count together, which they decide while they import; so it is not forked.
    """
    port = free_port()
    file = write_config(config, directory)
    # As users call it: `gunicorn` on the command line. Of itself it stays in the directory in which it was imported.
    command = ["gunicorn", "-c", str(CONF), "-b", f"127.0.0.1:{port}", "-w", str(workers), "--chdir", str(directory)]
    command += [*options, app]
    env = {"SSEPROXY_CONFIG": str(file)}
    kind = "gevent" if "gevent" in options else "waitress"
    with (
        start([sys.executable, "-m", *command], port, directory, env)
        if counts
        else launch(kind, command, port, directory, env)
    ) as server:
        wait_until_ready(server, workers)
        yield server


def wait_until_ready(server: Server, workers: int, gone: int | None = None) -> None:
    """Until there are so many workers, without one that has ended, and all have taken over SIGHUP."""

    def ready() -> bool:
        now = server.workers()
        return len(now) == workers and gone not in now and all(map(is_ready, now))

    wait_until(ready)


def replace_worker(server: Server) -> None:
    """kill -9 for one, and wait for the one that comes instead."""
    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    wait_until_ready(server, len(workers), gone=workers[0])


def change(server: Server, directory: Path, config: dict[str, Any] | str) -> None:
    """SIGHUP with another file."""
    write_config(config, directory)
    os.kill(server.pid, signal.SIGHUP)


def is_ready(worker: int) -> bool:
    """Whether a worker has taken over SIGHUP, which is the last thing that it does.

    As long as it has its master's handlers, it does not catch SIGABRT.
    """
    try:
        status = Path(f"/proc/{worker}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = int(re.findall(r"^SigCgt:\s+(\w+)", status, re.M)[0], 16)
    return all(caught & 1 << (number - 1) for number in (signal.SIGHUP, signal.SIGABRT))


def ask(server: Server, key: str = "sk-alice", tokens: int = 3) -> int:
    body = ASK | {"demo": {"tokens": tokens}}
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE).status_code


@KINDS
def test_a_running_stream_ends_whole_although_gunicorn_is_told_to_stop(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with gunicorn(tmp_path, *options, workers=1) as server, RawClient(server.url) as client:
        client.post("/v1/chat/completions", ASK | {"demo": {"tokens": 20, "interval_ms": 60}}, key="sk-alice")
        assert client.status == 200 and client.read_event()
        assert server.process
        server.process.terminate()
        events = list(client.events())
        code = server.stop()

    assert client.ending == "clean"
    assert events[-1].data == b"[DONE]"
    assert code == 0
    assert "did not close cleanly" not in server.log


@KINDS
def test_an_answer_that_nobody_reads_at_present_ends_whole_although_gunicorn_replaces_its_worker(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with gunicorn(tmp_path, *options, workers=1) as server:
        with RawClient(server.url) as client:
            asked = ASK | {"demo": {"tokens": 50, "interval_ms": 60}}
            client.post("/v1/chat/completions", asked, key="sk-alice", headers={"Prefer": "respond-async"})
        assert client.status == 202
        (worker,) = server.workers()
        os.kill(worker, signal.SIGTERM)
        wait_until_ready(server, 1, gone=worker)

        asked_for = {"headers": {"Authorization": "Bearer sk-alice"}, "timeout": PATIENCE}
        (sums,) = requests.get(f"{server.url}/-/usage", **asked_for).json()["data"]  # type: ignore[arg-type]
        assert sums["output_tokens"] == 50


def test_a_worker_that_has_no_thread_left_to_go_down_with_ends_once_it_has_one(tmp_path: Path) -> None:
    (tmp_path / "without_threads.py").write_text(WITHOUT_THREADS)
    with gunicorn(tmp_path, workers=1, app="without_threads:app") as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGTERM)

        wait_until_ready(server, 1, gone=worker)


def test_a_worker_whose_application_fails_to_go_down_ends_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "bad_drain.py").write_text(BAD_DRAIN)
    with gunicorn(tmp_path, workers=1, app="bad_drain:app") as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGTERM)

        wait_until_ready(server, 1, gone=worker)


def test_connections_are_hung_up_on_though_no_file_can_be_opened_any_more() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            served = Connected(lambda environ, start_response: [])
            served({"gunicorn.socket": ours, "SERVER_PROTOCOL": "HTTP/1.1"}, lambda *_: None)  # type: ignore[arg-type]
            served.hang_up()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        assert theirs.recv(1) == b""
        assert ours.fileno() >= 0


@pytest.mark.parametrize("options", [(), ("-k", "gthread"), ("-k", "gevent")], ids=["waitress", "gthread", "gevent"])
def test_what_runs_on_beyond_the_grace_ends_with_an_error_event(tmp_path: Path, options: tuple[str, ...]) -> None:
    with gunicorn(tmp_path, *options, config=HURRIED, workers=1) as server, RawClient(server.url) as client:
        client.post("/v1/chat/completions", ASK | {"demo": {"tokens": 500, "interval_ms": 60}}, key="sk-alice")
        assert client.read_event()
        assert server.process
        server.process.terminate()
        events = list(client.events())
        code = server.stop()

    assert "error" in events[-1].json
    assert code == 0


@pytest.mark.parametrize("most", ["3", "0"])
def test_a_worker_that_is_replaced_drops_no_connection_without_a_word(most: str, tmp_path: Path) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    with gunicorn(tmp_path, "--max-requests", most, workers=1, app="patient:app") as server:
        (worker,) = server.workers()
        with RawClient(server.url) as kept:
            assert kept.get("/-/ready").status == 200
            if most == "0":
                os.kill(worker, signal.SIGTERM)
            while (answer := kept.get("/-/ready")).headers.get("connection") != "close":
                assert answer.status == 200
            assert answer.status == 200
        wait_until_ready(server, 1, gone=worker)

    assert ("Autorestarting" in server.log) == (most == "3")


def test_nobody_waits_for_an_answer_after_which_a_worker_is_replaced(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--max-requests", "1", workers=1) as server:
        (worker,) = server.workers()
        with RawClient(server.url) as slow:
            slow.post("/v1/chat/completions", ASK | {"demo": {"tokens": 500, "interval_ms": 60}}, key="sk-alice")
            assert slow.read_event()
            with RawClient(server.url) as new:
                assert new.get("/-/ready").status == 200
        wait_until_ready(server, 1, gone=worker)

    assert server.log.count("Autorestarting") == 1


def test_a_service_that_goes_down_beside_the_one_it_began_with_sigusr2_refuses_nobody(tmp_path: Path) -> None:
    port, file = free_port(), write_config(CONFIG, tmp_path)
    command = [sys.executable, "-m", "sseproxy", "serve", "-c", str(file), "--listen", f"127.0.0.1:{port}"]
    with (
        start([*command, "--server", "gunicorn", "--workers", "1"], port, tmp_path) as old,
        RawClient(old.url) as slow,
        contextlib.ExitStack() as stack,
    ):
        slow.post("/v1/chat/completions", ASK | {"demo": {"tokens": 500, "interval_ms": 60}}, key="sk-alice")
        (worker,) = old.workers()
        os.kill(old.pid, signal.SIGUSR2)
        wait_until(lambda: len(old.workers()) == 2)
        (new,) = {*old.workers()} - {worker}
        stack.callback(os.kill, new, signal.SIGTERM)
        wait_until(lambda: old.log.count("sseproxy: listening on") == 2)
        os.kill(old.pid, signal.SIGTERM)
        wait_until(lambda: "going down" in old.log)
        for _ in range(20):
            with RawClient(old.url) as client:
                assert client.get("/-/ready").status == 200


@pytest.mark.parametrize(
    ("name", "value", "asked"), [("certfile", "a.pem", "TLS"), ("proxy_protocol", True, "PROXY protocol")]
)
def test_a_worker_with_waitress_refuses_in_words_what_clients_would_be_lost_without(
    name: str, value: object, asked: str
) -> None:
    settings = Settings()
    settings.set(name, value)

    with pytest.raises(RuntimeError, match=f"WaitressWorker speaks no {asked}: .* -k gthread"):
        WaitressWorker.check_config(settings, None)


def test_the_grace_is_that_of_the_file_also_for_an_application_around_the_proxy(tmp_path: Path) -> None:
    (tmp_path / "around.py").write_text(AROUND)
    with (
        gunicorn(tmp_path, config=HURRIED, workers=1, app="around:app") as server,
        RawClient(server.url) as client,
    ):
        client.post("/v1/chat/completions", ASK | {"demo": {"tokens": 500, "interval_ms": 60}}, key="sk-alice")
        assert client.read_event()
        assert server.process
        server.process.terminate()
        events = list(client.events())

    assert "error" in events[-1].json


def test_sighup_takes_on_a_new_file_and_survives_a_bad_one(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server:
        before = server.workers()
        change(server, tmp_path, "users: [this, is, wrong]\n")
        wait_until(lambda: "the old one stays" in server.log)
        change(server, tmp_path, "")
        wait_until(lambda: server.log.count("the old one stays") == 2)
        still = ask(server)
        change(server, tmp_path, CHANGED)
        wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})

        assert still == 200
        assert server.workers() == before


@KINDS
def test_a_worker_that_begins_after_a_bad_file_has_what_the_others_have(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with gunicorn(tmp_path, *options) as server:
        change(server, tmp_path, CHANGED)
        wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})
        change(server, tmp_path, "users: [this, is, wrong]\n")
        wait_until(lambda: "the old one stays" in server.log)
        for _ in range(2):
            replace_worker(server)

        assert {ask(server, "sk-bob") for _ in range(8)} == {200}
        assert {ask(server) for _ in range(8)} == {401}


@pytest.mark.parametrize("told", ["-eSSEPROXY_CONFIG={}/config.yaml", "--chdir={}"])
def test_an_application_has_the_file_that_it_finds_although_gunicorn_looked_before(tmp_path: Path, told: str) -> None:
    (its_own := tmp_path / "its_own").mkdir()
    write_config(CONFIG, its_own)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONF), "-b", f"127.0.0.1:{port}", told.format(its_own)]
    with start([*command, "-w1", "sseproxy:create_app()"], port, tmp_path, {}) as server:
        assert ask(server) == 200
        assert ask(server, DEMO_KEY) == 401


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("-eSSEPROXY_CONFIG=its_own/config.yaml", ""),
        ("--chdir=its_own", "--chdir=elsewhere"),
        ("-w1", "--chdir its_own"),
    ],
)
def test_address_and_reloads_are_those_of_the_file_that_its_application_finds(
    tmp_path: Path, option: str, variable: str
) -> None:
    (its_own := tmp_path / "its_own").mkdir()
    (tmp_path / "elsewhere").mkdir()
    port = free_port()
    write_config({"users": {}}, tmp_path)
    write_config(CONFIG | {"server": {"listen": f"127.0.0.1:{port}"}}, its_own)
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONF), "-w1", option, "sseproxy:create_app()"]
    with start(command, port, tmp_path, {"GUNICORN_CMD_ARGS": variable}) as server:
        wait_until_ready(server, 1)
        assert ask(server) == 200
        change(server, its_own, "users: [this, is, wrong]\n")
        wait_until(lambda: "the old one stays" in server.log)
        change(server, its_own, CHANGED)
        wait_until(lambda: ask(server, "sk-bob") == 200)


def test_the_log_names_what_to_think_about_in_the_file(tmp_path: Path) -> None:
    listening = {"server": {"listen": "0.0.0.0:8080"}}
    with gunicorn(tmp_path, config=CONFIG | listening) as server:
        assert server.log.count("users.alice.keys[0]: ") == 1
        assert server.log.count("streams.store: memory:// with 2 workers: ") == 1
        change(server, tmp_path, CHANGED | listening)
        wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})
        assert server.log.count("users.bob.keys[0]: ") == 1


def test_a_worker_that_begins_after_a_change_of_the_ledger_writes_the_same_books_as_the_others(tmp_path: Path) -> None:
    books = [f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second")]
    with gunicorn(tmp_path, config=CONFIG | {"accounting": {"ledger": books[0]}}) as server:
        change(server, tmp_path, CHANGED | {"accounting": {"ledger": books[1]}})
        wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})
        for _ in range(2):
            replace_worker(server)
        assert ask(server, "sk-bob") == 200

    assert (tmp_path / "first.db").exists()
    assert not (tmp_path / "second.db").exists()


@KINDS
def test_books_of_an_earlier_version_are_migrated_before_there_are_workers(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    books = f"sqlite:///{tmp_path}/usage.db"
    make_old_books(books)
    with gunicorn(tmp_path, *options, config=CONFIG | {"accounting": {"ledger": books}}) as server:
        before, _, after = server.log.partition("the ledger is brought from version 0004")

        assert "Booting worker" not in before
        assert "Booting worker" in after


def test_no_books_are_made_beside_those_of_an_application_with_a_file_of_its_own(tmp_path: Path) -> None:
    (its_own := tmp_path / "its_own").mkdir()
    write_config(CONFIG | {"accounting": {"ledger": f"sqlite:///{its_own}/usage.db"}}, its_own)
    with gunicorn(tmp_path, app=f"sseproxy:create_app('{its_own}/config.yaml')") as server:
        assert ask(server) == 200

    assert (its_own / "usage.db").exists()
    assert not (tmp_path / "usage.db").exists()


def test_a_worker_that_still_loads_its_application_at_sighup_gets_the_new_file_too(tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(HELD)
    with gunicorn(tmp_path, workers=1, app="held:create()") as server:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until((tmp_path / "waiting").exists)
        change(server, tmp_path, CHANGED)
        wait_until(lambda: "Handling signal: hup" in server.log)
        gate.write_bytes(b"go on")
        wait_until(lambda: ask(server, "sk-bob") == 200)

        assert ask(server) == 401


def test_sighup_while_the_application_is_preloaded_is_taken_on_by_the_workers(tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(HELD)
    os.mkfifo(tmp_path / "gate")
    file = write_config(CONFIG, tmp_path)
    port = free_port()
    options = ["-c", str(CONF), "-b", f"127.0.0.1:{port}", "--preload", "--chdir", str(tmp_path)]
    command = ["gunicorn", *options, "held:create()"]
    with futures.ThreadPoolExecutor() as threads:

        def hang_up() -> None:
            wait_until((tmp_path / "waiting").exists)
            master = int((tmp_path / "waiting").read_text())
            write_config(CHANGED, tmp_path)
            os.kill(master, signal.SIGHUP)
            (tmp_path / "gate").write_bytes(b"go on")

        hung_up = threads.submit(hang_up)
        with launch("waitress", command, port, tmp_path, {"SSEPROXY_CONFIG": str(file)}) as server:
            hung_up.result(PATIENCE)
            wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})


def test_sighup_while_gunicorns_file_still_imports_its_settings_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(EARLY + CONF.read_text("utf-8"))
    file = write_config(CONFIG, tmp_path)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "early.py", "-b", f"127.0.0.1:{port}", "sseproxy:create_app()"]
    with start(command, port, tmp_path, {"SSEPROXY_CONFIG": str(file)}) as server:
        wait_until(lambda: "Handling signal: hup" in server.log)
        assert ask(server) == 200


def test_sighup_changes_the_form_and_the_level_of_the_log(tmp_path: Path) -> None:
    with gunicorn(tmp_path, config=CONFIG | {"log": {"level": "warning"}}) as server:
        assert ask(server) == 200
        change(server, tmp_path, CHANGED | {"log": {"format": "json"}})
        wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})
        wait_until(lambda: '"user": "bob"' in server.log)
        (*_, line) = [line for line in server.log.splitlines() if '"user": "bob"' in line]

    assert json.loads(line)["level"] == "info"
    assert "user=alice" not in server.log


@pytest.mark.parametrize(("kind", "connections"), [("gevent", GREENLETS), ("gthread", 1000)])
def test_connections_suit_the_kind_of_workers_unless_somebody_said_how_many(
    kind: str, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100_000, 100_000))
    usual, chosen = Settings(), Settings()
    for settings in (usual, chosen):
        settings.set("worker_class", kind)
    chosen.set("worker_connections", 500)
    for settings in (usual, chosen):
        allow_connections(SimpleNamespace(cfg=settings))

    assert (usual.worker_connections, chosen.worker_connections) == (connections, 500)


def test_connections_are_no_more_than_there_may_be_files_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    settings = Settings()
    allow_connections(SimpleNamespace(cfg=settings))

    assert settings.worker_connections == 100


def test_an_asterisk_is_every_address_and_the_command_line_wins(tmp_path: Path) -> None:
    file = write_config(CONFIG | {"server": {"listen": "*:8080", "threads": 7}}, tmp_path)
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONF), "--keep-alive", "9", "--print-config", "sseproxy:app"]
    env = {**os.environ, "SSEPROXY_CONFIG": str(file)}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE)
    told = dict(re.findall(r"^(\w+) += (.*)$", result.stdout, re.M))

    assert told["bind"] == repr(["[::]:8080" if ipv6_works() else "0.0.0.0:8080"])
    assert (told["threads"], told["keepalive"]) == ("7", "9")
    assert told["worker_tmp_dir"] == ("/dev/shm" if os.path.isdir("/dev/shm") else "None")


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["waitress", "preload"])
def test_workers_count_together_and_nothing_is_left_behind(tmp_path: Path, options: tuple[str, ...]) -> None:
    with gunicorn(tmp_path, *options, counts=True) as server:
        for _ in range(6):
            ask(server)
        wait_until(lambda: answers_told(server) == 6)  # a worker tells the other one every so often
        directory = counting_in(server.workers()[0])
        assert directory.is_dir()
        server.stop()

    assert not directory.exists()


@pytest.mark.parametrize("options", [(), ("-k", "gevent")], ids=["waitress", "gevent"])
def test_what_a_worker_has_counted_stays_when_it_goes(tmp_path: Path, options: tuple[str, ...]) -> None:
    with gunicorn(tmp_path, *options, counts=True) as server:
        before = server.workers()
        for _ in range(6):
            ask(server)
        for worker in before:
            os.kill(worker, signal.SIGTERM)
        wait_until(lambda: len(server.workers()) == 2 and not set(before) & set(server.workers()))
        wait_until(lambda: all(map(is_ready, server.workers())))

        assert answers_told(server) == 6


MALFORMED = [
    (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer sk-secret\r\n\r\n", "InvalidHeader"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-secret\x01\r\n\r\n", "InvalidHeader"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nsk-secret key: x\r\n\r\n", "InvalidHeaderName"),
    (b'{"messages": "sk-secret"}\r\n\r\n', "InvalidRequestLine"),
    (b"GET /?key=sk-secret HTTP/9.1\r\nHost: x\r\n\r\n", "InvalidHTTPVersion"),
]


@pytest.mark.parametrize("worker", ["gthread", "gevent", "serve"])
def test_no_log_quotes_a_request_that_could_not_be_read(tmp_path: Path, worker: str) -> None:
    config = CONFIG | {"log": {"level": "debug"}}
    with contextlib.ExitStack() as stack:
        if worker == "serve":
            port = free_port()
            command = [sys.executable, "-m", "sseproxy", "serve", "-c", str(write_config(config, tmp_path))]
            options = ["--server", "gunicorn", "--worker-class", "gthread", "--listen", f"127.0.0.1:{port}"]
            server = stack.enter_context(start([*command, *options], port, tmp_path))
        else:
            server = stack.enter_context(gunicorn(tmp_path, "-k", worker, config=config, workers=1))
        wait_until(lambda: ask(server) == 200)
        for request, error in MALFORMED:
            before = server.log.count(f": {error}")
            with RawClient(server.url) as client:
                client.send_bytes(request)
                assert client.read_head().status == 400
            wait_until(lambda error=error, before=before: server.log.count(f": {error}") > before)

        assert "secret" not in server.log


def answers_told(server: Server) -> float:
    """How many answers a scrape tells of."""
    told = requests.get(f"{server.url}/-/metrics", timeout=PATIENCE).text
    counts = [line for line in told.splitlines() if line.startswith("sseproxy_request_duration_seconds_count")]
    return sum(float(line.rpartition(" ")[2]) for line in counts if "/v1/chat/completions" in line)


def counting_in(pid: int) -> Path:
    """The directory in which a worker counts."""
    maps = Path(f"/proc/{pid}/maps").read_text("utf-8")
    return Path(re.findall(r"(/\S*sseproxy-metrics-[^/]+)/\S+\.db", maps)[0])
