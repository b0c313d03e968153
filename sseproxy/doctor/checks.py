"""Judges single readings: head, framing, end, keep-alives, clocks. Pure: readings in, findings out."""

from __future__ import annotations

import ssl
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from sseproxy.doctor.finding import Finding
from sseproxy.doctor.fronts import cure
from sseproxy.doctor.reading import PATH, Reading
from sseproxy.doctor.target import Target

#: A clock that is off by more makes tokens invalid and books a day wrong.
SKEW_SECONDS: Final = 5.0
CERTIFICATE_DAYS: Final = 14.0
#: A compressor that takes longer over the first event of a stream waits for more of it.
HELD_SECONDS: Final = 0.5


def check_head(reading: Reading) -> list[Finding]:
    """Content type and cache directives, as clients get them."""
    found = []
    kind = reading.header("Content-Type")
    if kind.split(";")[0].strip().lower() == "text/event-stream":
        found.append(Finding("content_type", "ok", kind))
    else:
        remedy = "Let the path hand on Content-Type as it comes; EventSource ends at once on any other."
        found.append(Finding("content_type", "fault", f"{kind or 'none'} instead of text/event-stream", remedy))
    found.append(_cache_control(reading.header("Cache-Control").lower()))
    return found


def _cache_control(value: str) -> Finding:
    directives = {part.strip().split("=")[0] for part in value.split(",")}
    lacking = [name for name in ("no-cache", "no-transform") if name not in directives]
    if not lacking or ("no-store" in directives and "no-transform" in directives):
        return Finding("cache_control", "ok", value)
    remedy = (
        "Something rewrites Cache-Control: take it out of the proxy's rules (nginx: expires, add_header, "
        "proxy_hide_header; a CDN: edge and browser cache TTL = respect existing headers)."
    )
    return Finding("cache_control", "warning", f"{value or 'none'}: {' and '.join(lacking)} did not arrive", remedy)


def check_cache(reading: Reading, nonce: str) -> Finding:
    """Whether the answer is one to this very request."""
    if reading.first and reading.first.get("nonce") != nonce:
        remedy = "Switch the cache off for these paths, or let it honour Cache-Control and Authorization."
        return Finding("cache", "fault", "the answer to an earlier request came: a cache gives answers away", remedy)
    return Finding("cache", "ok", "the answer is to this very request")


def check_framing(reading: Reading) -> Finding:
    """Whether a client can tell the end of an answer from a cut."""
    if reading.framing == "chunked":
        return Finding("framing", "ok", "chunked: a cut is seen as a cut")
    if reading.framing == "length":
        remedy = "Something collects the whole answer to know its length. " + cure("buffering", reading)
        return Finding("framing", "fault", "the event stream came with a Content-Length", remedy)
    remedy = "Let clients be answered in HTTP/1.1 with Transfer-Encoding: chunked, or HTTP/2."
    version = f"HTTP/{reading.version / 10:.1f}"
    message = f"{version}, ended by closing the connection: a client cannot tell a cut from an end"
    return Finding("framing", "fault", message, remedy)


def check_http_version(reading: Reading) -> Finding:
    """The version of HTTP in which the request reached the proxy."""
    protocol = str(reading.request.get("protocol", ""))
    if protocol != "HTTP/1.0":
        return Finding("http_version", "ok", f"{protocol} reached the proxy")
    message = (
        "HTTP/1.0 reached the proxy: no chunked answers, so that one cut short looks complete; no kept connections"
    )
    return Finding("http_version", "fault", message, cure("http_version", reading))


def check_end(reading: Reading) -> list[Finding]:
    """Whether every event came, and ``[DONE]`` after them."""
    return [_events(reading), _done(reading)]


def _events(reading: Reading) -> Finding:
    expected = int(reading.first.get("of", 0) or 0)
    numbers = [arrival.told.get("n") for arrival in reading.arrivals]
    if numbers == list(range(1, expected + 1)) and not reading.strangers:
        return Finding("events", "ok", f"all {expected} came, unchanged and in order")
    remedy = "Something on the way edits or cuts bodies: switch off body rewriting and inspection for event streams."
    extra = f", and {reading.strangers} that the proxy did not send" if reading.strangers else ""
    message = f"{len(numbers)} of {expected or 'the'} events came{extra}; the body's end: {reading.ending}"
    return Finding("events", "fault", message, remedy)


