"""A reader of the log that stops reading it stops nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from sseproxy.server import standard_error
from sseproxy.server.log import set_up_logging
from tests.harness import PATIENCE, RawClient, free_port
from tests.harness.servers import wait_until_listening

ROOT = Path(__file__).parents[2]
log = logging.getLogger("sseproxy.test")


class Pipe:
    """Standard error as a pipe, whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream: TextIO = os.fdopen(writer, "w", buffering=1)

    def read(self) -> list[str]:
        """The lines in it."""
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while True:
                pieces.append(os.read(self.reader, 65536))
        return b"".join(pieces).decode().splitlines()

    def close(self) -> None:
        os.close(self.reader)
        self.stream.close()


@pytest.fixture
def pipe(root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Where the log goes."""
    pipe = Pipe()
    monkeypatch.setattr(sys, "stderr", pipe.stream)
    set_up_logging("json", "info")
    yield pipe
    pipe.close()


def messages(lines: list[str]) -> list[str]:
    return [json.loads(line)["message"] for line in lines]


def test_lines_that_nobody_takes_are_lost_and_counted_once_they_are_taken_again(pipe: Pipe) -> None:
    for number in range(1000):
        log.info("%d %s", number, "x" * 200)
    taken = messages(pipe.read())
    log.info("taken again")

    assert [int(message.split()[0]) for message in taken] == list(range(len(taken)))
    lost = f"{1000 - len(taken)} lines of the log are lost: nobody took them"
    assert messages(pipe.read()) == [lost, "taken again"]


def test_a_long_line_of_which_the_end_is_not_taken_is_lost_and_spoils_no_other(pipe: Pipe) -> None:
    log.error("x" * 100_000)
    torn = pipe.read()
    log.info("taken again")
    rest = pipe.read()

    assert len("".join(torn)) > 50_000
    assert messages(rest[1:]) == ["1 lines of the log are lost: nobody took them", "taken again"]


def test_a_long_line_that_is_taken_is_whole(pipe: Pipe) -> None:
    log.error("ä" * 10_000)

    assert messages(pipe.read()) == ["ä" * 10_000]


def test_a_pipe_in_whose_place_a_daemon_has_put_another_file_has_its_end(pipe: Pipe) -> None:
    log.info("before")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, pipe.stream.fileno())
    os.close(null)
    log.info("after")

    assert messages([os.read(pipe.reader, 65536).decode()]) == ["before"]
    assert os.read(pipe.reader, 1) == b""


def test_a_file_that_is_put_in_the_place_of_a_pipe_is_written_on_at_its_end(pipe: Pipe, tmp_path: Path) -> None:
    with (tmp_path / "error.log").open("a+") as file:  # as gunicorn's --capture-output does
        file.write("somebody else's line\n")
        file.flush()
        os.dup2(file.fileno(), pipe.stream.fileno())
    log.info("one")
    log.info("two")

    before, *lines = (tmp_path / "error.log").read_text().splitlines()
    assert (before, messages(lines)) == ("somebody else's line", ["one", "two"])


@pytest.fixture(params=["pipe", "socket"])
def full(
    request: pytest.FixtureRequest, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The log goes where nothing more is taken, though it was said that there is room: another process has used it."""
    monkeypatch.setattr(standard_error, "PATIENCE", 0.001)
    if request.param == "pipe":
        pipe = Pipe()
        stream, close = pipe.stream, pipe.close
    else:
        reader, writer = socket.socketpair()
        stream, close = os.fdopen(writer.detach(), "w", buffering=1), reader.close
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logging("text", "info")
    while logging.getLogger().handlers[0]._lost == 0:  # type: ignore[attr-defined]
        log.info("x" * 1000)
    monkeypatch.setattr(standard_error.StandardError, "_has_room", lambda handler, seconds: True)
    yield
    close()
    stream.close()


@pytest.mark.usefixtures("full")
def test_room_that_another_process_was_quicker_to_use_is_not_waited_for() -> None:
    writing = threading.Thread(target=lambda: [log.info("x" * 4000) for _ in range(100)], daemon=True)
    writing.start()
    writing.join(PATIENCE)

    assert not writing.is_alive()


def test_a_terminal_that_nobody_reads_holds_up_nobody(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, terminal = os.openpty()
    with os.fdopen(terminal, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        set_up_logging("text", "info")
        writing = threading.Thread(target=lambda: [log.info("x" * 137) for _ in range(3000)], daemon=True)
        writing.start()
        writing.join(PATIENCE)
        try:
            assert not writing.is_alive()
        finally:
            os.close(reader)


@pytest.fixture
def packets(root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What comes of the log, each write by itself."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, writer, writer.makefile("w", encoding="utf-8", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        set_up_logging("text", "info")
        yield reader


@pytest.mark.parametrize("letters", ["x" * 3_900, "ä" * 1_950, "€" * 1_300])
def test_a_line_that_a_pipe_keeps_together_among_those_of_other_workers_is_written_at_once(
    packets: socket.socket, letters: str
) -> None:
    log.error(letters)

    assert packets.recv(65536).decode().endswith(f"sseproxy.test: {letters}\n")


class Disk(io.RawIOBase):
    """A file, and what was written to it, each write by itself."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data: Any) -> int:
        self.writes.append(bytes(data))
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def test_a_line_of_any_length_is_written_to_a_file_at_once(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path / "log")
    with io.TextIOWrapper(io.BufferedWriter(disk), line_buffering=True) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        set_up_logging("json", "info")
        log.error("x" * 100_000)

    assert [json.loads(line)["message"] for line in disk.writes] == ["x" * 100_000]


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that takes nothing, and is never read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"."):
            pass
    os.set_blocking(writer, True)
    yield writer
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("server", [["waitress"], ["gunicorn"], ["gunicorn", "--worker-class", "gevent"]])
def test_a_log_that_nobody_reads_holds_up_neither_answers_nor_the_end(
    server: list[str], full_pipe: int, tmp_path: Path
) -> None:
    if "gunicorn" in server:
        pytest.importorskip("gunicorn")
        pytest.importorskip("gevent")
    port = free_port()
    command = [sys.executable, "-m", "sseproxy", "serve", "--listen", f"127.0.0.1:{port}", "--server", *server]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=full_pipe)
    try:
        wait_until_listening(port, process)
        with RawClient(f"http://127.0.0.1:{port}") as client:
            assert [client.get("/-/health").status, client.get("/v1/models").status] == [200, 401]
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
