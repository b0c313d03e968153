"""The servers as `serve` sets them up, over real sockets, with an application that never ends by itself."""

from __future__ import annotations

import _thread
import contextlib
import gc
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from sseproxy.app import create_app
from sseproxy.config import Config
from sseproxy.server import ServerError, drain, loop, serve
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.log import JSONFormatter, set_up_logging
from sseproxy.server.parser import LONGEST_HEAD
from sseproxy.server.waitress import WaitressServer
from tests.harness import PATIENCE, RawClient, free_port, start, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = Path(__file__).parent.parent

PROGRAM = """
import sys, time
from pathlib import Path
from sseproxy.config import Config
from sseproxy.core.sse import FLUSH, Event
from sseproxy.server import serve
from sseproxy.wsgi.client import watch_client
from sseproxy.wsgi.stream import EventStream

def note(word):
    with open("notes", "a") as notes:
        notes.write(word + "\\n")

def ticks():
    yield Event(data=b"1")
    while True:
        yield FLUSH
        time.sleep(0.05)

class App:
    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        stream = EventStream(ticks(), gone=watch_client(environ))
        stream.on_close(lambda: note("settled"))
        return stream

    def close(self):
        note("closed")

server, worker_class = sys.argv[1:]
config = Config.load({"server": {"listen": "127.0.0.1:0", "threads": 4, "shutdown_grace": "100ms"}})
serve(lambda config: App(), config, server=server, worker_class=worker_class, ready=lambda at: print(at[0], flush=True))
note("returned")
"""

PROCESS = """
import ctypes, gc, json, sys
from sseproxy.config import Config
from sseproxy.server import serve

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    slots = ctypes.CDLL(None).prctl(78, *map(ctypes.c_ulong, (2, 0, 0, 0)))
    return [json.dumps({"frozen": gc.get_freeze_count(), "interval": sys.getswitchinterval(), "slots": slots}).encode()]

server, worker_class = sys.argv[1:]
config = Config.load({"server": {"listen": "127.0.0.1:0"}})
serve(lambda config: app, config, server=server, worker_class=worker_class, ready=lambda at: print(at[0], flush=True))
"""
"""Tells what its process is like; ``slots``: of its own table of futexes, 0 for the system's, -1 if Linux is older."""

RAISING = """
import logging, sys
from sseproxy.config import Config
from sseproxy.server import serve

def app(environ, start_response):
    raise ValueError("as told")

logging.basicConfig(filename="log")
server, worker_class = sys.argv[1:]
config = Config.load({"server": {"listen": "127.0.0.1:0"}})
serve(lambda config: app, config, server=server, worker_class=worker_class, ready=lambda at: print(at[0], flush=True))
"""


CLOSING = """
import sys
from sseproxy.config import Config
from sseproxy.server import serve

class App:
    def __call__(self, environ, start_response):
        start_response("204 No Content", [])
        return []

    def close(self):
        print("closing", flush=True)
        sys.stdin.readline()
        with open("notes", "a") as notes:
            notes.write("closed\\n")

server, worker_class = sys.argv[1:]
config = Config.load({"server": {"listen": "127.0.0.1:0"}})
serve(lambda config: App(), config, server=server, worker_class=worker_class, ready=lambda at: print(at[0], flush=True))
"""