def _done(reading: Reading) -> Finding:
    if reading.done and reading.ending == "clean":
        return Finding("done", "ok", "[DONE] came, and then the body's end")
    if reading.done:
        remedy = "Let the path end bodies as they ended: SDKs report an error although all is there."
        return Finding("done", "warning", f"[DONE] came, but the body did not end ({reading.ending})", remedy)
    looks = "and the body ended as if it were complete" if reading.ending == "clean" else f"({reading.ending})"
    remedy = "Look for limits on size or duration of an answer and for body rewriting between client and proxy."
    return Finding("done", "fault", f"[DONE] got lost, {looks}", remedy)


def check_keepalives(reading: Reading, expected: int) -> Finding:
    """Whether the comment lines that keep a silent stream alive arrive."""
    if reading.pings >= expected:
        return Finding("keepalives", "ok", f"{reading.pings} keep-alives came in a short silence")
    remedy = "Something strips comment lines: switch off rewriting of event streams (ESI, HTML or body filters)."
    message = f"{reading.pings} of at least {expected} keep-alives came in a short silence"
    return Finding("keepalives", "fault", message, remedy)


def check_request_headers(reading: Reading, sent: list[str]) -> Finding:
    """Whether the request's fields that clients of event streams rely on reach the proxy."""
    arrived = reading.request.get("arrived") or []
    lost = [name for name in sent if name not in arrived]
    if not lost:
        return Finding("headers", "ok", "the fields of requests that streams need arrive")
    uses = {"Last-Event-ID": "resuming", "Idempotency-Key": "billing a repeated request once", "Accept": "event ids"}
    why = ", ".join(f"{name} ({uses[name]})" if name in uses else name for name in lost)
    remedy = f"Hand on every field of a request. {cure('headers', reading)}"
    return Finding("headers", "fault", f"lost on the way: {why}", remedy)


def check_location(reading: Reading, target: Target) -> Finding:
    """Whether the proxy knows under which path clients see it: it tells them addresses of live streams."""
    expected, told = f"{target.prefix}{PATH}", quote(str(reading.request.get("location", "")))
    if told == expected:
        return Finding("location", "ok", f"addresses of streams begin with {target.prefix or '/'}")
    message = f"the proxy takes itself for {told.removesuffix(PATH) or '/'}, clients reach it at {target.prefix or '/'}"
    remedy = (
        "Addresses in Location and Content-Location lead nowhere. Do not strip the prefix, or send X-Forwarded-Prefix "
        "from the proxy in front and name its address in server.trusted_proxy."
    )
    return Finding("location", "fault", message, remedy)


def check_clock(reading: Reading) -> Finding:
    """The clocks of the proxy and of what answers in front of it, beside the one here."""
    remedy = "Run NTP (chrony, systemd-timesyncd) on that machine: tokens, key expiry and budgets by day depend on it."
    elapsed = reading.arrivals[0].at if reading.arrivals else reading.head_at
    here = reading.wall + elapsed
    at = reading.first.get("at")
    # A first event that was held back is as old as it was held: the delay of its last fellow is the path's own.
    if reading.arrivals and isinstance(at, int | float):
        last = reading.arrivals[-1]
        off = float(at) + last.sent - (reading.wall + last.at)
        if abs(off) > SKEW_SECONDS:
            return Finding("clock", "warning", f"the proxy's clock is {_off(off)} this machine's", remedy)
    date = _date(reading.header("Date"))
    if date is not None and abs(date - here) > SKEW_SECONDS + elapsed:
        return Finding("clock", "warning", f"the header Date is {_off(date - here)} this machine's clock", remedy)
    return Finding("clock", "ok", f"within {SKEW_SECONDS:.0f} s of this machine's")


def _off(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError):
        return None


def check_certificate(reading: Reading) -> Finding | None:
    """How long the certificate is still valid; None without TLS."""
    if not reading.certificate or "notAfter" not in reading.certificate:
        return None
    days = (ssl.cert_time_to_seconds(reading.certificate["notAfter"]) - reading.wall) / 86400
    if days < CERTIFICATE_DAYS:
        remedy = "Renew it, and look why it was not renewed by itself."
        return Finding("tls", "warning", f"the certificate ends in {days:.0f} days", remedy)
    return Finding("tls", "ok", f"the certificate is valid for {days:.0f} more days")


def check_compression(reading: Reading) -> Finding:
    """Whether an event stream is compressed for a client that would take that."""
    coding = reading.header("Content-Encoding").lower()
    if coding in ("", "identity"):
        return Finding("compression", "ok", "event streams are not compressed")
    held = reading.reads[0][0] - reading.head_at if reading.reads else reading.ended_at
    effect = f"the first event came after {held:.1f} s" if held > HELD_SECONDS else "compressors hold events back"
    message = f"event streams are compressed ({coding}) for clients that take that, as browsers do: {effect}"
    return Finding("compression", "fault", message, cure("compression", reading))
