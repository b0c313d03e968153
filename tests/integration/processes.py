"""The proxy as processes that get signals: under each server, and each way to start it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sseproxy import create_app
from sseproxy.server.waitress import WaitressServer
from tests.harness import PATIENCE, RawClient, Server, free_port, launch, wait_until, write_config

from .books import KEY, STREAM

PATH = "/v1/chat/completions"
OWN = ("waitress", "workers", "gthread", "gevent")
"""``sseproxy serve``; ``workers`` are those of gunicorn with waitress in each."""
WAITRESS = "sseproxy.server.waitress_worker.WaitressWorker"
HOOKED = "gunicorn.conf.py"
"""Plain gunicorn with a configuration file that imports the hooks."""

CONF = """
from sseproxy.server.hooks import post_worker_init, worker_exit, worker_int
graceful_timeout = 20
"""


@contextmanager
def running(
    config: Mapping[str, Any], directory: Path, server: str, workers: int = 1, finds_file: bool = False
) -> Iterator[Server]:
    """The proxy with this configuration, accepting connections.

    :param finds_file: nobody names it the file; for those of :data:`OWN`.
    """
    port = free_port()
    file = write_config(config, directory)
    command = _command(server, file, port, workers)
    if finds_file:
        command = [each for each in command if each not in ("-c", str(file))]
    with launch(server, command, port, directory) as process:
        wait_until(lambda: _answers(process))
        yield process


def _command(server: str, file: Path, port: int, workers: int) -> list[str]:
    listen = f"127.0.0.1:{port}"
    if server != "waitress":
        pytest.importorskip("gunicorn")
        pytest.importorskip("gevent")
    if server == HOOKED:
        conf = file.with_name("gunicorn.conf.py")
        conf.write_text(CONF)
        options = ["-c", str(conf), "-b", listen, "-k", WAITRESS, "-w", str(workers), "--threads", "16"]
        return ["gunicorn", *options, f"sseproxy:create_app({str(file)!r})"]
    command = ["sseproxy", "serve", "-c", str(file), "--listen", listen]
    if server == "waitress":
        return command
    kind = "waitress" if server == "workers" else server
    return [*command, "--server", "gunicorn", "--worker-class", kind, "--workers", str(workers)]


def _answers(server: Server) -> bool:
    try:
        return status_of(server.url, "/-/health") == 200
    except (OSError, AssertionError):
        return False


def status_of(url: str, path: str) -> int:
    """The status of a GET."""
    with RawClient(url) as client:
        return client.get(path).status


def begin(url: str, body: Any = STREAM, path: str = PATH, key: str = KEY, **headers: str) -> RawClient:
    """A client in the middle of an answer: it has the head and the first event."""
    client = RawClient(url)
    client.post(path, body, key=key, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert client.status == 200, client.read_body()
    assert client.read_event() is not None
    return client


@contextmanager
def served_here(settings: dict[str, Any], threads: int = 16) -> Iterator[str]:
    """The URL of a proxy in this process, on the server that `sseproxy serve` runs."""
    app = create_app(settings)
    server = WaitressServer(app, listen="127.0.0.1:0", threads=threads, max_body=2**20)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.addresses[0]
    finally:
        server.stop()
        thread.join(PATIENCE)
        app.close()