@contextmanager
def program(
    directory: Path, server: str, worker_class: str = "waitress", *, code: str = PROGRAM
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program from above in a process of its own, and its port."""
    command = [sys.executable, "-c", code, server, worker_class]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=directory, env=environment, stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait(PATIENCE)


@contextmanager
def running(app: WSGIApplication, listen: str = "127.0.0.1:0", max_body: int = 1024) -> Iterator[WaitressServer]:
    """waitress in a thread of this process."""
    server = WaitressServer(app, listen=listen, threads=4, max_body=max_body)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def connect(server: WaitressServer) -> socket.socket:
    host, _, port = server.addresses[0].removeprefix("http://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), PATIENCE)


def exchange(server: WaitressServer, request: bytes) -> tuple[bytes, Any]:
    """Status line and JSON body of an answer after which the server hangs up."""
    with connect(server) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], json.loads(body)


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = json.dumps({"hello": environ["SERVER_SOFTWARE"]}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_and_settles_running_streams_then_the_application_and_exits_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    with program(tmp_path, "waitress") as (process, port):
        with stream(port), stream(port):
            process.send_signal(number)

            assert process.wait(PATIENCE) == 0
        assert (tmp_path / "notes").read_text().split() == ["settled", "settled", "closed", "returned"]


def test_a_sighup_while_the_application_is_closed_ends_nothing(tmp_path: Path) -> None:
    with program(tmp_path, "waitress", code=CLOSING) as (process, _):
        assert process.stdin is not None
        assert process.stdout is not None
        process.terminate()
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGHUP)
        process.stdin.write("go on\n")
        process.stdin.flush()

        assert process.wait(PATIENCE) == 0
        assert (tmp_path / "notes").read_text() == "closed\n"


def test_a_sighup_for_which_no_thread_is_left_changes_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with running(hello) as server:
        monkeypatch.setattr(_thread, "start_new_thread", none_left)
        monkeypatch.setattr(threading, "_start_new_thread", none_left)
        server.reload()
        wait_until(lambda: "the old one stays: no thread is left" in caplog.text)

        assert exchange(server, GET)[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("worker_class", ["waitress", "gthread", "gevent"])
def test_gunicorn_closes_and_settles_running_streams_at_sigterm(tmp_path: Path, worker_class: str) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("gevent")
    with program(tmp_path, "gunicorn", worker_class) as (process, port):
        with stream(port), stream(port):
            process.terminate()

            assert process.wait(PATIENCE) == 0
        assert (tmp_path / "notes").read_text().split() == ["settled", "settled", "closed", "returned"]


@pytest.mark.parametrize("worker_class", ["waitress", "gthread", "gevent"])
def test_gunicorn_s_word_of_an_application_that_raises_has_no_query(tmp_path: Path, worker_class: str) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("gevent")
    with program(tmp_path, "gunicorn", worker_class, code=RAISING) as (_, port):
        assert requests.get(f"http://127.0.0.1:{port}/?key=sk-secret", timeout=PATIENCE).status_code == 500
        wait_until(lambda: "ValueError: as told" in (tmp_path / "log").read_text("utf-8"))

        assert "sk-secret" not in (tmp_path / "log").read_text("utf-8")


def stream(port: int) -> socket.socket:
    """A client in the middle of an answer."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection.sendall(GET)
    received = b""
    while b"data: 1\n" not in received:
        piece = connection.recv(4096)
        assert piece, received
        received += piece
    return connection


def test_a_second_server_on_the_same_address_is_refused_in_words() -> None:
    with running(hello) as server:
        taken = server.addresses[0].removeprefix("http://")

        with pytest.raises(ServerError, match=f"cannot listen on {taken}: Address already in use"):
            WaitressServer(hello, listen=taken, threads=1, max_body=1)


def test_a_name_without_an_address_is_refused_in_words() -> None:
    with pytest.raises(ServerError, match=r"cannot listen on a\.\.b:8080: that name has no address on this machine"):
        WaitressServer(hello, listen="a..b:8080", threads=1, max_body=1)


def test_port_0_shows_the_real_port_and_the_server_names_itself() -> None:
    with running(hello) as server:
        assert server.addresses[0].startswith("http://127.0.0.1:") and not server.addresses[0].endswith(":0")
        assert exchange(server, GET) == (b"HTTP/1.1 200 OK", {"hello": "sseproxy"})


def test_it_listens_on_ipv6() -> None:
    if not ipv6_works():
        pytest.skip("no IPv6 here")
    with running(hello, "[::1]:0") as server:
        assert server.addresses[0].startswith("http://[::1]:")
        assert exchange(server, GET)[0] == b"HTTP/1.1 200 OK"


def test_localhost_and_every_address_work_with_and_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_ipv6 in (ipv6_works(), False):
        monkeypatch.setattr("sseproxy.server.waitress.ipv6_works", lambda has_ipv6=has_ipv6: has_ipv6)
        for listen in ("localhost:0", "*:0"):
            with running(hello, listen) as server:
                assert exchange(server, GET)[0] == b"HTTP/1.1 200 OK"
                assert has_ipv6 or not any("[" in address for address in server.addresses)


def test_each_piece_leaves_before_the_next_is_made() -> None:
    read: list[threading.Event] = [threading.Event() for _ in range(3)]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        for number, event in enumerate(read):
            yield b"data: %d\n\n" % number
            assert event.wait(PATIENCE)

    with running(app) as server, connect(server) as connection:
        connection.sendall(GET)
        for number, event in enumerate(read):
            received = b""
            while b"data: %d\n\n" % number not in received:
                received += connection.recv(4096)
            event.set()


def test_a_client_that_leaves_is_noticed_without_a_write() -> None:
    noticed = threading.Event()
    begun = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun.set()
        gone = environ["waitress.client_disconnected"]
        ticker = threading.Event()
        while not gone():
            ticker.wait(0.01)
        noticed.set()
        return hello(environ, start_response)

    with running(app) as server:
        with connect(server) as connection:
            connection.sendall(GET)
            assert begun.wait(PATIENCE)
        assert noticed.wait(PATIENCE)


def test_an_answer_that_notices_nothing_is_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SETTLE_SECONDS", 600.0)
    begun, released = threading.Event(), threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun.set()
        released.wait(600.0)
        return hello(environ, start_response)

    try:
        with running(app) as server, connect(server) as connection:
            connection.sendall(GET)
            assert begun.wait(PATIENCE)
    finally:
        released.set()


def test_a_body_far_over_the_limit_is_refused_unread_with_json() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n"
    with running(hello) as server:
        status, body = exchange(server, head)

        assert status.split()[1] == b"413"
        assert body["error"]["code"] == "request_too_large"
        assert body["error"]["type"] == "invalid_request_error"
        assert "larger than 1024 bytes" in body["error"]["message"]
        assert exchange(server, head.replace(b"/", b"/v1/messages", 1))[1]["error"]["type"] == "request_too_large"


@pytest.mark.parametrize(
    ("line", "length", "status"),
    [(b"GET /", b"0", b"200"), (b"POST /", b"99999999", b"413"), (b"POST /", b"abc", b"400")],
)
def test_who_expects_to_be_told_to_go_on_is_answered_at_once_where_nothing_is_to_come(
    line: bytes, length: bytes, status: bytes
) -> None:
    with running(hello) as server, connect(server) as connection:
        connection.sendall(
            line + b" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " + length + b"\r\n\r\n"
        )

        assert connection.recv(4096).split()[1] == status


def test_past_capacity_as_many_requests_wait_as_run_the_others_are_refused_and_probes_are_answered() -> None:
    release = threading.Event()
    entered: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        entered.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/slow":
            assert release.wait(PATIENCE)
        return hello(environ, start_response)

    slow = GET.replace(b"GET / ", b"GET /slow ")
    with running(app) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(12)]
        for number, client in enumerate(clients):
            client.sendall(slow)
            if number < 4:
                wait_until(lambda number=number: len(entered) > number)  # type: ignore[misc]
        statuses: dict[socket.socket, bytes] = {}
        for client in clients[8:]:
            statuses[client] = client.recv(4096)
        assert all(head.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1\r\n" in head for head in statuses.values())
        assert exchange(server, GET.replace(b"GET / ", b"GET /-/health "))[0] == b"HTTP/1.1 200 OK"
        release.set()
        assert all(client.recv(4096).startswith(b"HTTP/1.1 200 ") for client in clients[:8])


def test_connections_take_no_files_that_answers_and_books_need(tmp_path: Path) -> None:
    port = free_port()
    serve = [sys.executable, "-m", "sseproxy", "serve", "--listen", f"127.0.0.1:{port}"]
    limited = ["sh", "-c", 'ulimit -S -n 300; ulimit -H -n 300; exec "$@"', "sh", *serve]
    ask = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    with start(limited, port, tmp_path) as server, RawClient(server.url) as client, contextlib.ExitStack() as idle:
        assert client.get("/-/health").status == 200
        for _ in range(320):
            idle.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) > 100)
        client.post("/v1/chat/completions", ask, key="sk-demo")
        assert client.status == 200, client.read_body()
        idle.close()
        with RawClient(server.url) as other:
            assert other.get("/-/health").status == 200


