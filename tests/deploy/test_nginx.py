"""deploy/nginx.conf and its sibling for compose, run by a real nginx before a real proxy."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sseproxy.doctor import examine
from sseproxy.doctor.target import Target
from tests.harness import PATIENCE, Server, Upstream, free_port, raw, require_tool, run_nginx, serve

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ASK = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}], "demo": {"tokens": 5}}
KEY = {"Authorization": "Bearer sk-alice"}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Server]:
    config = {
        "server": {"trusted_proxy": "127.0.0.1"},
        "users": {"alice": {"keys": ["sk-alice"]}},
        "routes": {"/ask": {"model": "demo"}},
    }
    with serve(config) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate for localhost, as nginx.conf names its files."""
    where = tmp_path_factory.mktemp("tls")
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(where / "privkey.pem"), "-out", str(where / "fullchain.pem")]
    subprocess.run([require_tool("openssl"), *command, *names, *files], check=True, capture_output=True)
    return where


def put(name: str, *replacements: tuple[str, str]) -> str:
    """A file of deploy/ with addresses and paths of this test in place of its own; each must occur in it."""
    text = (DEPLOY / name).read_text("utf-8")
    for old, new in (*replacements, ("/etc/nginx/nginx-locations.conf", str(DEPLOY / "nginx-locations.conf"))):
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def secure(proxy: Server, certificate: Path) -> Iterator[int]:
    """The port of nginx.conf's TLS server."""
    port, plain = free_port(), free_port()
    text = put(
        "nginx.conf",
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:8080", f"server 127.0.0.1:{proxy.port}"),
        ("/etc/nginx/tls", str(certificate)),
    )
    with run_nginx(text, port):
        yield port


def test_a_stream_comes_through_nginx_conf_and_the_doctor_finds_nothing(
    secure: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = str(certificate / "fullchain.pem")
    url = f"https://localhost:{secure}"
    answer = requests.post(f"{url}/v1/chat/completions", json=ASK, headers=KEY, verify=trust, timeout=PATIENCE)
    monkeypatch.setenv("SSL_CERT_FILE", trust)
    report = examine(Target.of(url), "sk-alice", idle=1)

    assert (answer.status_code, answer.text.endswith("data: [DONE]\n\n")) == (200, True)
    assert report.faults == []


def test_nginx_conf_offers_http_2(secure: int, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate / "fullchain.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", secure), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("path", ["/-/metrics", "/-/ready", "//-/metrics", "/%2D/metrics", "/x/../-/ready"])
def test_nginx_conf_keeps_what_is_for_the_machines_next_door(secure: int, certificate: Path, path: str) -> None:
    session = requests.Session()
    request = requests.Request("GET", f"https://localhost:{secure}/").prepare()
    request.url = f"https://localhost:{secure}{path}"
    answer = session.send(request, verify=str(certificate / "fullchain.pem"), timeout=PATIENCE)

    assert answer.status_code == 404
    assert "X-Request-Id" not in answer.headers


def test_a_body_that_is_too_long_is_refused_in_the_apis_own_words(secure: int, certificate: Path) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "x" * (11 * 1024 * 1024)}]}
    url = f"https://localhost:{secure}/v1/chat/completions"
    answer = requests.post(url, json=body, headers=KEY, verify=str(certificate / "fullchain.pem"), timeout=PATIENCE)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_prompt_in_an_address_may_be_longer_than_nginx_takes_by_itself(
    version: str, secure: int, certificate: Path
) -> None:
    trust = ["--cacert", str(certificate / "fullchain.pem"), "-H", f"Authorization: {KEY['Authorization']}"]
    prompt = ["--get", "--data-urlencode", "message=" + "ж" * 4000, f"https://localhost:{secure}/ask"]
    asked = subprocess.run([require_tool("curl"), "-sS", version, *trust, *prompt], capture_output=True, text=True)

    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.endswith("data: [DONE]\n\n")


def test_an_address_that_is_too_long_is_refused_in_the_apis_own_words(secure: int, certificate: Path) -> None:
    url = f"https://localhost:{secure}/ask?message={'x' * 300_000}"
    answer = requests.get(url, headers=KEY, verify=str(certificate / "fullchain.pem"), timeout=PATIENCE)

    assert answer.status_code == 431
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_nginx_of_compose_goes_on_where_one_of_two_instances_is_gone(proxy: Server) -> None:
    port, dead = free_port(), free_port()
    text = put(
        "compose-nginx.conf",
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("server proxy-1:8080", f"server 127.0.0.1:{dead}"),
        ("server proxy-2:8080", f"server 127.0.0.1:{proxy.port}"),
    )
    with run_nginx(text, port):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        answers = [requests.post(url, json=ASK, headers=KEY, timeout=PATIENCE) for _ in range(3)]

    assert [answer.text.endswith("data: [DONE]\n\n") for answer in answers] == [True] * 3


def test_no_answer_is_exchanged_for_a_file_of_the_site(upstream: Upstream, tmp_path: Path) -> None:
    """As with a wrapped application, whose headers sseproxy leaves alone."""
    (tmp_path / "secret").write_text("a file of the site")
    headers = {"Content-Type": "text/plain", "X-Accel-Redirect": "/secret"}
    upstream.script = raw(b"an answer", headers=headers)
    port = free_port()
    text = put(
        "compose-nginx.conf",
        ("listen 80;", f"listen 127.0.0.1:{port}; location /secret {{ internal; root {tmp_path}; }}"),
        ("server proxy-1:8080", f"server 127.0.0.1:{upstream.port}"),
        ("server proxy-2:8080", f"server 127.0.0.1:{upstream.port}"),
    )
    with run_nginx(text, port):
        answer = requests.get(f"http://127.0.0.1:{port}/v1/files", timeout=PATIENCE)

    assert answer.text == "an answer"
    assert "X-Accel-Redirect" not in answer.headers
