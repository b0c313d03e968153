"""app: how a stack is built and let go of; what it does is told by tests/integration."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from werkzeug.test import Client, create_environ

from sseproxy import SSEProxyMiddleware, create_app
from sseproxy.app import Proxy
from sseproxy.config import Config
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.upstream.app import UpstreamApp


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a configuration it did not write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSEPROXY_CONFIG", raising=False)


def wrap_nothing(config: Any = None) -> SSEProxyMiddleware:
    return SSEProxyMiddleware(lambda environ, start_response: [], config)


BUILDERS = pytest.mark.parametrize("build", [create_app, wrap_nothing])


@BUILDERS
def test_falling_back_to_the_demo_is_one_warning(build: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    build().close()

    (record,) = [record for record in caplog.records if record.name == "sseproxy.app"]
    assert record.levelno == logging.WARNING
    assert "the built-in demo" in record.getMessage()
    assert "public key sk-demo" in record.getMessage()


@BUILDERS
def test_a_configuration_that_was_given_is_no_warning(
    build: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    build({}).close()
    build(Config.load()).close()
    Path("config.yaml").write_text("log: {}")
    build().close()

    assert [record for record in caplog.records if record.name == "sseproxy.app"] == []


def test_closing_a_proxy_closes_its_http_upstreams_and_leaves_applications_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[object] = []
    monkeypatch.setattr(UpstreamApp, "close", lambda self: closed.append(self))
    http = {"url": "http://127.0.0.1:1/v1"}

    create_app({"upstreams": {"one": http, "two": http, "own": {"wsgi": "sseproxy.demo:app"}}}).close()

    assert len(closed) == len(set(map(id, closed))) == 2


def test_a_part_that_cannot_be_closed_keeps_no_other_from_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upstreams = {"one": {"url": "http://127.0.0.1:1/v1"}}
    app = create_app({"upstreams": upstreams, "accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db"}})
    app.ledger.ping()
    assert (tmp_path / "usage.db-wal").exists()

    def fail(_: object) -> None:
        raise OSError("a store is away")

    monkeypatch.setattr(UpstreamApp, "close", fail)
    with pytest.raises(OSError, match="a store is away"):
        app.close()

    assert not (tmp_path / "usage.db-wal").exists(), "the books are closed"


def test_what_was_opened_is_closed_where_the_rest_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sseproxy.redis_driver.client", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    streams = {"store": "redis://127.0.0.1:1/0"}
    with pytest.raises(RuntimeError) as kept:
        create_app({"accounting": {"ledger": f"sqlite:///{tmp_path}/usage.db"}, "streams": streams})

    assert (tmp_path / "usage.db").exists() and not (tmp_path / "usage.db-wal").exists(), kept


def test_what_stacks_share_is_closed_where_the_first_one_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    monkeypatch.setattr(SQLLedger, "close", lambda self: closed.append(self))

    def fail(*_: object, **__: object) -> None:
        raise OSError("no certificates")

    monkeypatch.setattr(UpstreamApp, "__init__", fail)
    with pytest.raises(OSError, match="no certificates"):
        create_app({"upstreams": {"one": {"url": "http://127.0.0.1:1/v1"}}})

    assert len(closed) == 1


def test_several_proxies_can_be_made_at_once(tmp_path: Path) -> None:
    barrier = Barrier(6)

    def make(number: int) -> Proxy:
        barrier.wait()
        return create_app(
            {"accounting": {"ledger": f"sqlite:///{tmp_path}/{number}.db", "journal": f"{number}.journal"}}
        )

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(make, range(6)))

    assert [Client(app).get("/-/ready").status_code for app in made] == [200] * 6
    for app in made:
        app.close()


def test_swapped_arguments_are_a_type_error_that_says_their_order() -> None:
    with pytest.raises(TypeError, match="expected a WSGI application, then the configuration, not str first"):
        SSEProxyMiddleware("config.yaml", lambda environ, start_response: [])  # type: ignore[arg-type]


@BUILDERS
def test_eventlet_s_server_is_told_to_write_each_piece_at_once(build: Callable[..., Any]) -> None:
    """It collects 4096 bytes, unless the environ that it gave says otherwise when the answer begins (eventlet 0.41)."""
    app = build()
    environ = create_environ("/v1/chat/completions", method="POST")

    for _ in app(environ, lambda status, headers, exc_info=None: lambda data: None):
        pass

    assert environ["eventlet.minimum_write_chunk_size"] == 0
    app.close()


AT_REST = """
import os, sys, threading
from sseproxy import create_app

app = create_app({"accounting": {"ledger": "sqlite:///books.db"}})
files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
print(threading.active_count(), [file for file in files if "books.db" in file])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_before_its_first_request_nothing_runs_or_is_open_that_a_fork_would_share() -> None:
    """uWSGI forks in C: no hook of Python's is called."""
    out = subprocess.run([sys.executable, "-c", AT_REST], capture_output=True, text=True, check=True).stdout

    assert out == "1 []\n"
