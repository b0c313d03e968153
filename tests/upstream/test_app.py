"""upstream/app and upstream/body: an HTTP endpoint as a WSGI application, over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from werkzeug.test import create_environ

from sseproxy.core.chat import Request
from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.app import Timeout, UpstreamApp
from sseproxy.upstream.body import UpstreamBody
from sseproxy.upstream.connection import Connection
from sseproxy.upstream.head import ResponseHead
from sseproxy.upstream.kept import Connections
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.exchange import Exchange
from tests.harness import PATIENCE, Upstream, raw, refuse, refuse_stream_options, silent, stream, wait_until

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}


def ask(app: UpstreamApp, body: Any = STREAM, path: str = "/v1/chat/completions", **environ: Any) -> Answer:
    return call_app(app, create_environ(path, method="POST", json=body, environ_overrides=environ))


def test_bytes_pass_as_they_arrive(upstream: Upstream) -> None:
    upstream.script = raw([b"data: a\n\n", b"data: b\n\n"], steps=True)
    answer = ask(UpstreamApp(upstream.url))
    exchange = upstream.last

    exchange.allow(1)
    assert next(piece for piece in answer.body if piece) == b"data: a\n\n"
    exchange.allow(1)
    assert b"".join(answer.body) == b"data: b\n\n"


@pytest.mark.parametrize(
    ("method", "status", "stated", "handed_on"),
    [
        ("GET", "200 OK", ["2, 2", "2"], ["2"]),
        ("GET", "200 OK", ["002"], ["2"]),
        ("HEAD", "200 OK", ["700"], ["700"]),
        ("HEAD", "200 OK", ["7", "8"], []),
        ("HEAD", "200 OK", ["7x"], []),
        ("GET", "304 Not Modified", ["7, 8"], []),
    ],
)
def test_no_length_is_handed_on_but_the_one_by_which_the_body_was_read(
    method: str, status: str, stated: list[str], handed_on: list[str], upstream: Upstream
) -> None:
    fields = "".join(f"Content-Length: {value}\r\n" for value in stated)
    content = "{}" if method == "GET" and status == "200 OK" else ""
    upstream.script = lambda exchange: exchange._send(f"HTTP/1.1 {status}\r\n{fields}\r\n{content}".encode())
    answer = call_app(UpstreamApp(upstream.url), create_environ("/v1/files/f/content", method=method))

    assert [value for name, value in answer.headers if name.lower() == "content-length"] == handed_on
    assert b"".join(answer.body) == content.encode()


def test_a_length_beside_chunks_is_not_handed_on(upstream: Upstream) -> None:
    upstream.script = raw(b"{}", framing="chunked", headers={"Content-Length": "1"})
    answer = ask(UpstreamApp(upstream.url))

    assert (answer.header("Content-Length"), b"".join(answer.body)) == ("", b"{}")


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_each_framing_is_read_to_its_end(framing: str, upstream: Upstream) -> None:
    upstream.script = raw([b"one ", b"two ", b"three"], framing=framing)

    assert b"".join(ask(UpstreamApp(upstream.url)).body) == b"one two three"


@pytest.mark.parametrize(("framing", "end"), [("chunked", "cut"), ("length", "cut"), ("chunked", "reset")])
def test_a_body_that_breaks_off_is_a_failure_and_not_an_end(framing: str, end: str, upstream: Upstream) -> None:
    upstream.script = raw(b"data: a\n\n", framing=framing, end=end)
    answer = ask(UpstreamApp(upstream.url))

    with pytest.raises(UpstreamFailure) as caught:
        list(answer.body)
    assert caught.value.type == "upstream_truncated"


def test_a_silent_upstream_gives_empty_pieces_and_then_its_time_out(upstream: Upstream) -> None:
    upstream.script = raw(b"data: a\n\n", end="hang")
    answer = ask(UpstreamApp(upstream.url, timeout=Timeout(idle=0.2)))
    pieces = []

    with pytest.raises(UpstreamFailure) as caught:
        for piece in answer.body:
            pieces.append(piece)
    assert pieces[0] == b"data: a\n\n"
    assert not any(pieces[1:])
    assert (caught.value.status, caught.value.code) == (504, "upstream_idle_timeout")


def test_closing_hangs_up_and_the_upstream_notices_at_once(upstream: Upstream) -> None:
    upstream.script = raw(b"data: a\n\n", end="hang")
    answer = ask(UpstreamApp(upstream.url))
    next(iter(answer.body))
    closed = time.monotonic()

    answer.close()
    answer.close()

    assert upstream.last.wait_for_peer_close() - closed < 0.5


def test_closing_from_another_thread_wakes_a_blocked_reader(upstream: Upstream) -> None:
    upstream.script = raw(b"data: a\n\n", end="hang")
    answer = ask(UpstreamApp(upstream.url))
    body = iter(answer.body)
    next(body)
    threading.Timer(0.05, answer.close).start()
    began = time.monotonic()

    with pytest.raises((UpstreamFailure, StopIteration)):
        while True:
            next(body)
    assert time.monotonic() - began < 5


def test_who_hangs_up_late_does_not_shut_the_connection_of_the_next_request() -> None:
    finished = []

    class Socket(socket.socket):
        def shutdown(self, how: int) -> None:
            futures.wait([reading := pool.submit(list, body)], timeout=0.3)
            finished.append(reading.done())
            super().shutdown(how)

    ours, theirs = socket.socketpair()
    with theirs, ThreadPoolExecutor(1) as pool, Socket(fileno=ours.detach()) as mine:
        head = ResponseHead(200, [], 2, False, True)
        body = UpstreamBody(Connection(mine), head, b"{}", Connections(lambda: mine, 1), idle=5, deadline=1e9)
        body.hang_up()

    assert finished == [False]  # else it would wait for, or have, the next request


def test_connections_are_kept_and_used_again_after_each_framing(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    for framing in ("chunked", "length", "chunked"):
        upstream.script = raw(b"x", framing=framing)
        list(ask(app).body)
    upstream.script = refuse(429)
    list(ask(app).body)

    assert upstream.connections == 1


def test_an_answer_that_was_not_read_to_its_end_does_not_spoil_the_next(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    upstream.scripts.append(raw([b"one", b"two"], interval=0.01))
    answer = ask(app)
    next(iter(answer.body))
    answer.close()
    upstream.script = raw(b"three")

    assert b"".join(ask(app).body) == b"three"


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(status: int, upstream: Upstream) -> None:
    upstream.script = raw(b"", status=status, headers={"Location": "http://elsewhere.invalid/"}, framing="length")
    answer = ask(UpstreamApp(upstream.url, api_key="sk-secret"))

    assert answer.code == 502
    assert json.loads(b"".join(answer.body))["error"]["code"] == "upstream_redirect"


def test_not_modified_is_an_answer_and_no_redirect(upstream: Upstream) -> None:
    upstream.script = raw(b"", status=304, headers={"ETag": '"1"'}, framing="length")
    environ = create_environ("/v1/files/f/content", headers={"If-None-Match": '"1"'})
    answer = call_app(UpstreamApp(upstream.url), environ)

    assert (answer.code, b"".join(answer.body), answer.header("ETag")) == (304, b"", '"1"')


def test_query_and_subpath_are_kept_below_the_base_url(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url + "/deployment")
    environ = create_environ("/v1/audio/speech?a=1&b=%20", method="POST", data=b"\x00\xff")
    list(call_app(app, environ).body)

    assert upstream.last.path == "/v1/deployment/audio/speech?a=1&b=%20"
    assert upstream.last.raw_body == b"\x00\xff"


def test_what_goes_up_is_the_proxy_s_own_word(upstream: Upstream) -> None:
    list(ask(UpstreamApp(upstream.url, api_key="sk-up", headers={"X-Team": "a"}), HTTP_AUTHORIZATION="Bearer me").body)

    headers = upstream.last.headers
    assert headers["authorization"] == "Bearer sk-up"
    assert headers["x-team"] == "a"
    assert headers["accept-encoding"] == "identity"
    assert str(uuid.UUID(headers["x-request-id"])) == headers["x-request-id"]  # llama-cpp-python refuses all else


def test_what_becomes_of_the_head_of_one_answer_is_nothing_to_the_next_with_the_same(upstream: Upstream) -> None:
    upstream.script = raw(b"{}", headers={"Content-Type": "x/y"})
    app = UpstreamApp(upstream.url)
    answers = [ask(app, CHAT) for _ in range(2)]
    answers[0].headers.clear()

    answers.append(ask(app, CHAT))

    assert [answer.header("Content-Type") for answer in answers] == ["", "x/y", "x/y"]


def test_a_configured_field_beats_the_client_s_and_the_proxy_s_own() -> None:
    configured = {"Accept": "x/a", "User-Agent": "x/u", "X-Request-Id": "x", "Content-Type": "x/t", "Host": "x.test"}
    client = {"HTTP_USER_AGENT": "me", "HTTP_ACCEPT": "me", "HTTP_X_REQUEST_ID": "me", "HTTP_HOST": "me"}
    with Upstream() as upstream:
        list(ask(UpstreamApp(upstream.url, headers=configured), **client).body)

    for name, value in configured.items():
        assert [sent for known, sent in upstream.last.header_list if known.lower() == name.lower()] == [value]


def test_no_configured_field_frames_a_request(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url, headers={"Content-Length": "1", "Transfer-Encoding": "chunked"})
    list(ask(app).body)

    assert upstream.last.body["model"] == "m"
    assert "transfer-encoding" not in upstream.last.headers


def test_the_key_is_cut_out_of_a_refusal(upstream: Upstream) -> None:
    upstream.script = refuse(401, "Bad key hunter2hunter2, see sk-proj-abcd.")
    answer = ask(UpstreamApp(upstream.url, api_key="hunter2hunter2"))

    assert answer.code == 401
    assert json.loads(b"".join(answer.body))["error"]["message"] == "Bad key [key], see [key]."


@pytest.mark.parametrize("status", [200, 401])
def test_a_secret_is_cut_out_of_a_header_and_no_header_is_dropped(status: int, upstream: Upstream) -> None:
    shown = {"Content-Type": "application/json", "X-Echo": "Bearer hunter2hunter2; q=1"}
    upstream.script = raw(b"{}", status=status, headers=shown)
    answer = ask(UpstreamApp(upstream.url, api_key="hunter2hunter2", headers={"Accept": "application/json"}))

    assert answer.header("Content-Type") == "application/json"
    assert answer.header("X-Echo") == "Bearer [key]; q=1"


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_that_is_handed_on_runs_nothing_in_a_browser_that_is_led_to_it(status: int, upstream: Upstream) -> None:
    said = {"Content-Type": "text/html", "X-Content-Type-Options": "none", "Content-Security-Policy": "script-src *"}
    upstream.script = raw(b"<script>alert(1)</script>", status=status, headers=said)
    answer = call_app(UpstreamApp(upstream.url), create_environ("/v1/files/1/content"))

    assert b"".join(answer.body) == b"<script>alert(1)</script>"
    guards = [(name, value) for name, value in answer.headers if name.startswith(("X-Content", "Content-S"))]
    assert guards == [("Content-Security-Policy", "default-src 'none'; sandbox"), ("X-Content-Type-Options", "nosniff")]


def ask_for_usage(upstream: Upstream, refusal: bytes) -> Answer:
    upstream.scripts.append(raw(refusal, status=400, headers={"Content-Encoding": "gzip"}, framing="length"))
    environ = create_environ("/v1/chat/completions", method="POST", json=STREAM)
    exchange = Exchange.of(environ)
    exchange.read_request(environ)
    assert exchange.request is not None
    exchange.put_request(environ, exchange.request.asking_usage(True))
    return call_app(UpstreamApp(upstream.url), environ)


def test_a_compressed_refusal_is_read(upstream: Upstream) -> None:
    answer = ask_for_usage(upstream, gzip.compress(b'{"error":{"message":"no include_usage here"}}'))

    assert answer.code == 200 and "stream_options" not in upstream.last.body


def test_the_key_is_cut_out_of_what_is_refused_without_the_option_too(upstream: Upstream) -> None:
    upstream.script = refuse_stream_options(refuse(499, "Bad key hunter2hunter2."))
    environ = create_environ("/v1/chat/completions", method="POST", json=STREAM)
    exchange = Exchange.of(environ)
    exchange.put_request(environ, Request.parse("chat", json.dumps(STREAM).encode()).asking_usage(True))
    answer = call_app(UpstreamApp(upstream.url, api_key="hunter2hunter2"), environ)

    assert answer.code == 502 and len(upstream.exchanges) == 2
    assert json.loads(b"".join(answer.body))["error"]["message"] == "Bad key [key]."


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/v1/chat/completions", {"stream": True, "stream_options": {"include_obfuscation": False}}),
        ("/v1/chat/completions", {"stream_options": {"include_usage": True}}),
        ("/v1/responses", {"stream": True, "stream_options": {"include_usage": True}}),
    ],
)
def test_what_is_refused_for_an_option_that_is_not_the_proxys_to_take_out_is_not_sent_again(
    path: str, options: dict[str, Any], upstream: Upstream
) -> None:
    upstream.script = refuse_stream_options()
    environ = create_environ(path, method="POST", json={**STREAM, "stream": False, **options})
    Exchange.of(environ).read_request(environ)

    assert call_app(UpstreamApp(upstream.url), environ).code == 400
    assert len(upstream.exchanges) == 1


def test_a_compressed_refusal_is_passed_on_as_far_as_it_can_be_read(upstream: Upstream) -> None:
    answer = ask_for_usage(upstream, gzip.compress(b'{"error":{"message":"unknown model"}}')[:-12])

    assert answer.code == 400 and not answer.header("Content-Encoding")
    assert b"".join(answer.body).startswith(b'{"error":')


def test_no_answer_at_all_is_504_first_byte(upstream: Upstream) -> None:
    upstream.script = silent()
    answer = ask(UpstreamApp(upstream.url, timeout=Timeout(first_byte=0.2)))

    assert answer.code == 504
    assert json.loads(b"".join(answer.body))["error"]["code"] == "upstream_first_byte_timeout"


@contextlib.contextmanager
def not_accepting(*hosts: str) -> Iterator[int]:
    """A port on which these addresses accept no connection: the kernel's queues for it are full."""
    with contextlib.ExitStack() as stack:
        port = 0
        for host in hosts:
            listener = stack.enter_context(socket.create_server((host, port), backlog=0))
            port = listener.getsockname()[1]
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((host, port))
        yield port


