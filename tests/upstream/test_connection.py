"""upstream/connection, kept and dialer: kept connections, what is sent on them, certificates, and HTTP proxies."""

from __future__ import annotations

import contextlib
import io
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from werkzeug.exceptions import ClientDisconnected
from werkzeug.test import create_environ

from sseproxy.upstream.app import Timeout, UpstreamApp
from sseproxy.upstream.connection import Connection
from sseproxy.upstream.dialer import Dialer
from sseproxy.upstream.flavor import Azure
from sseproxy.upstream.kept import KEPT_FOR, Connections
from sseproxy.upstream.sending import PIECE, Outgoing
from sseproxy.upstream.waiting import Waiting
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.client import Linger
from sseproxy.wsgi.exchange import Exchange, Target
from sseproxy.wsgi.upload import Upload
from tests.harness import PATIENCE, Upstream, free_port, raw, stream, wait_until
from tests.upstream.test_app import CHAT, ask, make_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.contextmanager
def server(serve: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """A port whose connections are each served in a thread: the socket, and its number from 0."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, ThreadPoolExecutor(32) as pool:
        accepted: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])
                    pool.submit(serve, accepted[-1], len(accepted) - 1)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            for connection in accepted:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    """The head and the body of one request; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def endless() -> Waiting:
    """A wait that nothing ends."""
    return Waiting(create_environ(), math.inf, Linger())


def body_of(answer: Answer) -> bytes:
    return b"".join(answer.body)


def test_a_stale_connection_is_replaced_at_once_and_stands_among_the_tries() -> None:
    """The server closes a kept connection just when the next request arrives: nobody's fault, and common."""

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            read_request(connection)
            connection.sendall(OK)
            if number == 0:
                read_request(connection)  # and no answer
            else:
                read_request(connection)

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        assert body_of(ask(app, CHAT)) == b"{}"
        environ = create_environ("/v1/chat/completions", method="POST", json=CHAT)
        answer = call_app(app, environ)

        assert (answer.code, body_of(answer)) == (200, b"{}")
        tries = Exchange.of(environ).tries
        assert [(each.error, each.status, each.reached) for each in tries] == [
            ("stale_connection", None, True),
            (None, 200, True),
        ]
        app.close()


def test_with_a_stale_connection_the_others_that_wait_are_closed() -> None:
    both = threading.Barrier(2)
    closed = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            read_request(connection)
            if number < 2:
                both.wait(PATIENCE)
            connection.sendall(OK)
            if not read_request(connection) and number < 2:
                closed.set()

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda _: body_of(ask(app, CHAT)), range(2))) == [b"{}", b"{}"]
        assert body_of(ask(app, CHAT)) == b"{}"

        assert closed.wait(PATIENCE)
        app.close()


def test_what_follows_an_interim_answer_is_the_answer_and_not_the_next_request_s() -> None:
    """RFC 9110 section 15.2: any 1xx may come before; http.client skips 100 alone."""

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            while request := read_request(connection):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
                connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
                content = request.partition(b"\r\n\r\n")[2]
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        for number in range(3):
            answer = ask(app, {**CHAT, "seed": number})
            assert (answer.code, json.loads(body_of(answer))["seed"]) == (200, number)
        app.close()


@pytest.mark.parametrize(("status", "length"), [(b"204 No Content", ""), (b"304 Not Modified", "5")])
def test_an_answer_that_has_no_content_by_its_status_states_no_length(status: bytes, length: str) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            while read_request(connection):
                connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        for _ in range(2):
            answer = ask(app, CHAT)
            assert (answer.code, answer.header("Content-Length"), body_of(answer)) == (int(status[:3]), length, b"")
        app.close()


def test_nothing_is_waited_for_after_a_switch_to_another_protocol() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            read_request(connection)
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            assert connection.recv(1) == b""

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        answer = ask(app, CHAT)
        assert (answer.code, json.loads(body_of(answer))["error"]["code"]) == (502, "upstream_unreachable")
        app.close()