def test_a_page_can_read_what_the_server_refuses_and_it_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sseproxy.access")
    release, page = threading.Event(), "https://app.example.com"

    def slow(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert release.wait(PATIENCE)
        return hello(environ, start_response)

    files = {"ledger": f"sqlite:///{tmp_path}/usage.db", "journal": str(tmp_path / "journal")}
    sections = {"auth": {"required": False}, "cors": {"origins": [page]}, "accounting": files}
    app = create_app({"upstreams": {"slow": {"wsgi": slow}}, **sections})
    head = f"/v1/completions HTTP/1.1\r\nHost: x\r\nOrigin: {page}\r\n".encode()
    content = b'{"model":"m","prompt":"hi"}'
    ask = b"POST %bContent-Length: %d\r\n\r\n%b" % (head, len(content), content)
    preflight = b"OPTIONS %bAccess-Control-Request-Method: POST\r\n\r\n" % head
    with contextlib.closing(app), running(app) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(13)]
        wait_until(lambda: server._loop.dispatcher.idle == 4)
        for client in clients[:8]:
            client.sendall(ask)
        wait_until(lambda: server.waiting() == 4)
        large = b"POST %bContent-Length: 99999999\r\n\r\n" % head
        malformed = b"POST %bTransfer-Encoding: chunked\r\n\r\nno chunk\r\n" % head
        long = b"GET %b\r\n" % head.replace(b" ", b"?prompt=%b " % (b"a" * LONGEST_HEAD), 1)
        answers = []
        for client, request in zip(clients[8:], (ask, preflight, large, malformed, long), strict=True):
            client.sendall(request)
            answers.append(b"".join(iter(lambda client=client: client.recv(65536), b"")))  # type: ignore[misc]
        release.set()
        for client in clients[:8]:
            assert client.recv(65536)

    assert [answer[9:12] for answer in answers] == [b"503", b"204", b"413", b"400", b"431"]
    assert all(f"\r\nAccess-Control-Allow-Origin: {page}\r\n".encode() in answer for answer in answers)
    assert b"\r\nRetry-After: 1\r\n" in answers[0] and b"Retry-After" in answers[0].split(b"Expose-Headers: ")[1]
    assert all(b"\r\nX-Request-Id: " in answer for answer in answers)
    logged = [record.getMessage() for record in caplog.records if "status=503" in record.getMessage()]
    assert len(logged) == 1 and "path=/v1/completions" in logged[0]


