"""A real Redis for tests, empty, on a free port; the test is skipped where there is none (in CI it fails)."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator

from .parts import require_tool
from .servers import free_port, wait_until_listening
from .stopping import stopped
from .waiting import PATIENCE


class RedisServer:
    """A running Redis that can be stopped and started."""

    def __init__(self, program: str, port: int, directory: str) -> None:
        self._command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until_listening(self.port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def order(self, command: str) -> str:
        """Have it do this; what it answers, which is short."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(command.encode() + b"\r\n")
            answer = connection.recv(4096).decode()
        assert not answer.startswith("-"), answer
        return answer

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Meanwhile it takes connections and answers nothing."""
        assert self._process is not None
        with stopped(self._process.pid):
            yield


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A Redis that lives as long as the block."""
    program = require_tool("redis-server")
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(program, free_port(), directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()