def test_an_address_that_does_not_accept_is_504_connect() -> None:
    with not_accepting("127.0.0.1") as port:
        answer = ask(UpstreamApp(f"http://127.0.0.1:{port}/v1", timeout=Timeout(connect=0.3)))

    assert answer.code == 504
    assert json.loads(b"".join(answer.body))["error"]["code"] == "upstream_connect_timeout"


def resolving_to(*hosts: str) -> Callable[..., list[Any]]:
    """A resolver that knows of these addresses."""
    return lambda name, port, *_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]


def test_all_addresses_of_a_name_share_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the client is told in time, and one that works after some that do not is still asked."""
    dead = ("127.0.0.2", "127.0.0.3")
    waited = []

    class Socket(socket.socket):
        def settimeout(self, value: float | None) -> None:
            waited.append(value or 0)
            super().settimeout(value)

    with not_accepting(*dead) as port, Upstream(port=port) as upstream:
        app = UpstreamApp(f"http://up.test:{port}/v1", timeout=Timeout(connect=3))
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*dead))
        monkeypatch.setattr(socket, "socket", Socket)
        refused = ask(app)
        shares = waited[:2]
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*dead, "127.0.0.1"))
        answer = ask(app)
        monkeypatch.undo()
        answer.close()

        assert json.loads(b"".join(refused.body))["error"]["code"] == "upstream_connect_timeout"
        assert sum(shares) <= 3 and min(shares) > 0
        assert (answer.code, len(upstream.exchanges)) == (200, 1)


@pytest.mark.parametrize("what", ["connection", "head"])
def test_the_time_for_the_whole_exchange_is_that_of_its_beginning_too(what: str, upstream: Upstream) -> None:
    upstream.script = silent()
    limits = Timeout(connect=PATIENCE, first_byte=PATIENCE, total=0.3)
    with not_accepting("127.0.0.1") as port:
        answer = ask(UpstreamApp(upstream.url if what == "head" else f"http://127.0.0.1:{port}/v1", timeout=limits))

    assert answer.code == 504
    assert json.loads(b"".join(answer.body))["error"]["code"] == "upstream_total_timeout"


def test_a_client_that_leaves_before_the_head_ends_the_waiting(upstream: Upstream) -> None:
    upstream.script = silent()
    gone: Callable[[], bool] = lambda: bool(upstream.exchanges)  # noqa: E731

    answer = ask(UpstreamApp(upstream.url), **{"waitress.client_disconnected": gone})

    assert answer.code == 499
    upstream.last.wait_for_peer_close()


@pytest.mark.parametrize("linger", [0.0, 60.0])
def test_what_a_client_asked_that_has_left_is_not_sent_though_answers_are_read_on(
    linger: float, upstream: Upstream
) -> None:
    environ = create_environ("/v1/chat/completions", method="POST", json=CHAT)
    exchange = Exchange.of(environ)
    exchange.linger.seconds = linger
    app = UpstreamApp(upstream.url)
    environ["waitress.client_disconnected"] = lambda: True

    assert call_app(app, environ).code == 499
    assert upstream.exchanges == []
    assert (exchange.this_try().error, exchange.this_try().reached) == ("client_gone", False)
    wait_until(lambda: upstream.open_connections == 0)


def test_a_hundred_hang_ups_leave_no_connection_behind(upstream: Upstream) -> None:
    app = UpstreamApp(upstream.url)
    upstream.script = stream(tokens=50, interval=0.01)
    for _ in range(100):
        answer = ask(app)
        next(iter(answer.body))
        answer.close()
    upstream.wait_until_idle()

    assert {exchange.outcome for exchange in upstream.exchanges} == {"peer_gone"}


@pytest.mark.parametrize("status", [499, 600, 999])
def test_a_status_that_is_none_of_http_s_is_502(status: int, upstream: Upstream) -> None:
    upstream.script = refuse(status)

    assert ask(UpstreamApp(upstream.url)).code == 502


def test_a_header_that_shows_a_secret_is_dropped(upstream: Upstream) -> None:
    upstream.script = raw(b"{}", headers={"X-Debug": "used hunter2hunter2", "X-Ok": "1"}, framing="length")
    answer = ask(UpstreamApp(upstream.url, headers={"api-key": "hunter2hunter2"}))

    assert "hunter2hunter2" not in str(answer.headers)
    assert answer.header("X-Ok") == "1"
    answer.close()


def test_a_head_that_drips_is_over_when_its_time_is(upstream: Upstream) -> None:
    def drip(exchange: Any) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
            exchange._send(bytes([byte]))
            exchange.pause(0.05)

    upstream.script = drip
    answer = ask(UpstreamApp(upstream.url, timeout=Timeout(first_byte=0.5)))

    assert json.loads(b"".join(answer.body))["error"]["code"] == "upstream_first_byte_timeout"


@pytest.mark.parametrize("drop", [b"HTTP/1.1 102 Processing\r\n\r\n", b"X-A: a\r\n"])
def test_a_head_that_drips_does_not_hide_a_client_that_leaves(drop: bytes, upstream: Upstream) -> None:
    def drip(exchange: Any) -> None:
        if drop.startswith(b"X-A"):
            exchange._send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(90):
            exchange._send(drop)
            exchange.pause(0.1)
        exchange._send(b"HTTP/1.1 200 OK\r\n\r\n")

    upstream.script = drip
    app = UpstreamApp(upstream.url, timeout=Timeout(first_byte=PATIENCE))

    assert ask(app, **{"waitress.client_disconnected": lambda: bool(upstream.exchanges)}).code == 499
    upstream.last.wait_for_peer_close()


def test_a_refusal_whose_body_drips_is_not_read_for_long(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Another upstream may be waiting to be asked."""
    monkeypatch.setattr("sseproxy.upstream.refusal.ERROR_BODY_TIME", 0.5)

    def drip(exchange: Any) -> None:
        exchange._send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 500\r\n\r\nbusy")
        for _ in range(100):
            exchange._send(b".")
            exchange.pause(0.1)
        exchange._send(b"!" * 396)

    upstream.script = drip
    answer = ask(UpstreamApp(upstream.url))

    body = b"".join(answer.body)
    assert answer.code == 503 and body.startswith(b"busy") and not body.endswith(b"!")
    upstream.last.wait_for_peer_close()


def test_a_tls_upstream_does_not_hide_a_client_that_leaves_before_the_head(tmp_path: Path) -> None:
    certificate, context = make_tls(tmp_path)
    asked, closed = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            while tls.recv(65536):
                asked.set()
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"https://localhost:{listener.getsockname()[1]}/v1"
        app = UpstreamApp(url, timeout=Timeout(first_byte=30), ca_file=str(certificate))
        answer = ask(app, **{"waitress.client_disconnected": asked.is_set})

        assert answer.code == 499
        assert closed.wait(PATIENCE)


def make_tls(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for localhost with its key, in one file, and what serves with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "localhost.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context
