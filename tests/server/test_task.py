"""An application sees the environ that waitress would give it, and clients the head that waitress would write."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sseproxy.server.waitress import WaitressServer
from tests.harness import PATIENCE, wait_until, waitress_thread

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REQUEST = b"POST /v1/a%20b?c=%20d HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nX-A: \xe4\r\nContent-Length: 2\r\n"


@contextmanager
def sseproxys(app: WSGIApplication) -> Iterator[int]:
    server = WaitressServer(app, listen="127.0.0.1:0", threads=4, max_body=1024)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield int(server.addresses[0].rpartition(":")[2])
    finally:
        server.stop()
        thread.join(PATIENCE)


@contextmanager
def waitress(app: WSGIApplication) -> Iterator[int]:
    with waitress_thread(app, ident="sseproxy") as server:
        yield server.port


SERVERS = (sseproxys, waitress)


def ask(port: int, request: bytes, until: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(request)
        received = b""
        while until not in received:
            piece = connection.recv(65536)
            assert piece, received
            received += piece
    return received


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
def test_the_environ_is_waitresss(close: bytes) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append({**environ, "body": environ["wsgi.input"].read()})
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    for server in SERVERS:
        with server(app) as port:
            ask(port, REQUEST + close + b"\r\nhi", b"\r\n\r\nok")
    own, theirs = seen
    for environ in seen:
        for of_a_connection in ("REMOTE_PORT", "SERVER_PORT", "wsgi.input", "waitress.client_disconnected"):
            environ.pop(of_a_connection)

    assert own == theirs


def test_two_slashes_at_the_beginning_are_no_other_spelling_of_one() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        said = environ["PATH_INFO"].encode()
        start_response("200 OK", [("Content-Length", str(len(said)))])
        return [said]

    with sseproxys(app) as port:
        assert ask(port, REQUEST.replace(b"/v1", b"//-/metrics", 1) + b"\r\nhi", b"b").endswith(b"\r\n//-/metrics/a b")


ANSWERS: dict[str, tuple[str, list[tuple[str, str]], list[bytes]]] = {
    "of known length": (
        "200 OK",
        [("content-length", "2"), ("x-b-c", "1"), ("x-%s", "%d"), ("Set-Cookie", "a"), ("Set-Cookie", "b")],
        [b"ok"],
    ),
    "that names itself": ("200 OK", [("Content-Length", "2"), ("Server", "me"), ("Date", "today")], [b"ok"]),
    "of no length": ("200 OK", [("Content-Length", "0")], [b""]),
}


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"HEAD / HTTP/1.1"])
@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("what", ANSWERS)
def test_the_head_of_an_answer_is_waitresss_but_for_the_order_of_its_fields(
    what: str, close: bytes, request_line: bytes
) -> None:
    status, headers, pieces = ANSWERS[what]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, headers)
        return pieces if environ["REQUEST_METHOD"] != "HEAD" else []

    heads: list[list[bytes]] = []
    for server in SERVERS:
        with server(app) as port:
            head, _, _ = ask(port, request_line + b"\r\nHost: x\r\n" + close + b"\r\n", b"\r\n\r\n").partition(
                b"\r\n\r\n"
            )
            lines = sorted(head.split(b"\r\n"))
            heads.append([b"Date" if line.startswith(b"Date") and b"today" not in line else line for line in lines])

    assert heads[0] == heads[1]


@pytest.mark.parametrize("said", [b"close, TE", b"TE,\tClose", b"keep-alive, close", b"x\r\nConnection: close"])
@pytest.mark.parametrize("length", [[], [("Content-Length", "2")]])
def test_a_client_that_says_close_among_others_is_hung_up_on(said: bytes, length: list[tuple[str, str]]) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", length)
        return [b"ok"]

    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: " + said + b"\r\n\r\n")
        with connection.makefile("rb") as answer:
            assert b"\r\nConnection: close\r\n" in answer.read()


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"HEAD"])
@pytest.mark.parametrize("status", ["204 NO CONTENT", "304 NOT MODIFIED"])
@pytest.mark.parametrize("length", [[], [("Content-Length", "0")], [("content-length", "5")]])
def test_the_connection_goes_on_after_an_answer_that_can_have_no_body(
    status: str, length: list[tuple[str, str]], method: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [*length, ("X-A", "b")])
        return []

    request = method + b" / HTTP/1.1\r\nHost: x\r\n\r\n"
    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for _ in range(2):
            connection.sendall(request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = connection.recv(65536)
                assert piece, head
                head += piece
            names = sorted(line.partition(b":")[0] for line in head.split(b"\r\n")[1:-2])
            assert names == [b"Date", b"Server", b"X-A"]
    assert caplog.messages == []


def test_requests_sent_at_once_are_answered_in_order_and_the_connection_goes_on() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [environ["QUERY_STRING"].encode()]

    asked = b"".join(b"GET /?%02d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20))
    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for _ in range(3):
            connection.sendall(asked)
            received = b""
            while b"\r\n\r\n19" not in received:
                received += connection.recv(65536)

            assert [each[:2] for each in received.split(b"\r\n\r\n")[1:]] == [b"%02d" % number for number in range(20)]


class Slow(list[Any]):
    """The requests of a connection, where time passes between taking one away and looking for another."""

    def __init__(self, requests: list[Any]) -> None:
        super().__init__(requests)
        self.taken, self.added = threading.Event(), threading.Event()

    def append(self, request: Any) -> None:
        super().append(request)
        self.added.set()

    def pop(self, place: Any = -1) -> Any:
        request = super().pop(place)
        self.taken.set()
        self.added.wait(0.5)
        return request


def test_a_request_that_comes_while_a_thread_still_looks_for_one_is_served_once() -> None:
    served: list[str] = []
    slow: list[Slow] = []
    again = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        served.append(environ["PATH_INFO"])
        channel = environ["waitress.client_disconnected"].__self__
        if served == ["/first"]:
            channel.requests = Slow(channel.requests)
            slow.append(channel.requests)
        elif served == ["/first", "/second"]:
            again.wait(0.5)
        else:
            again.set()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).endswith(b"ok")
        assert slow[0].taken.wait(PATIENCE)
        connection.sendall(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).endswith(b"ok")

    assert served == ["/first", "/second"]


def test_a_client_that_reads_late_gets_all_and_may_ask_again() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(8 * 1024 * 1024))])
        return iter([b"x" * 1024 * 1024] * 8)

    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = connection.recv(65536).partition(b"\r\n\r\n")[2]
            left = 8 * 1024 * 1024 - len(received)
            while left:
                piece = connection.recv(min(65536, left))
                assert piece
                left -= len(piece)


def test_an_answer_of_another_length_than_it_says_ends_the_connection_or_is_cut() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"abc"] if environ["QUERY_STRING"] == "long" else [b"a"]

    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"GET /?long HTTP/1.1\r\nHost: x\r\n\r\nGET /?short HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece

    assert [each.partition(b"HTTP")[0] for each in received.split(b"\r\n\r\n")[1:]] == [b"ab", b"a"]


@pytest.mark.parametrize(
    "header", [("X-A", "b\r\nC: d"), ("X\n", "b"), ("Connection", "close"), ("Transfer-Encoding", "x")]
)
def test_a_header_that_an_application_may_not_send_is_an_error(header: tuple[str, str]) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [header])
        return [b"ok"]

    with sseproxys(app) as port:
        assert ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n").startswith(b"HTTP/1.1 500 ")


def test_an_application_may_replace_a_head_that_was_not_sent_if_it_says_why() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2"), ("X-A", "b")])
        if environ["PATH_INFO"] == "/unsaid":
            start_response("500 No", [])
        try:
            raise OSError("no")
        except OSError:
            start_response("503 Later", [("Content-Length", "5")], sys.exc_info())
        return [b"later"]

    with sseproxys(app) as port:
        replaced = ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"later")
        unsaid = ask(port, b"GET /unsaid HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n")

    assert replaced.startswith(b"HTTP/1.1 503 Later\r\n")
    assert b"X-A" not in replaced
    assert unsaid.startswith(b"HTTP/1.1 500 Internal")


def test_a_client_is_told_of_an_application_that_breaks_off_amid_its_answer() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        write(b"some")
        try:
            raise OSError("no")
        except OSError:
            start_response("503 Later", [], sys.exc_info())
        yield b"never"

    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece

    assert received.endswith(b"4\r\nsome\r\n")


@pytest.mark.parametrize("failing", ["call", "started", "first", "file", "broken"])
def test_an_error_of_the_application_s_own_is_not_taken_for_a_client_that_left(
    failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if failing == "call":
            raise FileNotFoundError
        start_response("200 OK", [])
        if failing == "started":
            raise TimeoutError
        return pieces()

    def pieces() -> Iterator[bytes]:
        yield b""
        if failing == "first":
            raise BrokenPipeError
        yield b"some"
        raise FileNotFoundError if failing == "file" else BrokenPipeError

    with sseproxys(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece

    if failing in ("file", "broken"):
        assert received.endswith(b"4\r\nsome\r\n")
    else:
        assert received.startswith(b"HTTP/1.1 500 ")
        assert b'"type":"server_error"' in received
    # The last one is how an application says that it breaks off.
    assert [each.message for each in caplog.records] == ["Exception while serving /path"] * (failing != "broken")


def test_an_application_that_gives_up_because_its_client_left_is_nothing_to_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Body:
        def __init__(self, has_left: Callable[[], bool]) -> None:
            self._has_left = has_left

        def __iter__(self) -> Iterator[bytes]:
            begun.set()
            wait_until(self._has_left)
            raise ConnectionResetError

        def close(self) -> None:
            ended.set()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Body(environ["waitress.client_disconnected"])

    with sseproxys(app) as port:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert begun.wait(PATIENCE)
        assert ended.wait(PATIENCE)
    assert caplog.records == []