def test_a_connection_that_breaks_after_an_interim_answer_is_not_taken_for_stale() -> None:
    served: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            while read_request(connection):
                served.append(number)
                connection.sendall(OK if len(served) == 1 else b"HTTP/1.1 103 Early Hints\r\n\r\n")
                if len(served) > 1:
                    return

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        body_of(ask(app, CHAT))
        assert ask(app, CHAT).code == 502
        assert served == [0, 0]
        app.close()


def test_a_connection_that_breaks_within_the_head_is_not_taken_for_stale() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            while read_request(connection):
                connection.sendall(OK if served == [] else b"HTTP/1.1 200 OK\r\nX-")
                if served:
                    return
                served.append(number)

    served: list[int] = []
    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        body_of(ask(app, CHAT))
        answer = ask(app, CHAT)

        assert answer.code == 502 and served == [0]
        app.close()


def test_a_kept_connection_that_closes_after_a_while_is_not_taken_for_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream may have worked on the request until then, and would do so twice."""
    monkeypatch.setattr("sseproxy.upstream.connection.STALE_WITHIN", 0.1)
    requests: list[bytes] = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            read_request(connection)
            connection.sendall(OK)
            requests.append(read_request(connection))
            time.sleep(0.5)  # it works

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        assert body_of(ask(app, CHAT)) == b"{}"
        environ = create_environ("/v1/chat/completions", method="POST", json=CHAT)
        answer = call_app(app, environ)

    assert (answer.code, json.loads(body_of(answer))["error"]["code"]) == (502, "upstream_unreachable")
    assert len(requests) == 1
    assert [(each.error, each.may_be_billed) for each in Exchange.of(environ).tries] == [("upstream_unreachable", True)]


def test_a_first_connection_that_closes_without_a_byte_is_not_taken_for_stale() -> None:
    connections: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        connections.append(number)
        with connection:
            read_request(connection)

    with server(serve) as port:
        assert ask(UpstreamApp(f"http://127.0.0.1:{port}/v1"), CHAT).code == 502
    assert connections == [0]


def test_a_connection_that_was_opened_anew_is_a_first_one_again() -> None:
    """What was answered on the old one does not count."""
    connections: list[int] = []
    closed = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        connections.append(number)
        with connection:
            read_request(connection)
            if number == 0:
                connection.sendall(OK)
        closed.set()

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        assert body_of(ask(app, CHAT)) == b"{}"
        assert closed.wait(PATIENCE)
        assert ask(app, CHAT).code == 502
        app.close()

    assert connections == [0, 1]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (OK, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", False),
        (OK + OK, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK", False),
    ],
)
def test_a_connection_is_used_again_where_it_is_certain_what_its_next_answer_is(answer: bytes, kept: bool) -> None:
    connections: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        connections.append(number)
        with connection, contextlib.suppress(ConnectionError):
            while read_request(connection):
                connection.sendall(answer)

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        for _ in range(2):
            assert body_of(ask(app, CHAT)) == b"{}"
        app.close()

    assert connections == ([0] if kept else [0, 1])


NOTHING = OK.replace(b" 2\r", b" 0\r")[:-2]
LAST = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


@pytest.mark.parametrize(("answer", "body"), [(OK, b"{}"), (NOTHING, b""), (LAST, b"{}")])
def test_a_connection_is_given_back_before_anybody_reads_where_all_has_come_with_the_head(
    answer: bytes, body: bytes
) -> None:
    used = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            while read_request(connection):
                used.append(number)
                connection.sendall(answer)
                if answer is LAST:
                    return

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}")
        answers = [ask(app) for _ in range(3)]

    assert used == ([0, 1, 2] if answer is LAST else [0, 0, 0])
    assert [body_of(answer) for answer in answers] == [body] * 3


def test_what_comes_between_two_requests_is_nobody_s_answer() -> None:
    said = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(ConnectionError):
            while request := read_request(connection):
                connection.sendall(OK)
                if number == 0:
                    answered.wait(PATIENCE)
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"poison"')
                    said.set()
                del request

    answered = threading.Event()
    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        assert body_of(ask(app, CHAT)) == b"{}"
        answered.set()
        assert said.wait(PATIENCE)
        assert body_of(ask(app, CHAT)) == b"{}"
        app.close()


def upload(body: bytes, **environ: Any) -> dict[str, Any]:
    """The environ of a request whose body is passed on while it comes in, with the length that is stated."""
    found = create_environ("/v1/files", method="POST", content_type="application/x", environ_overrides=environ)
    length = int(environ["CONTENT_LENGTH"]) if environ["CONTENT_LENGTH"] else None
    found["wsgi.input"] = Upload(body[:10], io.BytesIO(body[10:]), 10_000_000, length)
    return found


def test_an_upload_is_passed_on_with_its_length_or_in_chunks(upstream: Upstream) -> None:
    body = bytes(range(256)) * 1000
    app = UpstreamApp(upstream.url)
    for length in (str(len(body)), ""):
        call_app(app, upload(body, CONTENT_LENGTH=length)).close()

        assert upstream.last.raw_body == body
        assert upstream.last.headers.get("content-length", "") == length
        assert upstream.last.headers.get("transfer-encoding") == (None if length else "chunked")


def test_an_upload_takes_a_connection_of_its_own_since_it_could_not_be_sent_again(upstream: Upstream) -> None:
    """A kept one may be stale, and what comes on in pieces is read only once."""
    app = UpstreamApp(upstream.url)
    body = b"x" * 300_000
    body_of(ask(app, CHAT))
    for _ in range(2):
        body_of(call_app(app, upload(body, CONTENT_LENGTH=str(len(body)))))

    assert upstream.connections == 3
    wait_until(lambda: upstream.open_connections == 1)  # none of theirs waits, since none would be taken
    body_of(ask(app, CHAT))
    assert upstream.connections == 3
    app.close()


def test_a_stale_connection_costs_no_upload() -> None:
    """A relay in between resets what was idle too long, and only when something comes on it."""

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            read_request(connection)
            connection.sendall(OK)
            if number == 0 and connection.recv(1):  # unread bytes make the close a reset
                return

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        assert body_of(ask(app, CHAT)) == b"{}"
        body = b"x" * 1_000_000
        answer = call_app(app, upload(body, CONTENT_LENGTH=str(len(body))))

        assert (answer.code, body_of(answer)) == (200, b"{}")
        app.close()


def test_an_upload_that_nobody_wants_is_answered_with_what_the_upstream_says() -> None:
    """It may answer and close before it has read all (RFC 9112 section 9.6)."""
    connections: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        connections.append(number)
        with connection:
            connection.recv(1000)
            connection.sendall(REFUSED)
            connection.shutdown(socket.SHUT_WR)
            while number == 0 and connection.recv(65536):
                pass

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        body = b"x" * 4_000_000
        for _ in range(2):
            answer = call_app(app, upload(body, CONTENT_LENGTH=str(len(body))))
            assert (answer.code, body_of(answer)) == (413, b"{}")
        app.close()

    assert connections == [0, 1]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("said", "status"), [(REFUSED, 413), (OK, 200), (b"HTTP/1.1 103 Early Hints\r\n\r\n", 502), (b"", 502)]
)
def test_an_upstream_that_answers_and_takes_no_more_of_a_request_is_heard(
    said: bytes, status: int, scheme: str, tmp_path: Path
) -> None:
    certificate, context = make_tls(tmp_path)
    ended = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        with context.wrap_socket(connection, server_side=True) if scheme == "https" else connection as taking:
            taking.recv(1000)
            taking.sendall(said)
            ended.wait(PATIENCE)

    with server(serve) as port:
        limits = Timeout(connect=2, first_byte=PATIENCE)
        app = UpstreamApp(f"{scheme}://localhost:{port}/v1", timeout=limits, ca_file=str(certificate))
        answer = call_app(app, create_environ("/v1/files", method="POST", data=b"x" * 20_000_000))
        content = json.loads(body_of(answer))
        ended.set()

    assert answer.code == status
    assert status != 502 or content["error"]["code"] == "upstream_unreachable"


def posting(kind: str, **environ: Any) -> dict[str, Any]:
    """The environ of a request with more to send than fits on the way, at hand or as an upload."""
    body = b"x" * 9_000_000
    if kind == "upload":
        return upload(body, CONTENT_LENGTH=str(len(body)), **environ)
    return create_environ("/v1/files", method="POST", data=body, environ_overrides=environ)


@contextlib.contextmanager
def taking_slowly(said: bytes, scheme: str, directory: Path, has_said: threading.Event) -> Iterator[dict[str, Any]]:
    """An upstream that says something as soon as a request begins, and takes the rest of it slowly; how to reach it."""
    certificate, context = make_tls(directory)

    def serve(connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(OSError), contextlib.ExitStack() as ending:
            taking = context.wrap_socket(connection, server_side=True) if scheme == "https" else connection
            ending.enter_context(taking)
            taking.recv(1000)
            taking.sendall(said)
            has_said.set()
            while taking.recv(1000) and not has_ended.wait(0.01):  # a slow upstream
                pass

    has_ended = threading.Event()
    with server(serve) as port:
        try:
            yield {"url": f"{scheme}://localhost:{port}/v1", "ca_file": str(certificate)}
        finally:
            has_ended.set()


SENDING = pytest.mark.parametrize(("kind", "scheme"), [("body", "http"), ("body", "https"), ("upload", "http")])


@SENDING
def test_the_time_for_the_whole_exchange_is_that_of_sending_too(kind: str, scheme: str, tmp_path: Path) -> None:
    limits = Timeout(connect=PATIENCE, first_byte=PATIENCE, total=0.5)
    with taking_slowly(b"", scheme, tmp_path, threading.Event()) as way:
        answer = call_app(UpstreamApp(**way, timeout=limits), posting(kind))

    assert (answer.code, json.loads(body_of(answer))["error"]["code"]) == (504, "upstream_total_timeout")


@SENDING
@pytest.mark.parametrize("linger", [0.0, PATIENCE])
def test_a_client_that_leaves_while_its_request_is_sent_ends_it_and_owes_nothing(
    linger: float, kind: str, scheme: str, tmp_path: Path
) -> None:
    has_begun = threading.Event()
    limits = Timeout(connect=PATIENCE, first_byte=PATIENCE, total=PATIENCE)
    with taking_slowly(b"", scheme, tmp_path, has_begun) as way:
        environ = posting(kind, **{"waitress.client_disconnected": has_begun.is_set})
        exchange = Exchange.of(environ)
        exchange.linger.seconds = linger
        answer = call_app(UpstreamApp(**way, timeout=limits), environ)

    assert answer.code == 499
    assert not exchange.this_try().reached


@SENDING
def test_an_answer_that_comes_before_all_is_sent_is_heard_at_once(kind: str, scheme: str, tmp_path: Path) -> None:
    limits = Timeout(connect=2 * PATIENCE, first_byte=PATIENCE, total=PATIENCE)
    with taking_slowly(REFUSED, scheme, tmp_path, threading.Event()) as way:
        answer = call_app(UpstreamApp(**way, timeout=limits), posting(kind))

        assert (answer.code, body_of(answer)) == (413, b"{}")


def test_an_upload_that_was_refused_is_read_no_further() -> None:
    """Though the upstream would take it, and never be waited for."""
    has_said, pieces = threading.Event(), iter([b"x" * PIECE] * 100)

    class Input(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            has_said.wait(PATIENCE)
            return next(pieces, b"")

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            connection.recv(1000)
            connection.sendall(REFUSED)
            has_said.set()
            while connection.recv(PIECE):
                pass

    environ = upload(b"", CONTENT_LENGTH="")
    environ["wsgi.input"] = Upload(b"x" * 10, Input(), 10_000_000)
    with server(serve) as port:
        answer = call_app(UpstreamApp(f"http://127.0.0.1:{port}/v1"), environ)

        assert (answer.code, body_of(answer)) == (413, b"{}")
        assert next(pieces, b"")


def test_an_upstream_may_begin_a_success_while_it_reads() -> None:
    body = b"x" * 9_000_000

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            got = len(connection.recv(1000).partition(b"\r\n\r\n")[2])
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
            while got < len(body):
                got += len(connection.recv(PIECE))
            connection.sendall(b"%d" % got)

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        answer = call_app(app, create_environ("/v1/files", method="POST", data=body))

        assert (answer.code, body_of(answer)) == (200, b"9000000")
        app.close()


def test_a_refusal_on_a_kept_connection_is_no_stale_connection() -> None:
    """What the upstream has refused would be sent it once more."""
    connections: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        connections.append(number)
        with connection:
            read_request(connection)
            connection.sendall(OK)
            connection.recv(1000)
            connection.sendall(REFUSED)

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1")
        assert body_of(ask(app, CHAT)) == b"{}"
        answer = call_app(app, posting("body"))

        assert (answer.code, body_of(answer)) == (413, b"{}")
        assert connections == [0]
        app.close()


def test_an_upload_that_the_client_breaks_off_leaves_no_half_request_behind(upstream: Upstream) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ClientDisconnected

    environ = upload(b"", CONTENT_LENGTH="100")
    environ["wsgi.input"] = Upload(b"x" * 10, Broken(), 100, 100)
    app = UpstreamApp(upstream.url)

    assert call_app(app, environ).code == 400
    assert ask(app, CHAT).code == 200
    assert upstream.connections == 2


@pytest.mark.parametrize("stated", [1001, 999])
def test_an_upload_that_is_not_as_long_as_stated_leaves_no_half_request_behind(stated: int, upstream: Upstream) -> None:
    """The next request would be taken for the rest of it, or the rest for the next request."""
    app = UpstreamApp(upstream.url, timeout=Timeout(first_byte=5))

    assert call_app(app, upload(b"x" * 1000, CONTENT_LENGTH=str(stated))).code == 400
    assert body_of(ask(app, CHAT))
    assert CHAT in [exchange.body for exchange in upstream.exchanges]
    assert upstream.connections == 2


def test_a_large_body_may_take_longer_than_one_piece_of_it() -> None:
    body = b"x" * 16_000_000

    def serve(connection: socket.socket, number: int) -> None:
        got = 0
        with connection:
            while got < len(body):
                time.sleep(0.04)  # a slow upstream
                got += len(connection.recv(512 * 1024, socket.MSG_WAITALL if got + 600_000 < len(body) else 0))
            connection.sendall(OK)

    with server(serve) as port:
        app = UpstreamApp(f"http://127.0.0.1:{port}/v1", timeout=Timeout(connect=0.5))
        answer = call_app(app, create_environ("/v1/files", method="POST", data=body))

        assert (answer.code, body_of(answer)) == (200, b"{}")
        app.close()


def test_a_connection_that_did_not_take_the_whole_request_is_not_used_again() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.shutdown(socket.SHUT_WR)
        theirs.sendall(OK)
        head, rest = Connection(ours).ask(Outgoing("GET", b"GET / HTTP/1.1\r\n\r\n"), 1, 1, endless())

        assert (head.status, rest, head.keeps) == (200, b"{}", False)


def test_a_connection_waits_while_it_sends_much_and_by_its_poll_alone_after_that() -> None:
    ours, theirs = socket.socketpair()
    body = b"x" * 4 * 1024 * 1024

    def serve() -> int:
        left = len(body)
        while left:
            left -= len(theirs.recv(min(left, 65536)))
        theirs.sendall(OK)
        return left

    with ours, theirs, ThreadPoolExecutor(1) as pool:
        connection = Connection(ours)
        served = pool.submit(serve)
        head, rest = connection.ask(Outgoing("POST", b"", body), 20, 20, endless())

        assert (served.result(), head.status, rest) == (0, 200, b"{}")
        assert ours.gettimeout() == 0
        assert connection.is_silent()


@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_a_connection_that_waits_is_silent_until_something_comes_and_then_sends_at_once(timeout: float | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(timeout)
        connection = Connection(ours)

        assert connection.is_silent()
        assert ours.gettimeout() == 0
        theirs.send(b"HTTP/1.1 200 OK")
        assert not connection.is_silent()


def test_a_connection_that_the_other_side_has_closed_is_not_silent() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        connection = Connection(ours)
        theirs.close()

        assert not connection.is_silent()


def test_a_connection_with_bytes_that_were_decrypted_and_not_read_is_not_silent(tmp_path: Path) -> None:
    certificate, context = make_tls(tmp_path)

    def serve(connection: socket.socket, number: int) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"ab")
            tls.recv(1)

    with server(serve) as port:
        with Dialer(f"https://localhost:{port}", ca_file=str(certificate)).dial(5) as tls:
            connection = Connection(tls)
            assert tls.recv(1) == b"a"
            assert not connection.is_silent()
            assert tls.recv(1) == b"b"
            assert connection.is_silent()
        assert not connection.is_silent()


def test_connections_that_nobody_needs_are_closed_after_a_while() -> None:
    now = 0.0
    pairs = [socket.socketpair() for _ in range(3)]
    pool = Connections(socket.socket, 10, clock=lambda: now)
    old, young, last = (Connection(ours) for ours, _ in pairs)
    pool.keep(old)
    now = KEPT_FOR
    pool.keep(young)
    assert old.socket.fileno() >= 0
    now += 1
    pool.keep(last)

    assert [each.socket.fileno() >= 0 for each in (old, young, last)] == [False, True, True]
    assert pool.take() is last and pool.take() is young
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_connection_that_has_waited_for_long_is_closed_and_not_used_though_it_looks_alive() -> None:
    """A firewall that has forgotten it drops what comes on it, and tells nobody: that is silence until the time-out."""
    now = 0.0
    pairs = [socket.socketpair() for _ in range(3)]
    fresh = pairs.pop()
    pool = Connections(lambda: fresh[0], 10, clock=lambda: now)
    old, young = (Connection(ours) for ours, _ in pairs)
    pool.keep(old)
    now = 1.0
    pool.keep(young)
    now = KEPT_FOR + 2
    taken = pool.take()

    assert taken.socket is fresh[0]
    assert pairs[1][1].recv(1) == b""
    pool.keep(taken)
    assert pairs[0][1].recv(1) == b""
    assert pool.take() is taken
    for _, theirs in (*pairs, fresh):
        theirs.close()
    pool.close()


def test_a_request_without_a_body_says_so(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    lengths = {}
    for method in ("GET", "HEAD", "DELETE", "POST", "PUT"):
        content = b"" if method == "HEAD" else b"{}"
        upstream.script = raw(content, framing="length")
        answer = call_app(app, create_environ("/v1/files/f", method=method))
        assert body_of(answer) == content
        lengths[upstream.last.method] = upstream.last.headers.get("content-length")

    assert lengths == {"GET": None, "HEAD": None, "DELETE": None, "POST": "0", "PUT": "0"}


@pytest.mark.parametrize("field", [{"HTTP_X_A": "a\r\nCookie: b"}, {"HTTP_X_A": "a\nb"}, {"HTTP_AUTHORIZATION ": "b"}])
def test_a_header_that_would_be_more_than_one_is_refused_and_nothing_is_sent(
    field: dict[str, str], upstream: Upstream
) -> None:
    answer = ask(UpstreamApp(upstream.url), CHAT, **field)

    assert answer.code == 400
    assert json.loads(body_of(answer))["error"]["code"] == "invalid_header"
    assert upstream.connections == 0


def test_a_header_of_one_s_own_that_cannot_be_sent_is_told_at_once() -> None:
    with pytest.raises(ValueError):
        UpstreamApp("http://127.0.0.1:9/v1", headers={"X-A": "a\r\nb"})


@pytest.mark.parametrize("url", ["", "127.0.0.1", "ftp://127.0.0.1/v1", "http:///v1"])
def test_a_url_that_leads_nowhere_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError):
        UpstreamApp(url)


@pytest.mark.parametrize(
    "path", ["/v1/files/a b", "/v1/files/a%2Fb", "/v1/files/a?b#c", "/v1/files/\u20ac", "/v1/a+b:c@d"]
)
def test_a_path_arrives_as_the_one_that_was_judged_here(path: str, upstream: Upstream) -> None:
    environ = create_environ("/v1", method="GET", query_string="a=%20&b=[x]")
    environ["PATH_INFO"] = path.encode().decode("latin-1")
    call_app(UpstreamApp(upstream.url), environ).close()
    sent, _, query = upstream.last.path.partition("?")

    assert unquote(sent) == path
    assert query == "a=%20&b=%5Bx%5D"


def test_an_application_that_is_closed_keeps_no_connection(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    body_of(ask(app, CHAT))
    running = ask(app, CHAT)
    app.close()
    body_of(running)

    upstream.wait_until_idle()
    wait_until(lambda: upstream.open_connections == 0)


def test_an_application_that_is_dropped_leaves_no_connection_open(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    body_of(ask(app, CHAT))
    dropped = ask(app, CHAT)
    assert upstream.open_connections > 0
    del app, dropped

    wait_until(lambda: upstream.open_connections == 0)


def test_an_upstream_with_a_certificate_of_one_s_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, context = make_tls(tmp_path)

    connections: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        connections.append(number)
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            while read_request(tls):
                tls.sendall(OK)

    with server(serve) as port:
        url = f"https://localhost:{port}/v1"
        trusting, strict = UpstreamApp(url, ca_file=str(certificate)), UpstreamApp(url)
        for _ in range(2):
            assert body_of(ask(trusting, CHAT)) == b"{}"
        assert connections == [0]
        misnamed = UpstreamApp(f"https://127.0.0.1:{port}/v1", ca_file=str(certificate))
        refusals = [ask(app, CHAT) for app in (strict, misnamed)]
        trusting.close()

    assert [json.loads(body_of(each))["error"]["code"] for each in refusals] == ["upstream_tls"] * 2
    assert f"no TLS with {url}: " in caplog.text
    assert "self-signed certificate" in caplog.text and "IP address mismatch" in caplog.text


def test_an_upstream_that_wants_a_certificate_of_ours_is_not_said_to_have_a_bad_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, context = make_tls(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            read_request(tls)

    with server(serve) as port:
        app = UpstreamApp(f"https://localhost:{port}/v1", ca_file=str(certificate))
        error = json.loads(body_of(ask(app, CHAT)))["error"]

    assert error["code"] == "upstream_tls" and "certificate" not in error["message"]
    assert "certificate required" in caplog.text


def test_the_log_says_which_upstream_cannot_be_reached_and_why(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    message = json.loads(body_of(ask(UpstreamApp(url), CHAT)))["error"]["message"]

    assert f"{url} cannot be reached: " in caplog.text and "Connection refused" in caplog.text
    assert "127.0.0.1" not in message


def relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_a_proxy_is_used_as_configured_and_with_its_credentials(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = make_tls(tmp_path)
    heads: list[bytes] = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            head = read_request(connection)
            heads.append(head)
            if not head.startswith(b"CONNECT"):
                return connection.sendall(OK)
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with context.wrap_socket(connection, server_side=True) as tls:
                read_request(tls)
                tls.sendall(OK)

    with server(serve) as port:
        proxy = f"http://me:pass@127.0.0.1:{port}"
        for url in (upstream.url, "https://localhost:1/v1"):
            app = UpstreamApp(url, proxy=proxy, ca_file=str(certificate), timeout=Timeout(first_byte=5))
            assert body_of(ask(app, CHAT)) == b"{}"
            app.close()

    assert heads[0].startswith(f"POST {upstream.url}/chat/completions ".encode())
    assert heads[1].startswith(b"CONNECT localhost:1 ")
    assert all(b"Proxy-Authorization: Basic bWU6cGFzcw==" in head for head in heads)
    assert upstream.exchanges == []


def test_a_proxy_may_be_reached_by_tls_and_lead_to_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib3's socket for TLS within TLS is none of Python's: it, too, can be hung up on. It is not used again."""
    certificate, context = make_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # a proxy's certificate is the system's to judge
    hung_up = [threading.Event(), threading.Event()]

    def serve(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            read_request(tls)
            tls.sendall(OK if number == 0 else b"HTTP/1.1 200 OK\r\n\r\n{}")
            while tls.recv(65536):
                pass
        hung_up[number].set()

    def tunnel(connection: socket.socket, number: int) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            assert read_request(tls).startswith(b"CONNECT ")
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection(("127.0.0.1", behind)) as onward, ThreadPoolExecutor(1) as pool:
                pool.submit(relay, onward, tls)
                relay(tls, onward)

    with server(serve) as behind, server(tunnel) as port:
        app = UpstreamApp(f"https://localhost:{behind}/v1", proxy=f"https://localhost:{port}", ca_file=str(certificate))
        assert body_of(ask(app, CHAT)) == b"{}"
        was_closed = hung_up[0].wait(PATIENCE)
        answer = ask(app, CHAT)
        first = next(iter(answer.body))
        answer.close()
        app.close()
        assert was_closed and first == b"{}" and hung_up[1].wait(PATIENCE)


@pytest.mark.parametrize(
    ("scheme", "first", "drop"),
    [
        ("http", b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        ("https", b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        ("https", b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x03"),
    ],
    ids=["head", "head by TLS", "TLS within TLS"],
)
def test_a_tunnel_that_drips_is_given_up_when_the_time_to_connect_is_over(
    scheme: str, first: bytes, drop: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = make_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    has_ended = threading.Event()

    def drip(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as ending:
            talking = context.wrap_socket(connection, server_side=True) if scheme == "https" else connection
            ending.enter_context(talking)
            read_request(talking)
            talking.sendall(first)
            for _ in range(int(PATIENCE / 0.05)):
                talking.sendall(drop)
                if has_ended.wait(0.05):
                    break

    with server(drip) as port:
        app = UpstreamApp("https://localhost:1/v1", proxy=f"{scheme}://localhost:{port}", timeout=Timeout(connect=0.5))
        answer = ask(app, CHAT)
        has_ended.set()

    assert (answer.code, json.loads(body_of(answer))["error"]["code"]) == (504, "upstream_connect_timeout")


def test_an_upstream_is_reached_by_tls_though_no_thread_is_left_to_watch_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = make_tls(tmp_path)

    def serve(connection: socket.socket, number: int) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            read_request(tls)
            tls.sendall(OK)

    def start(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", start)
    with server(serve) as port:
        app = UpstreamApp(f"https://localhost:{port}/v1", ca_file=str(certificate))
        assert body_of(ask(app, CHAT)) == b"{}"
        app.close()


def test_the_environment_s_proxy_is_not_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert ask(UpstreamApp(upstream.url), CHAT).code == 200


def test_azure_is_addressed_by_deployment_and_key(upstream: Upstream) -> None:
    app = UpstreamApp(f"http://127.0.0.1:{upstream.port}", api_key="k" * 20, flavor=Azure("2024-10-21"))
    environ = create_environ("/v1/chat/completions", method="POST", json=CHAT)
    exchange = Exchange.of(environ)
    exchange.read_request(environ)
    exchange.target = Target("main", "gpt4")
    call_app(app, environ).close()

    assert upstream.last.path == "/openai/deployments/gpt4/chat/completions?api-version=2024-10-21"
    assert upstream.last.headers["api-key"] == "k" * 20
    assert "authorization" not in upstream.last.headers


def test_a_model_that_would_be_another_path_of_azure_s_is_400_and_not_sent(upstream: Upstream) -> None:
    app = UpstreamApp(f"http://127.0.0.1:{upstream.port}", flavor=Azure())
    environ = create_environ("/v1/chat/completions", method="POST", json={**CHAT, "model": ".."})
    Exchange.of(environ).read_request(environ)

    assert call_app(app, environ).code == 400
    assert upstream.exchanges == []


def test_trace_context_is_passed_and_the_request_s_id_is_sent(upstream: Upstream) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ask(UpstreamApp(upstream.url), HTTP_TRACEPARENT=trace, HTTP_TRACESTATE="a=1", HTTP_X_REQUEST_ID="r-1").close()

    headers = upstream.last.headers
    assert (headers["traceparent"], headers["tracestate"], headers["x-request-id"]) == (trace, "a=1", "r-1")


def test_connections_are_kept_for_each_thread_that_needs_one(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    upstream.script = stream(tokens=1, delay=0.05)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            list(pool.map(lambda _: body_of(ask(app, CHAT)), range(8)))

    assert upstream.connections <= 8
    app.close()


def test_a_body_of_any_size_is_passed_on_in_pieces(upstream: Upstream) -> None:
    """Both ways: what is sent is never whole in memory, nor what comes back."""
    piece = bytes(range(256)) * 256
    upstream.script = raw([piece] * 64, framing="length", headers={"Content-Type": "audio/mpeg"})
    answer: Any = call_app(UpstreamApp(upstream.url), create_environ("/v1/audio/speech", method="POST", data=b"x"))

    sizes = [len(each) for each in answer.body]

    assert sum(sizes) == 64 * len(piece) and max(sizes) <= 128 * 1024
