"""Reads one probe over a connection of its own, and notes what came when and how it ended. Judges nothing.

Sockets and http.client, no pooling or decoding library: what those would put right is what the doctor looks for.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from time import monotonic, time
from typing import Any, Final, Literal
from urllib.parse import urlencode

import msgspec

from sseproxy.core.sse import DONE, Decoder, EventTooLarge
from sseproxy.doctor.target import Target

PATH: Final = "/-/probe"
CONNECT_SECONDS: Final = 10.0
LONGEST_BODY: Final = 4 * 1024 * 1024

Framing = Literal["chunked", "length", "close"]
Ending = Literal["clean", "cut", "silent"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event: when it came, in seconds since the request was sent, and what it says."""

    at: float
    told: Mapping[str, Any]

    @property
    def sent(self) -> float:
        """When the proxy sent it, in seconds since it sent the first."""
        value = self.told.get("sent_ms")
        return value / 1000 if isinstance(value, int | float) else 0.0


@dataclass(slots=True)
class Reading:
    """What one request brought.

    :ivar version: of HTTP, as the last hop speaks it: 10 or 11.
    :ivar framing: what tells where the body ends.
    :ivar ending: ``clean``, ``cut`` (before the framing's end) or ``silent`` (nothing came for too long).
    :ivar head_at: when the head was here, in seconds since the request was sent; likewise all other times.
    :ivar reads: when how many bytes came.
    :ivar body: of an answer that does not say it is an event stream, the beginning: to be able to say whose it is.
    """

    status: int
    reason: str
    version: int
    headers: list[tuple[str, str]]
    framing: Framing
    head_at: float
    wall: float
    certificate: Mapping[str, Any] | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    reads: list[tuple[float, int]] = field(default_factory=list)
    pings: int = 0
    done: bool = False
    strangers: int = 0
    ending: Ending = "clean"
    ended_at: float = 0.0
    body: bytes = b""

    def header(self, name: str) -> str:
        """The values of a header, joined by a comma."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())

    @property
    def is_stream(self) -> bool:
        """Whether it says that it is an event stream."""
        return self.is_readable and self.header("Content-Type").startswith("text/event-stream")

    @property
    def is_readable(self) -> bool:
        """Whether events can be looked for in its body as it is."""
        return self.status == 200 and self.header("Content-Encoding").lower() in ("", "identity")

    @property
    def first(self) -> Mapping[str, Any]:
        """What the first event says: what the proxy saw of the request."""
        return self.arrivals[0].told if self.arrivals else {}

    @property
    def request(self) -> Mapping[str, Any]:
        """The request as it arrived at the proxy."""
        told = self.first.get("request")
        return told if isinstance(told, dict) else {}

    @property
    def last_at(self) -> float:
        """When the last byte came."""
        return self.reads[-1][0] if self.reads else self.head_at


def read_probe(
    target: Target,
    asked: Mapping[str, object],
    headers: Mapping[str, str],
    *,
    patience: float,
    path: str = PATH,
) -> Reading:
    """Ask for a probe and read it to its end.

    :param asked: its query.
    :param patience: seconds without a byte, or after the head, after which it is given up.
    :raises OSError: no connection, no TLS, or no answer.
    :raises HTTPException: what came is no HTTP.
    """
    connection = _connect(target)
    try:
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        connection.sock.settimeout(patience)
        sent, wall = monotonic(), time()
        query = f"?{urlencode(asked)}" if asked else ""
        connection.request("GET", f"{target.prefix}{path}{query}", headers=dict(headers))
        response = connection.getresponse()
        reading = _head(response, monotonic() - sent, wall)
        reading.certificate = certificate
        _read_body(response, reading, sent, patience)
        reading.ended_at = monotonic() - sent
        return reading
    finally:
        connection.close()


def _connect(target: Target) -> HTTPConnection:
    kind = HTTPSConnection if target.scheme == "https" else HTTPConnection
    connection = kind(target.host, target.port, timeout=CONNECT_SECONDS)
    connection.connect()
    return connection


def _head(response: HTTPResponse, at: float, wall: float) -> Reading:
    framing: Framing = "chunked" if response.chunked else "close" if response.length is None else "length"
    return Reading(response.status, response.reason, response.version, response.getheaders(), framing, at, wall)


def _read_body(response: HTTPResponse, reading: Reading, sent: float, patience: float) -> None:
    """Take the body as it comes; how it ends is noted, never raised."""
    stream = _Stream(reading) if reading.is_readable else None
    size = 0
    try:
        while piece := response.read1(65536):
            at = monotonic() - sent
            reading.reads.append((at, len(piece)))
            size += len(piece)
            if not reading.is_stream:
                reading.body = (reading.body + piece)[:4096]
            if stream is not None:
                stream.take(piece, at)
            if size > LONGEST_BODY:
                return
            if at - reading.head_at > patience:  # no probe: somebody's stream that has no end
                reading.ending = "cut"
                return
        reading.ending = "cut" if response.length else "clean"
    except TimeoutError:
        reading.ending = "silent"
    except (HTTPException, OSError, EventTooLarge, ValueError):
        reading.ending = "cut"


class _Stream:
    """The events of a probe, and the comments between them, whatever the body is called."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._decoder = Decoder()
        self._line_starts = True

    def take(self, piece: bytes, at: float) -> None:
        lines = (b"\n" if self._line_starts else b"") + piece
        self._reading.pings += lines.count(b"\n:")
        self._line_starts = piece.endswith(b"\n")
        for event in self._decoder.feed(piece):
            self._note(event.data, at)

    def _note(self, data: bytes, at: float) -> None:
        if data == DONE:
            self._reading.done = True
            return
        try:
            told = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            told = None
        if isinstance(told, dict) and told.get("object") == "probe":
            self._reading.arrivals.append(Arrival(at, told))
        else:
            self._reading.strangers += 1
