"""A real nginx on a free port, with the configuration of a test; skipped where there is none (in CI it fails)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .parts import require_tool
from .servers import Server, free_port, start

_AROUND = """
{user}
daemon off;
worker_processes 1;
error_log stderr warn;
pid {directory}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{content}
}}
"""


@contextlib.contextmanager
def nginx_in_front(port: int, settings: str, location: str = "/") -> Iterator[Server]:
    """An nginx that passes everything on to 127.0.0.1:`port`, with these settings in its ``location``."""
    own = free_port()
    server = f"""
    server {{
        listen 127.0.0.1:{own};
        location {location} {{
            proxy_pass http://127.0.0.1:{port}{"/" if location != "/" else ""};
            {settings}
        }}
    }}"""
    with run_nginx(server, own) as running:
        yield running


@contextlib.contextmanager
def run_nginx(content: str, port: int) -> Iterator[Server]:
    """An nginx with this inside of its ``http`` block, which listens on `port`."""
    program = require_tool("nginx")
    # As root its workers would change to a user who may not write to the directory.
    user = "user root;" if os.getuid() == 0 else ""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "nginx.conf")
        path.write_text(_AROUND.format(user=user, directory=directory, content=content), "utf-8")
        checked = subprocess.run([program, "-t", "-c", str(path)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        with start([program, "-c", str(path)], port, Path(directory)) as running:
            yield running
