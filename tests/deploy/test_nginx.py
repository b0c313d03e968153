"""deploy/nginx.conf and its sibling for compose, run by a real nginx before a real proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sseproxy.doctor import examine
from sseproxy.doctor.finding import Untestable
from sseproxy.doctor.target import Target
from tests.harness import PATIENCE, Server, Upstream, free_port, raw, require_tool, run_nginx, serve

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ASK = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}], "demo": {"tokens": 5}}
KEY = {"Authorization": "Bearer sk-alice"}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Server]:
    config = {
        "server": {"trusted_proxy": "127.0.0.1"},
        "users": {"alice": {"keys": ["sk-alice"]}, "root": {"keys": ["sk-root"], "admin": True}},
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


@contextlib.contextmanager
def compose_nginx(first: int, second: int, more: str = "") -> Iterator[int]:
    """The port of compose-nginx.conf before servers on these ports, with `more` in its ``server`` block."""
    port = free_port()
    text = put(
        "compose-nginx.conf",
        ("listen 80;", f"listen 127.0.0.1:{port}; {more}"),
        ("server proxy-1:8080", f"server 127.0.0.1:{first}"),
        ("server proxy-2:8080", f"server 127.0.0.1:{second}"),
    )
    with run_nginx(text, port):
        yield port


@contextlib.contextmanager
def nginx_conf(target: int, certificate: Path) -> Iterator[int]:
    """The port of nginx.conf's TLS server before a server on port `target`."""
    port, plain = free_port(), free_port()
    text = put(
        "nginx.conf",
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:8080", f"server 127.0.0.1:{target}"),
        ("/etc/nginx/tls", str(certificate)),
    )
    with run_nginx(text, port):
        yield port


@pytest.fixture(scope="module")
def secure(proxy: Server, certificate: Path) -> Iterator[int]:
    with nginx_conf(proxy.port, certificate) as port:
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
    with compose_nginx(free_port(), proxy.port) as port:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        answers = [requests.post(url, json=ASK, headers=KEY, timeout=PATIENCE) for _ in range(3)]

    assert [answer.text.endswith("data: [DONE]\n\n") for answer in answers] == [True] * 3


@pytest.mark.parametrize("host", ["llm.example.com", "llm.example.com:8080", "LLM.example.com:8443", "[::1]:8080"])
def test_the_host_that_a_client_names_comes_through_with_its_port(host: str, upstream: Upstream) -> None:
    with compose_nginx(upstream.port, upstream.port) as port:
        requests.get(f"http://127.0.0.1:{port}/v1/models", headers={"Host": host}, timeout=PATIENCE)
    arrived = upstream.last.headers

    assert (arrived["host"], arrived["x-forwarded-host"]) == (host.lower(), host.lower())


def test_the_host_comes_through_over_http_2_too(upstream: Upstream, certificate: Path) -> None:
    with nginx_conf(upstream.port, certificate) as port:
        url = f"https://localhost:{port}/v1/models"
        command = [require_tool("curl"), "-sS", "--http2", "--cacert", str(certificate / "fullchain.pem"), url]
        subprocess.run(command, check=True, capture_output=True)
    arrived = upstream.last.headers

    assert (arrived["host"], arrived["x-forwarded-host"]) == (f"localhost:{port}", f"localhost:{port}")


def test_the_dashboard_lets_its_own_page_log_in_and_no_other_at_a_port_of_plain_http(proxy: Server) -> None:
    with compose_nginx(proxy.port, proxy.port) as port:
        ours = f"http://127.0.0.1:{port}"
        status = {}
        for origin in (ours, "http://127.0.0.1", f"http://127.0.0.1:{port + 1}"):
            form, headers = {"key": "sk-root"}, {"Origin": origin}
            answer = requests.post(
                f"{ours}/-/dashboard/login", form, headers=headers, timeout=PATIENCE, allow_redirects=False
            )
            status[origin] = answer.status_code

    assert list(status.values()) == [303, 403, 403]


def test_no_answer_is_exchanged_for_a_file_of_the_site(upstream: Upstream, tmp_path: Path) -> None:
    """As with a wrapped application, whose headers sseproxy leaves alone."""
    (tmp_path / "secret").write_text("a file of the site")
    headers = {"Content-Type": "text/plain", "X-Accel-Redirect": "/secret"}
    upstream.script = raw(b"an answer", headers=headers)
    files = f"location /secret {{ internal; root {tmp_path}; }}"
    with compose_nginx(upstream.port, upstream.port, files) as port:
        answer = requests.get(f"http://127.0.0.1:{port}/v1/files", timeout=PATIENCE)

    assert answer.text == "an answer"
    assert "X-Accel-Redirect" not in answer.headers


def test_a_path_of_a_site_leads_to_the_proxy_where_both_addresses_end_with_a_slash(proxy: Server) -> None:
    to_proxy = "proxy_pass http://sseproxy/; proxy_set_header X-Forwarded-Prefix"
    below = f"location /llm/ {{ {to_proxy} /llm; }} location /odd {{ {to_proxy} /odd; }}"
    with compose_nginx(proxy.port, proxy.port, below) as port:
        right = requests.get(f"http://127.0.0.1:{port}/llm/v1/models", headers=KEY, timeout=PATIENCE)
        wrong = requests.get(f"http://127.0.0.1:{port}/odd/v1/models", headers=KEY, timeout=PATIENCE)
        with pytest.raises(Untestable) as found:
            examine(Target.of(f"http://127.0.0.1:{port}/odd"), "sk-alice", idle=1)

    assert (right.status_code, wrong.status_code) == (200, 404)
    said = wrong.json()["error"]["message"]
    assert said.startswith("Unknown path: GET //v1/models. Two slashes in a row") and "`location`" in said
    assert "`location`" in found.value.finding.cure
