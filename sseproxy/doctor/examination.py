"""Which probes are read, in which order, and what is made of them."""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.client import HTTPException
from typing import Any, Final

from sseproxy.doctor.buffering import HELD_SECONDS, check_buffering, check_hint, check_idle, held_back
from sseproxy.doctor.checks import (
    check_cache,
    check_certificate,
    check_clock,
    check_compression,
    check_end,
    check_framing,
    check_head,
    check_http_version,
    check_keepalives,
    check_location,
    check_request_headers,
)
from sseproxy.doctor.finding import Finding, Untestable
from sseproxy.doctor.fronts import recognise
from sseproxy.doctor.reading import CONNECT_SECONDS, Reading, read_probe
from sseproxy.doctor.refusals import explain_error, explain_refusal
from sseproxy.doctor.target import Target

#: The first probe: even events, and in their middle a silence with keep-alives.
PACED: Final = {"events": 8, "pause": 0.1, "silence": 1.3, "keepalive": 0.3}
PINGS: Final = 2
#: Without the header that asks nginx not to buffer.
UNHINTED: Final = {"events": 9, "pause": 0.1, "hint": 0}
#: For a client that takes compressed answers, as browsers do.
COMPRESSED: Final = {"events": 8, "pause": 0.1}
#: 64 KiB, evenly in about two seconds.
BLOCKS: Final = {"events": 64, "pause": 0.03, "pad": 960}
#: Seconds beyond a probe's own length after which it is given up.
PATIENCE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    :ivar fronts: names of the proxies in front that were recognised.
    """

    url: str
    fronts: list[str]
    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """What is to be cured."""
        return [finding for finding in self.findings if finding.is_fault]

    def as_json(self) -> dict[str, Any]:
        """``{"url", "ok", "fronts", "findings"}``."""
        findings = [asdict(finding) for finding in self.findings]
        return {"url": self.url, "ok": not self.faults, "fronts": self.fronts, "findings": findings}


def examine(target: Target, key: str | None, *, idle: float) -> Report:
    """Read probes through the path to ``target`` and judge it.

    :param idle: seconds of silence that a stream is to survive; also about how long this takes.
    :raises Untestable: no probe could be read.
    """
    examination = _Examination(target, key)
    first, nonce = examination.first()
    with ThreadPoolExecutor(1, "sseproxy-doctor") as pool:
        quiet = pool.submit(examination.read, {"events": 2, "pause": 0, "silence": idle})
        findings = list(examination.judge(first, nonce))
        findings.append(_judge_silence(quiet, idle, float(first.first.get("keepalive", 15.0))))
    return Report(target.url, [front.name for front in recognise(first)], findings)


class _Examination:
    """The probes of one target, asked for with one key."""

    def __init__(self, target: Target, key: str | None) -> None:
        self._target = target
        self._headers = {"Accept": "text/event-stream", "User-Agent": "sseproxy-doctor"}
        # What a client sends that comes back for an answer; the probe pays no heed to it.
        self._headers |= {"Last-Event-ID": "probe:0", "Idempotency-Key": "probe", "Prefer": "respond-async"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def read(self, asked: dict[str, Any], encodings: str = "identity") -> Reading:
        """One probe."""
        patience = asked.get("silence", 0.0) + asked["events"] * asked["pause"] + PATIENCE
        headers = self._headers | {"Accept-Encoding": encodings}
        return read_probe(self._target, asked, headers, patience=patience)

    def first(self) -> tuple[Reading, str]:
        """The probe that tells whether there is anything to examine, and its nonce.

        :raises Untestable: there is not.
        """
        nonce = secrets.token_hex(8)
        try:
            reading = self.read({**PACED, "nonce": nonce})
        except (OSError, HTTPException) as error:
            raise explain_error(error, self._target) from None
        coded = reading.header("Content-Encoding").lower() not in ("", "identity")
        if reading.status == 200 and coded:
            raise Untestable(
                "compression",
                f"event streams are compressed ({reading.header('Content-Encoding')}), also for clients that want none",
                check_compression(reading).cure,
            )
        if not reading.arrivals and not (reading.is_stream and reading.ending == "silent"):
            raise explain_refusal(reading, self._target, sent_key="Authorization" in self._headers)
        return reading, nonce

    def judge(self, first: Reading, nonce: str) -> Iterator[Finding]:
        """What the first probe and those that follow from it show."""
        certificate = check_certificate(first)
        if certificate is not None:
            yield certificate
            yield self._http2()
        yield from check_head(first)
        yield check_cache(first, nonce)
        held = held_back(first) >= HELD_SECONDS
        yield check_buffering(first, self._try(BLOCKS) if held else None)
        if not held:
            unhinted = self._try(UNHINTED)
            yield check_hint(unhinted) if unhinted else _unread("buffering_default")
        compressed = self._try(COMPRESSED, "gzip, deflate, br, zstd")
        yield check_compression(compressed) if compressed else _unread("compression")
        yield check_framing(first)
        yield check_http_version(first)
        yield from check_end(first)
        yield check_keepalives(first, PINGS)
        sent = [name for name in self._headers if name != "User-Agent"]
        yield check_request_headers(first, sent)
        yield check_location(first, self._target)
        yield check_clock(first)

    def _try(self, asked: dict[str, Any], encodings: str = "identity") -> Reading | None:
        try:
            reading = self.read(asked, encodings)
        except (OSError, HTTPException):
            return None
        return reading if reading.status == 200 else None

    def _http2(self) -> Finding:
        """Whether HTTP/2 is offered: over HTTP/1.1 a browser opens six connections to a host, one for each stream."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        address = (self._target.host, self._target.port)
        try:
            with (
                socket.create_connection(address, CONNECT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=self._target.host) as wrapped,
            ):
                chosen = wrapped.selected_alpn_protocol()
        except OSError:
            return _unread("http2")
        if chosen == "h2":
            return Finding("http2", "ok", "HTTP/2 is offered")
        message = "HTTP/2 is not offered: a browser has six streams at a time for all its tabs"
        return Finding("http2", "note", message, "Switch it on in front (nginx: listen 443 ssl http2).")


def _judge_silence(quiet: Future[Reading], idle: float, keepalive: float) -> Finding:
    try:
        return check_idle(quiet.result(), idle, keepalive)
    except (OSError, HTTPException):
        return _unread("idle_timeout")


def _unread(check: str) -> Finding:
    message = "could not be tested: the request failed, although an earlier one was answered"
    return Finding(check, "warning", message, "Run the doctor again; if it stays, look into the logs in front.")
