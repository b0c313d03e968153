"""Why no stream could be read, and what to do: names, connections, TLS, addresses, keys."""

from __future__ import annotations

import re
import socket
import ssl
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sseproxy.doctor.finding import Untestable
from sseproxy.doctor.reading import Reading, read_probe
from sseproxy.doctor.target import Target

_TWO_SLASHES: Final = re.compile(r"(?<!:)//")
"""In a path. OpenAI's own error of that code has an address in it."""


def explain_error(error: OSError | HTTPException, target: Target) -> Untestable:
    """No answer came at all."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untestable("tls", f"the certificate is not to be trusted: {error.verify_message}", _trust(error))
    if isinstance(error, ssl.SSLError):
        remedy = "Is this port meant for https? Try http://, or switch TLS 1.2 and 1.3 on in front."
        return Untestable("tls", f"no TLS connection: {error.reason or error}", remedy)
    where = f"{target.host} port {target.port}"
    if isinstance(error, socket.gaierror):
        return Untestable("address", f"no address is known for {target.host}", "Look at the spelling and at the DNS.")
    if isinstance(error, ConnectionRefusedError):
        remedy = "Is the server running, and does it listen there? (server.listen; a container's published port)"
        return Untestable("address", f"nobody listens on {where}", remedy)
    if isinstance(error, TimeoutError):
        remedy = "Look at firewalls and security groups, and whether the process behind still works."
        return Untestable("address", f"{where} does not answer", remedy)
    remedy = "Is it HTTP that this port speaks? If TLS: https://. Else the log in front tells why it hung up."
    return Untestable("address", f"{where} hung up without an answer ({type(error).__name__})", remedy)


def _trust(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == 10:
        return "It has expired: renew it."
    if error.verify_code == 62:
        return "It is for another name: use that name, or get one for this."
    return (
        "Serve the full chain (nginx: ssl_certificate with the intermediates). For an authority of your own, "
        "name it in $SSL_CERT_FILE."
    )


def explain_refusal(reading: Reading, target: Target, *, sent_key: bool) -> Untestable:
    """An answer came, but no probe."""
    status = reading.status
    error = _error_of(reading)
    if status in (301, 302, 303, 307, 308):
        return _redirected(reading)
    if status == 401:
        return _unauthorized(reading, error, sent_key)
    if status in (502, 503, 504) and not error:
        message = f"{_server(reading)} answers {status}: it does not reach the proxy"
        remedy = "Look at the upstream address in front (proxy_pass) and whether sseproxy runs and listens there."
        return Untestable("address", message, remedy)
    if status == 400 and b"HTTPS port" in reading.body:
        return Untestable("tls", "this port wants TLS", f"Use https:// {target.url.removeprefix('http://')}")
    if error and status not in (404, 405):
        return Untestable("answer", f"{status}: {error.get('message', '')}", "Do what it says, then try again.")
    if error.get("code") == "unknown_url" and _TWO_SLASHES.search(said := str(error.get("message"))):
        return Untestable("address", f"{status}: the path that arrives is not the one that was asked for", said)
    return _elsewhere(reading, target)


def _redirected(reading: Reading) -> Untestable:
    location = reading.header("Location")
    parts = urlsplit(location)
    aim = f"{parts.scheme}://{parts.netloc}" if parts.netloc else location
    message = f"{reading.status} redirects to {aim}: SDKs lose the key or the body of a POST on the way"
    remedy = "Give clients the address it leads to as their base URL, and examine that one."
    return Untestable("redirect", message, remedy)


def _unauthorized(reading: Reading, error: dict[str, Any], sent_key: bool) -> Untestable:
    remedy = "Pass a valid one with --key or in $SSEPROXY_KEY; `sseproxy keys new USER` makes one."
    if not error:
        scheme = reading.header("WWW-Authenticate").split(" ")[0] or "a login"
        message = f"{_server(reading)} asks for {scheme} before the proxy is reached"
        return Untestable("key", message, "Leave /v1/ and /-/ out of that login: sseproxy asks for keys itself.")
    if sent_key and error.get("code") == "missing_api_key":
        remedy = (
            "Hand on the field Authorization (nginx does; Apache with CGIPassAuth On, Squid with login=PASSTHRU at "
            "cache_peer; a login in front drops it)."
        )
        return Untestable("key", "the key was sent, but did not reach the proxy", remedy)
    if sent_key:
        return Untestable("key", "401: the key is unknown, revoked or expired", remedy)
    return Untestable("key", "401: a key is needed", remedy)


def _elsewhere(reading: Reading, target: Target) -> Untestable:
    message = f"{target.url} is not sseproxy's address: {_server(reading)} answers {reading.status}"
    for parent in target.parents():
        if _is_alive(parent):
            return Untestable("address", message, f"It answers at {parent.url}: use that.")
    if reading.header("X-Request-Id") and _error_of(reading):
        remedy = "Update sseproxy there; in a wrapped application let /-/probe reach SSEProxyMiddleware."
        return Untestable("address", f"{reading.status}: this is sseproxy, but it offers no /-/probe", remedy)
    remedy = (
        "Use the address under which /-/health answers; in front, hand the prefix and what follows it on to sseproxy."
    )
    return Untestable("address", message, remedy)


def _is_alive(target: Target) -> bool:
    try:
        reading = read_probe(target, {}, {"User-Agent": "sseproxy-doctor"}, patience=5, path="/-/health")
    except (OSError, HTTPException):
        return False
    return reading.status == 200 and b'"status":"ok"' in reading.body


def _server(reading: Reading) -> str:
    return reading.header("Server") or "a server that does not tell its name"


def _error_of(reading: Reading) -> dict[str, Any]:
    """The ``error`` object of a refusal by sseproxy, as JSON or as an error event."""
    body = reading.body.removeprefix(b"data: ").strip()
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    error = told.get("error") if isinstance(told, dict) else None
    return error if isinstance(error, dict) else {}
