"""Every fault of an upstream ends as docs/operations.md says, and none leaves a connection or a thread behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, create_environ

from sseproxy import create_app
from sseproxy.ledger.ledger import open_ledger
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.upstream.app import Timeout, UpstreamApp
from sseproxy.upstream.pool import UpstreamPool
from sseproxy.upstream.switch import UpstreamSwitch
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.exchange import Exchange, Target
from tests.harness import PATIENCE, wait_until

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text("utf-8")
OPERATIONS = DOCUMENT.partition("\n## When an upstream fails\n")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| (?P<fault>[^|]+?) \| (?P<told>[^|]+?) \| (?P<charge>[^|]+?) \| (?P<tried>[^|]+?) \|", re.M)
TABLE = {match["fault"]: match for match in ROW.finditer(OPERATIONS)}
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Once"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
LONG = Timeout(PATIENCE, PATIENCE, PATIENCE, PATIENCE)
AT_ONCE = 32
REPETITIONS = 8 * AT_ONCE

Play = Callable[[socket.socket], object]


def pause(connection: socket.socket) -> None:
    """Until the proxy has hung up."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def drip(connection: socket.socket, opening: bytes, piece: bytes) -> None:
    connection.sendall(opening)
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(piece)
            time.sleep(0.1)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send(data: bytes, then: Play = lambda connection: None) -> Play:
    def play(connection: socket.socket) -> None:
        connection.sendall(data)
        then(connection)

    return play


@dataclass(frozen=True)
class Fault:
    """A row of the table: what the upstream does, and what comes of it."""

    play: Play
    status: int
    code: str | None
    state: str = "released"
    tries: int = 3
    scheme: str = "http"

    @property
    def timeout(self) -> Timeout:
        """Ends what it does soon, and nothing else however busy the machine is."""
        struck = re.fullmatch(r"upstream_(\w+)_timeout", self.code or "")
        return replace(LONG, **{struck[1]: 0.06}) if struck and not self.is_long else LONG

    @property
    def is_long(self) -> bool:
        """Takes too long in all: not before it has begun, however long that took."""
        return self.code == "upstream_total_timeout"


FAULTS = {
    "refuses the connection": Fault(pause, 502, "upstream_unreachable"),
    "closes or resets it before its answer": Fault(reset, 502, "upstream_unreachable"),
    "sends half a head, or no HTTP": Fault(send(b"HTTP/1.1 200 OK\r\nX-"), 502, "upstream_unreachable"),
    "fails in TLS": Fault(send(b"HTTP/1.1 200 OK\r\n\r\n"), 502, "upstream_tls", tries=1, scheme="https"),
    "sends nothing, or its head too slowly": Fault(pause, 504, "upstream_first_byte_timeout", tries=1),
    "answers 408, 409, 429 or 5xx": Fault(
        send(b"HTTP/1.1 500 Broken\r\nContent-Length: 28\r\n\r\n" + b'{"error":{"message":"busy"}}'), 500, None
    ),
    "asks to wait longer than 5 s": Fault(
        send(b"HTTP/1.1 429 Slow\r\nRetry-After: 3600\r\nContent-Length: 28\r\n\r\n" + b'{"error":{"message":"busy"}}'),
        429,
        None,
        tries=1,
    ),
    "redirects": Fault(
        send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_redirect", tries=1
    ),
    "breaks off before its first event": Fault(
        send(HEAD + b"Content-Length: 999\r\n\r\n"), 502, "upstream_truncated"
    ),
    "breaks off later, or is shorter than it said": Fault(
        send(HEAD + b"Content-Length: 999\r\n\r\n" + CHUNK), 200, "upstream_truncated", "settled", 1
    ),
    "sends malformed framing": Fault(
        send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\nzz\r\n" % (len(CHUNK), CHUNK)),
        200, "upstream_bad_framing", "settled", 1,
    ),
    "falls silent": Fault(
        send(HEAD + b"\r\n" + CHUNK, pause), 200, "upstream_idle_timeout", "settled", 1
    ),
    "trickles on and on": Fault(
        lambda connection: drip(connection, HEAD + b"\r\n" + CHUNK, CHUNK), 200, "upstream_total_timeout", "settled", 1
    ),
}  # fmt: skip


class Ahead(threading.local):
    """Seconds by which the clock of each thread's answers is ahead."""

    seconds = 0.0


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    ahead = Ahead()
    monkeypatch.setattr("sseproxy.upstream.body.monotonic", lambda: time.monotonic() + ahead.seconds)
    return ahead


