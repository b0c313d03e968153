"""The doctor through a real nginx: it names each fault and its cure, and says so where all is right."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sseproxy.cli import main
from sseproxy.doctor import Report, examine
from sseproxy.doctor.reading import read_probe
from sseproxy.doctor.target import Target
from sseproxy.probe import AT_ONCE
from tests.harness import Server, free_port, nginx_in_front, require_tool, run_nginx, serve, waitress_thread

RIGHT = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 1h;'
#: Settings of nginx's location, and for how long the doctor is silent.
DEPLOYMENTS = {
    "right": (RIGHT, 6.0),
    "as nginx comes": ("", 1.0),
    "buffering": ("proxy_ignore_headers X-Accel-Buffering;", 1.0),
    "gzip": (f"{RIGHT} gzip on; gzip_types text/event-stream;", 1.0),
    "idle time-out": (RIGHT.replace("1h", "5s"), 7.0),
    "content type": (f"{RIGHT} proxy_hide_header Content-Type; add_header Content-Type text/plain;", 1.0),
    "HTTP/1.0": ("proxy_buffering off; proxy_set_header Last-Event-ID '';", 1.0),
}
CONFIG = {"users": {"alice": {"keys": ["sk-alice"]}}}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Server]:
    with serve(CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def reports(proxy: Server) -> dict[str, Report]:
    """All deployments, some at a time: each doctor holds up to two of the probes that a process allows."""

    def run(deployment: tuple[str, float]) -> Report:
        settings, idle = deployment
        with nginx_in_front(proxy.port, settings) as nginx:
            return examine(Target.of(nginx.url), "sk-alice", idle=idle)

    require_tool("nginx")
    with ThreadPoolExecutor(AT_ONCE // 2) as pool:
        return dict(zip(DEPLOYMENTS, pool.map(run, DEPLOYMENTS.values()), strict=True))


def faults(report: Report) -> dict[str, str]:
    return {finding.check: finding.cure for finding in report.faults}


def test_a_right_deployment_has_nothing_to_cure(reports: dict[str, Report]) -> None:
    assert reports["right"].faults == []
    assert reports["right"].fronts == ["nginx"]


def test_buffering_is_named_with_its_blocks_and_its_cure(reports: dict[str, Report]) -> None:
    found = {finding.check: finding for finding in reports["buffering"].findings}

    assert found["buffering"].status == "fault"
    assert "blocks of about 4 KiB" in found["buffering"].message
    assert "proxy_buffering off" in found["buffering"].cure


def test_buffering_that_only_a_header_keeps_away_is_named_too(reports: dict[str, Report]) -> None:
    found = {finding.check: finding.status for finding in reports["as nginx comes"].findings}

    assert (found["buffering"], found["buffering_default"]) == ("ok", "warning")


def test_gzip_on_event_streams_is_named_with_its_cure(reports: dict[str, Report]) -> None:
    assert list(faults(reports["gzip"])) == ["compression"]
    assert "gzip off" in faults(reports["gzip"])["compression"]


def test_an_idle_time_out_is_named_with_its_second_and_its_cure(reports: dict[str, Report]) -> None:
    (finding,) = reports["idle time-out"].faults

    assert finding.check == "idle_timeout"
    assert "cut after 5." in finding.message
    assert "proxy_read_timeout" in finding.cure and "streams: {keepalive: 2s}" in finding.cure


def test_http_1_0_and_a_lost_header_are_named_with_their_cures(reports: dict[str, Report]) -> None:
    found = faults(reports["HTTP/1.0"])

    assert set(found) == {"http_version", "headers"}
    assert "proxy_http_version 1.1" in found["http_version"]


def test_another_content_type_is_the_one_fault_of_a_path_that_hands_on_the_events(reports: dict[str, Report]) -> None:
    (finding,) = reports["content type"].faults

    assert finding.check == "content_type"
    assert "text/plain" in finding.message and "hand on Content-Type" in finding.cure


def doctor(url: str, *options: str, key: str = "sk-alice") -> tuple[Result, dict[str, Any]]:
    result = CliRunner().invoke(main, ["doctor", url, "--key", key, "--idle", "1", "--format", "json", *options])
    return result, json.loads(result.stdout)


def test_what_cannot_be_tested_says_why(proxy: Server) -> None:
    refused, nobody = doctor(f"http://127.0.0.1:{free_port()}")
    wrong, told = doctor(proxy.url, key="sk-wrong")

    assert (refused.exit_code, nobody["findings"][0]["check"]) == (2, "address")
    assert (wrong.exit_code, told["findings"][0]["check"]) == (2, "key")
    assert "sk-wrong" not in wrong.output and "--key" in told["findings"][0]["cure"]


def test_a_wrong_path_is_named_with_the_right_one(proxy: Server) -> None:
    _, told = doctor(f"{proxy.url}/llm")

    assert f"answers at {proxy.url}: use that" in told["findings"][0]["cure"]


def test_a_site_that_is_not_ours_is_no_deployment() -> None:
    def site(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"<html>hello</html>"]

    with waitress_thread(site) as server:
        result, told = doctor(server.url)

    assert result.exit_code == 2
    assert "is not sseproxy's address" in told["findings"][0]["message"]


def test_redirects_logins_dead_upstreams_and_a_stripped_prefix_are_named(proxy: Server) -> None:
    ports = [free_port() for _ in range(4)]
    server = "server {{ listen 127.0.0.1:{}; location / {{ {} }} }}"
    content = "\n".join(
        (
            server.format(ports[0], "return 301 https://llm.example.com$request_uri;"),
            server.format(ports[1], "auth_basic login; auth_basic_user_file /nowhere; proxy_pass http://127.0.0.1:9;"),
            server.format(ports[2], "proxy_pass http://127.0.0.1:9;"),
            f"server {{ listen 127.0.0.1:{ports[3]}; location /llm/ {{ proxy_pass {proxy.url}/; {RIGHT} }} }}",
        )
    )
    with run_nginx(content, ports[0]):
        found = [doctor(f"http://127.0.0.1:{port}")[1]["findings"][0] for port in ports[:3]]
        prefixed = doctor(f"http://127.0.0.1:{ports[3]}/llm/v1")[1]["findings"]

    assert [finding["check"] for finding in found] == ["redirect", "key", "address"]
    assert "asks for Basic before the proxy" in found[1]["message"]
    assert "does not reach the proxy" in found[2]["message"]
    assert [finding["check"] for finding in prefixed if finding["status"] == "fault"] == ["location"]


def test_a_certificate_that_nobody_signed_is_named(proxy: Server, tmp_path: Path) -> None:
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "5", "-subj", "/CN=localhost"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([require_tool("openssl"), *command, *names, *files], check=True, capture_output=True)
    port = free_port()
    tls = f"ssl_certificate {tmp_path}/cert.pem; ssl_certificate_key {tmp_path}/key.pem;"
    server = f"listen 127.0.0.1:{port} ssl http2; {tls} location / {{ proxy_pass {proxy.url}; {RIGHT} }}"
    with run_nginx(f"server {{ {server} }}", port), pytest.MonkeyPatch.context() as patch:
        unknown, untrusted = doctor(f"https://localhost:{port}")
        _, plain = doctor(f"http://localhost:{port}")
        patch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        trusted = doctor(f"https://localhost:{port}")[1]["findings"]

    assert (unknown.exit_code, untrusted["findings"][0]["check"]) == (2, "tls")
    assert plain["findings"][0]["check"] == "tls"
    if ssl.HAS_ALPN:
        assert next(finding for finding in trusted if finding["check"] == "http2")["status"] == "ok"
    assert "ends in" in next(finding for finding in trusted if finding["check"] == "tls")["message"]


def test_the_table_tells_people_and_the_exit_code_tells_scripts(proxy: Server) -> None:
    result = CliRunner().invoke(main, ["doctor", f"{proxy.url}/v1", "--idle", "1"], env={"SSEPROXY_KEY": "sk-alice"})

    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert "All is right" in result.stdout and "buffering" in result.stdout


def test_an_address_with_a_password_is_refused() -> None:
    result = CliRunner().invoke(main, ["doctor", "http://u:secret@127.0.0.1"])

    assert (result.exit_code, "secret" in result.output) == (2, False)


def test_a_stream_of_somebody_else_that_never_ends_is_given_up() -> None:
    def endless(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        while True:
            yield b": still here\n\n"
            sleep(0.02)

    with waitress_thread(endless) as server:
        reading = read_probe(Target.of(server.url), {}, {}, patience=0.3)

    assert (reading.ending, reading.arrivals) == ("cut", [])
