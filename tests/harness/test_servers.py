"""Starting and ending servers: ready when handed over, gone afterwards, their log at hand."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from sseproxy.demo import app
from tests.harness import RawClient, free_port, start, waitress_thread

LISTEN = """
import socket, sys, time
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
time.sleep(60)
"""


def test_waitress_serves_from_a_thread_and_is_gone_afterwards() -> None:
    with waitress_thread(app) as server, RawClient(server.url) as client:
        assert client.get("/v1/models").status == 200

    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port), 1)


def test_a_process_is_ready_when_handed_over_and_ended_afterwards(tmp_path: Path) -> None:
    port = free_port()
    with start([sys.executable, "-c", LISTEN, str(port)], port, tmp_path) as server:
        assert "listening" in server.log
        assert server.process is not None and server.process.poll() is None

    assert server.process.poll() is not None


def test_a_process_can_be_killed(tmp_path: Path) -> None:
    port = free_port()
    with start([sys.executable, "-c", LISTEN, str(port)], port, tmp_path) as server:
        server.kill()

        assert server.process is not None and server.process.returncode == -9


def test_a_process_that_ends_at_once_fails_the_test_and_shows_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    command = [sys.executable, "-c", "import sys; print('oh no'); sys.exit(3)"]
    with pytest.raises(AssertionError, match="exit code 3"), start(command, port, tmp_path):
        raise RuntimeError("never here")

    assert "oh no" in capsys.readouterr().out