class FaultServer:
    """Plays one fault to every connection."""

    def __init__(self, fault: Fault, name: str) -> None:
        self._fault = fault
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"{fault.scheme}://localhost:{self._listener.getsockname()[1]}/v1"
        if name == "refuses the connection":
            self._listener.close()

    def __enter__(self) -> FaultServer:
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="fault")
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        self._pool.shutdown()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._pool.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            data = b""
            while b"\r\n\r\n" not in data and self._fault.scheme == "http":
                if not (piece := connection.recv(65536)):
                    return  # whoever connected has given up before the request
                data += piece
            self._fault.play(connection)


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Iterator[tuple[str, Fault, FaultServer]]:
    with FaultServer(FAULTS[request.param], request.param) as server:
        yield request.param, FAULTS[request.param], server


def test_every_fault_stands_in_the_table() -> None:
    assert list(TABLE)[1:] == list(FAULTS)


def test_a_fault_ends_as_the_table_says(fault: tuple[str, Fault, FaultServer], tmp_path: Path, ahead: Ahead) -> None:
    name, expected, server = fault
    ledger = f"sqlite:///{tmp_path}/usage.db"
    timeouts = {each: f"{seconds}s" for each, seconds in asdict(expected.timeout).items()}
    settings = {
        "upstreams": {"main": {"url": server.url, "timeout": timeouts}},
        "auth": {"required": False},
        "accounting": {"ledger": ledger, "journal": f"{tmp_path}/usage.journal"},
    }
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with closing(create_app(settings)) as app:
        answer = Client(app).post("/v1/chat/completions", json=body)
        ahead.seconds = 2 * PATIENCE * expected.is_long
        text = answer.get_data(as_text=True)
    with closing(open_ledger(ledger)) as books:
        (row,) = books.charges()

    last = text.strip().split("data: ")[-1]
    assert (answer.status_code, "[DONE]" in text) == (expected.status, False)
    if expected.code:
        assert json.loads(last)["error"]["code"] == expected.code
    assert (row["state"], row["outcome"]) == (
        expected.state,
        "refused" if expected.status == 429 else "upstream_failed",
    )
    assert len(row["tries"]) == expected.tries
    documented = TABLE[name]
    assert str(expected.status) in documented["told"] or "its own" in documented["told"]
    assert f"`{expected.code}`" in documented["told"] or not expected.code
    assert expected.state in documented["charge"]
    assert ("no" in documented["tried"].split()) == (expected.tries == 1 and "elsewhere" not in documented["tried"])


def test_a_fault_leaves_nothing_behind_however_often_it_happens(
    fault: tuple[str, Fault, FaultServer], ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_once(_: int) -> int:
        ahead.seconds = 0
        with answer_of(app) as answer:
            ahead.seconds = 2 * PATIENCE * expected.is_long
            for _ in answer.body:
                pass
        return answer.code

    _, expected, server = fault
    monkeypatch.setattr("sseproxy.upstream.cooldown.FAILURES", 10 * REPETITIONS)
    upstream = UpstreamApp(server.url, timeout=expected.timeout)
    app = UpstreamPool(NormalizeMiddleware(UpstreamSwitch({"main": upstream})), {"main": 0})
    ask_once(0)
    threads = set(threading.enumerate())
    sockets = open_sockets()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set(pool.map(ask_once, range(REPETITIONS))) == {expected.status}

    upstream.close()
    wait_until(
        lambda: open_sockets() <= sockets and not new_threads(threads),
        state=lambda: f"{open_sockets()} sockets, {threading.enumerate()}",
    )


@contextlib.contextmanager
def answer_of(app: Any) -> Iterator[Answer]:
    """One answer, not read yet."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    environ = create_environ("/v1/chat/completions", method="POST", json=body)
    exchange = Exchange.of(environ)
    exchange.read_request(environ)
    exchange.target = Target("main", "m")
    answer = call_app(app, environ)
    with closing(answer):
        yield answer


def new_threads(known: set[threading.Thread]) -> list[threading.Thread]:
    """Those that run now, the fault server's own left aside."""
    return [each for each in threading.enumerate() if each not in known and not each.name.startswith("fault")]


def open_sockets() -> int:
    """Sockets of this process."""
    found = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(entry.path).startswith("socket:")
    return found
