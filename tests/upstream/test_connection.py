"""upstream/connection: kept connections that turn out to be stale, certificates of one's own, and HTTP proxies."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import create_environ

from sseproxy.upstream.app import Timeout, UpstreamApp
from sseproxy.upstream.flavor import Azure
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.exchange import Exchange, Target
from tests.harness import Upstream, raw, stream
from tests.upstream.test_app import CHAT, ask, make_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


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
            thread.join(5)
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
    """urllib3 opens the connection it has closed; what was answered on the old one does not count."""
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
        assert closed.wait(5)
        assert ask(app, CHAT).code == 502
        app.close()

    assert connections == [0, 1]


def test_an_upstream_with_a_certificate_of_one_s_own(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            while read_request(tls):
                tls.sendall(OK)

    with server(serve) as port:
        url = f"https://localhost:{port}/v1"
        trusting, strict = UpstreamApp(url, ca_file=str(certificate)), UpstreamApp(url)
        assert body_of(ask(trusting, CHAT)) == b"{}"
        refusal = ask(strict, CHAT)
        trusting.close()

    assert json.loads(body_of(refusal))["error"]["code"] == "upstream_tls"


def relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_a_proxy_is_used_as_configured_and_with_its_credentials(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
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
