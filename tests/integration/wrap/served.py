"""A wrapped application for servers that run in processes of their own: its name and configuration by environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sseproxy import SSEProxyMiddleware
from tests.harness import free_port, launch, write_config

from .frameworks import APPS, Traces
from .model import wrapping


def application() -> SSEProxyMiddleware:
    """What gunicorn calls."""
    return SSEProxyMiddleware(APPS[os.environ["WRAPPED_APP"]](Traces()), os.environ["WRAPPED_CONFIG"])


@contextmanager
def gunicorn(name: str, worker: str, directory: Path) -> Iterator[str]:
    """The wrapped application ``name`` under gunicorn, with its ledger in ``directory``; its URL."""
    env = {"WRAPPED_APP": name, "WRAPPED_CONFIG": str(write_config(wrapping(directory), directory))}
    port = free_port()
    command = ["gunicorn", "--worker-class", worker, "--bind", f"127.0.0.1:{port}"]
    command += ["--threads", "8", "--graceful-timeout", "2", f"{__name__}:application()"]
    with launch(worker, command, port, directory, env) as server:
        yield server.url
