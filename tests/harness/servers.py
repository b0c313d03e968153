"""The real servers: waitress in a thread of this process, and sseproxy or gunicorn in processes of their own.

Every one listens on a free port of 127.0.0.1, is ready when it is handed over, ends with its ``with`` block, and shows
its log in the report of a test that failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from waitress import wasyncore
from waitress.server import create_server

from tests.forked import Forked

from .waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROOT = Path(__file__).parent.parent.parent
Process = subprocess.Popen[bytes] | Forked
SERVERS = ("waitress", "gthread", "gevent")
"""What :func:`serve` can start, besides ``workers``: where what is sent differs."""


def _own_ports() -> Iterator[int]:
    """Below those that the system gives out by itself, and other ones in each process that runs tests."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12_000 + worker % 8 * 2_500
    # Who runs tests beside these begins elsewhere.
    begin = first + os.getpid() * 50 % 2_500
    yield from cycle([*range(begin, first + 2_500), *range(first, begin)])


_PORTS = _own_ports()


def free_port() -> int:
    """A port on which nobody listens now, and that nobody else is given for a while."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("cycle() ends never")


@dataclass
class Server:
    """A running server. ``process`` is None for the one in a thread of this process."""

    port: int
    process: Process | None = None
    log_file: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else os.getpid()

    @property
    def log(self) -> str:
        """What it has written so far, standard output and error together."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file else ""

    def workers(self) -> list[int]:
        """The processes it has started (gunicorn's workers); none once it is gone."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def kill(self) -> None:
        """kill -9 for it and its workers, at once; they are gone then."""
        assert self.process
        processes = [self.pid, *self.workers()]
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        wait_until(lambda: not any(map(_is_alive, processes)))

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM, then wait; its exit code. After `timeout` seconds :meth:`kill`, and AssertionError."""
        assert self.process
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {timeout} s after SIGTERM\n{self.log}") from None


def _is_alive(pid: int) -> bool:
    """Whether a process still holds its connections."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def waitress_thread(app: WSGIApplication, **options: Any) -> Iterator[Server]:
    """`app` on waitress in a thread here, with the settings that sseproxy uses.

    :param options: of ``waitress.create_server``, e.g. ``threads=4``.
    """
    sockets: dict[int, Any] = {}
    options = {"listen": "127.0.0.1:0", "threads": 16, "channel_request_lookahead": 1, **options}
    server = create_server(app, map=sockets, **options)
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            wasyncore.loop(timeout=0.1, map=sockets, count=1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Server(int(server.effective_port))
    finally:
        stopping.set()
        server.pull_trigger()
        thread.join(PATIENCE)
        server.task_dispatcher.shutdown(timeout=PATIENCE)
        wasyncore.close_all(sockets)


@contextlib.contextmanager
def serve(
    config: Mapping[str, Any] | str | Path,
    server: str = "waitress",
    *,
    env: Mapping[str, str] | None = None,
    workers: int = 1,
    threads: int = 32,
    directory: Path | None = None,
) -> Iterator[Server]:
    """The proxy with this configuration (a mapping is written to a file) as processes of its own.

    :param server: ``waitress`` is ``sseproxy serve``; ``workers`` are those of gunicorn with waitress in each,
        ``gthread`` and ``gevent`` gunicorn's own.
    :param env: more variables.
    :param threads: of a worker; ``waitress`` takes its number from the configuration.
    :param directory: working directory, where relative paths of the configuration lie; a temporary one unless given.
    """
    with contextlib.ExitStack() as stack:
        where = directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        command = _command(server, write_config(config, where), port, workers, threads)
        running = stack.enter_context(launch(server, command, port, where, env))
        _wait_until_answering(running)
        yield running


@contextlib.contextmanager
def start(
    command: list[str], port: int, directory: Path, env: Mapping[str, str] | None = None, timeout: float = PATIENCE
) -> Iterator[Server]:
    """Any command that then listens on `port`, within `timeout` seconds."""
    log = _log_file(directory, port)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    with _watched(process, port, log, timeout) as running:
        yield running


@contextlib.contextmanager
def launch(
    server: str, command: list[str], port: int, directory: Path, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The proxy on a server, by what comes after ``python -m``."""
    log = _log_file(directory, port)
    with _watched(Forked(command, directory, log, env, greenlets=server == "gevent"), port, log) as running:
        yield running


@contextlib.contextmanager
def _watched(process: Process, port: int, log: Path, timeout: float = PATIENCE) -> Iterator[Server]:
    running = Server(port, process, log)
    try:
        wait_until_listening(port, process, timeout)
        yield running
    finally:
        try:
            if process.poll() is None:
                running.stop()
        finally:
            print(f"---- log of {' '.join(map(str, process.args))}\n{running.log}")


def _log_file(directory: Path, port: int) -> Path:
    return directory / f"server-{port}.log"


def wait_until_listening(port: int, process: Process | None = None, timeout: float = PATIENCE) -> None:
    """Until someone accepts connections.

    :raises AssertionError: if `process` ends before, or after `timeout` seconds.
    """

    def listens() -> bool:
        assert process is None or process.poll() is None, f"ended with exit code {process and process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    wait_until(listens, timeout, lambda: f"nobody listens on port {port}")


def _wait_until_answering(server: Server) -> None:
    """gunicorn's master listens before a worker has loaded the app, and for a while after one has failed to."""

    def answers() -> bool:
        assert server.process is None or server.process.poll() is None, "ended before it answered; see its log"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 5) as sock:
            sock.sendall(b"GET /-/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return bool(sock.recv(1))
        return False

    wait_until(answers, state=lambda: "no answer; see its log")


def write_config(config: Mapping[str, Any] | str | Path, directory: Path) -> Path:
    """A configuration file: a path as it is, a mapping or YAML text written to `directory`.

    A mapping's server goes down within a second, unless it says otherwise: tests leave streams behind.
    """
    if isinstance(config, Path):
        return config
    if not isinstance(config, str):
        config = yaml.safe_dump(
            {**config, "server": {"shutdown_grace": "1s", **config.get("server", {})}}, sort_keys=False
        )
    path = directory / "config.yaml"
    path.write_text(config, "utf-8")
    return path


def _command(server: str, config: Path, port: int, workers: int, threads: int) -> list[str]:
    listen = f"127.0.0.1:{port}"
    if server == "waitress":
        return ["sseproxy", "serve", "-c", str(config), "--listen", listen]
    kind = {"workers": "sseproxy.server.waitress_worker.WaitressWorker"}.get(server, server)
    command = ["gunicorn", "--worker-class", kind, "--workers", str(workers), "--bind", listen]
    if server != "gevent":
        command += ["--threads", str(threads)]
    # A worker's heartbeat file on a slow disk is a known cause of spurious restarts.
    shm = ["--worker-tmp-dir", "/dev/shm"] if os.path.isdir("/dev/shm") else []
    return [*command, *shm, "--graceful-timeout", "5", f"sseproxy:create_app({str(config)!r})"]
