"""What is measured: how each proxy is started in front of the upstream, and what clients must tell it.

sseproxy runs with everything on: keys, a budget, a prefix, prices, the ledger, its log and metrics as installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from benchmarks.load.build import ROOT, Missing

KEY: Final = "sk-load"
UPSTREAM_KEY: Final = "sk-upstream"
PREFIX: Final = "You are a terse assistant of a small company. You answer in one paragraph, and never about prices."


@dataclass(frozen=True)
class Place:
    """Where a proxy is to run, and for how much."""

    directory: Path
    port: int
    upstream: int
    """The port of the upstream."""
    streams: int
    """How many will run at once."""


@dataclass(frozen=True)
class Launch:
    """How to start it, and how to talk to it."""

    command: list[str]
    headers: tuple[str, ...] = (f"Authorization: Bearer {KEY}",)
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/v1/models"
    """What it answers, with anything below 500, when it is ready."""
    patience: float = 30.0
    """Seconds until it must be."""


_NGINX: Final = """
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_buffer_size 64k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 10000000;
    map $http_authorization $known {{ default 0; "Bearer {key}" 1; }}
    upstream model {{
        server 127.0.0.1:{upstream};
        keepalive {connections};
        keepalive_requests 10000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            if ($known = 0) {{ return 401; }}
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {upstream_key}";
            proxy_buffering off;
        }}
    }}
}}
"""


def nginx(place: Place) -> Launch:
    """A plain relay with a key check, events passed on as they come: the yardstick.

    :raises Missing: it is not installed.
    """
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Missing("no nginx, so there is nothing to compare with; on Debian and Ubuntu: apt-get install nginx")
    connections = 4 * place.streams + 1024
    content = _NGINX.format(
        # As root its worker would change to a user who may not enter the directory.
        user="user root;" if os.getuid() == 0 else "",
        files=2 * connections,
        connections=connections,
        key=KEY,
        upstream_key=UPSTREAM_KEY,
        upstream=place.upstream,
        port=place.port,
    )
    path = place.directory / "nginx.conf"
    path.write_text(content, "utf-8")
    return Launch([program, "-p", str(place.directory), "-c", str(path)])


def sseproxy(*options: str) -> Callable[[Place], Launch]:
    """sseproxy on a server, with a thread for each stream."""

    def launch(place: Place) -> Launch:
        config = {
            "server": {"threads": place.streams, "shutdown_grace": "1s"},
            "upstreams": {"main": {"url": f"http://127.0.0.1:{place.upstream}/v1", "api_key": UPSTREAM_KEY}},
            "models": {"load-*": {"price": {"input": "0.15", "output": "0.60"}}},
            "users": {"load": {"keys": [KEY], "budget": {"usd": "1000000", "per": "month"}}},
            "prompt": {"prefix": PREFIX},
            "accounting": {
                "ledger": f"sqlite:///{place.directory}/usage.db",
                "journal": f"{place.directory}/usage.journal",
            },
        }
        file = place.directory / "config.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        listen = f"127.0.0.1:{place.port}"
        serve = [sys.executable, "-m", "sseproxy", "serve", "-c", str(file), "--listen", listen, *options]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return Launch(serve, env={"PYTHONPATH": path})

    return launch


SSEPROXY: Final = {
    "waitress": sseproxy(),
    "workers": sseproxy("--server", "gunicorn"),
    "gthread": sseproxy("--server", "gunicorn", "--worker-class", "gthread"),
    "gevent": sseproxy("--server", "gunicorn", "--worker-class", "gevent"),
}
"""sseproxy on each of its servers, one process."""