def test_a_burst_no_larger_than_capacity_is_not_refused() -> None:
    with running(hello) as server:
        for _ in range(20):
            # A client has its answer a moment before its thread is free again.
            wait_until(lambda: server._loop.dispatcher.idle == 4)
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(connect(server)) for _ in range(8)]
                for client in clients:
                    client.sendall(GET)
                assert {client.recv(15) for client in clients} == {b"HTTP/1.1 200 OK"}


def test_what_is_no_http_is_refused_with_json() -> None:
    with running(hello) as server:
        status, body = exchange(server, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")

        assert status.split()[1] == b"400"
        assert body["error"]["type"] == "invalid_request_error"


def test_the_interpreter_is_as_it_was_when_serving_is_over() -> None:
    seen: list[tuple[int, float]] = []

    def look(addresses: Sequence[str]) -> None:
        seen.append((gc.get_freeze_count(), sys.getswitchinterval()))
        signal.raise_signal(signal.SIGTERM)

    before = gc.get_threshold(), sys.getswitchinterval()
    serve(lambda config: hello, Config.load({"server": {"listen": "127.0.0.1:0"}}), ready=look)

    ((frozen, interval),) = seen
    assert frozen > 0 == gc.get_freeze_count()
    assert interval > before[1]  # or hundreds of threads that wait take the core by looking up
    assert (gc.get_threshold(), sys.getswitchinterval()) == before


@pytest.mark.parametrize(
    "server, worker_class", [("waitress", "waitress"), ("gunicorn", "waitress"), ("gunicorn", "gevent")]
)
def test_a_process_that_serves_is_made_for_hundreds_of_threads(tmp_path: Path, server: str, worker_class: str) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("gevent")
    with program(tmp_path, server, worker_class, code=PROCESS) as (_, port):
        response = requests.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE)

    process = response.json()
    assert process["interval"] > 0.005  # Python's: they would take the core by looking up
    assert process["frozen"] > 0
    assert process["slots"] <= 0  # or who wakes one of them walks past dozens


def test_waitress_refuses_several_workers_in_words() -> None:
    with pytest.raises(ServerError, match="--server gunicorn"):
        serve(lambda config: hello, Config.load({}), workers=2)


def test_a_missing_gunicorn_is_named_with_its_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['gunicorn'] = None; import sseproxy.server.gunicorn"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert 'pip install "sseproxy[gunicorn]"' in result.stderr


def test_addresses_are_written_as_browsers_take_them() -> None:
    assert http_address("::", 80) == "http://[::]:80"
    assert http_address("127.0.0.1", "80") == "http://127.0.0.1:80"


def test_json_logs_are_one_object_a_line_and_access_records_keep_their_fields(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    set_up_logging("json", "warning")
    logging.getLogger("sseproxy.access").warning('{"status": 200, "user": "alice"}')
    logging.getLogger("sseproxy.upstream").error("two\nlines")
    logging.getLogger("sseproxy.upstream").info("too little")

    access, other = map(json.loads, out.getvalue().splitlines())
    assert (access["status"], access["user"], access["level"]) == (200, "alice", "warning")
    assert (other["message"], other["logger"]) == ("two\nlines", "sseproxy.upstream")


def test_a_json_record_carries_the_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError:
        record = logging.LogRecord("sseproxy", logging.ERROR, "file", 1, "failed", None, sys.exc_info())

    assert "KeyError: 'x'" in json.loads(JSONFormatter().format(record))["exception"]


def test_a_connection_carries_another_request_after_a_stream() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return iter([b"data: one\n\n", b"data: two\n\n"])

    with running(app) as server, connect(server) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += connection.recv(4096)
            assert b"connection: close" not in received.lower()


def test_the_answer_to_a_head_request_is_its_head_alone() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return []

    with running(app) as server, connect(server) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := connection.recv(4096):
            received += data

    assert received.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in received
