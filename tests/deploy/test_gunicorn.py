"""deploy/gunicorn.conf.py: gunicorn itself, with threads, with greenlets, and preloaded."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.harness import PATIENCE, RawClient, Server, free_port, start, wait_until, write_config

CONF = Path(__file__).parent.parent.parent / "deploy" / "gunicorn.conf.py"
ASK = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
CONFIG: dict[str, Any] = {"users": {"alice": {"keys": ["sk-alice"]}}, "server": {"shutdown_grace": "20s", "threads": 8}}
HURRIED = CONFIG | {"server": {"threads": 8, "shutdown_grace": "500ms"}}


@contextlib.contextmanager
def gunicorn(directory: Path, *options: str, config: dict[str, Any] = CONFIG, workers: int = 2) -> Iterator[Server]:
    port = free_port()
    file = write_config(config, directory)
    # As users call it: `gunicorn` on the command line.
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONF), "-b", f"127.0.0.1:{port}", "-w", str(workers)]
    env = {"SSEPROXY_CONFIG": str(file)}
    with start([*command, *options, "sseproxy:create_app()"], port, directory, env) as server:
        wait_until(lambda: len(server.workers()) == workers and all(map(is_ready, server.workers())))
        yield server


def is_ready(worker: int) -> bool:
    """Whether a worker has taken over SIGHUP, which is the last thing that it does."""
    caught = re.search(r"^SigCgt:\s+(\w+)", Path(f"/proc/{worker}/status").read_text("ascii"), re.M)
    return bool(caught and int(caught[1], 16) & 1 << (signal.SIGHUP - 1))


def ask(server: Server, key: str = "sk-alice", tokens: int = 3) -> int:
    body = ASK | {"demo": {"tokens": tokens}}
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE).status_code


@pytest.mark.parametrize("options", [(), ("-k", "gevent"), ("--preload",)], ids=["gthread", "gevent", "preload"])
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


@pytest.mark.parametrize("options", [(), ("-k", "gevent")], ids=["gthread", "gevent"])
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


def test_sighup_takes_on_a_new_file_and_survives_a_bad_one(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server:
        before = server.workers()
        write_config("users: [this, is, wrong]\n", tmp_path)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "the old one stays" in server.log)
        still = ask(server)
        write_config(CONFIG | {"users": {"bob": {"keys": ["sk-bob"]}}}, tmp_path)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: {ask(server, "sk-bob") for _ in range(8)} == {200})

        assert still == 200
        assert server.workers() == before


def test_workers_count_together_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server:
        for _ in range(6):
            ask(server)
        wait_until(lambda: answers_told(server) == 6)  # a worker tells the other one every so often
        directory = counting_in(server.workers()[0])
        assert directory.is_dir()
        server.stop()

    assert not directory.exists()


@pytest.mark.parametrize("options", [(), ("-k", "gevent")], ids=["gthread", "gevent"])
def test_what_a_worker_has_counted_stays_when_it_goes(tmp_path: Path, options: tuple[str, ...]) -> None:
    with gunicorn(tmp_path, *options) as server:
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
            options = ["--server", "gunicorn", "--workers", "1", "--listen", f"127.0.0.1:{port}"]
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
