"""A client of plain sockets: sees each event when it comes, and vanishes at a chosen moment. HTTP/1.1 only.

with RawClient(server.url) as client:
    client.post("/v1/chat/completions", {...}, key="sk-...")
    first = client.read_event()
    client.reset()
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from .waiting import PATIENCE


@dataclass(frozen=True)
class RawEvent:
    """One block: its bytes up to and with the blank line, its data lines joined, its event field, when it was whole."""

    raw: bytes
    data: bytes
    type: str
    id: str | None
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class RawClient:
    """One connection, one request at a time. Reading fails with TimeoutError when nothing came for `timeout` seconds.

    ``ending``: None while the body runs, then ``clean`` or ``cut`` (the framing's own end was missing).
    ``chunks``: the chunks of a chunked body, else what each read brought: to see what was written as one.
    """

    def __init__(self, url: str, timeout: float = PATIENCE) -> None:
        address = urlsplit(url)
        self.timeout = timeout
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ending: str | None = None
        self.comments: list[bytes] = []
        self.chunks: list[bytes] = []
        self._host = f"{address.hostname}:{address.port}"
        self._sock = socket.create_connection((str(address.hostname), address.port or 80), timeout)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = bytearray()
        self._body = bytearray()
        self._left: int | None = None

    def post(
        self, path: str, body: Any, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> RawClient:
        """Send a POST with JSON (or bytes as they are) and read the head of its answer."""
        return self.send("POST", path, body, key=key, headers=headers).read_head()

    def get(self, path: str, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> RawClient:
        return self.send("GET", path, key=key, headers=headers).read_head()

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RawClient:
        """Send a request and read nothing."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = {"Host": self._host}
        if body is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if key:
            fields["Authorization"] = f"Bearer {key}"
        fields |= headers or {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.send_bytes(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content)
        return self

    def send_bytes(self, data: bytes) -> None:
        self._sock.sendall(data)

    def read_head(self) -> RawClient:
        """Until status and headers are here."""
        while b"\r\n\r\n" not in self._raw:
            assert self._receive(), f"the connection ended before the head was whole: {bytes(self._raw)!r}"
        head, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._raw, self._body, self.ending = bytearray(rest), bytearray(), None
        length = self.headers.get("content-length")
        self._left = int(length) if length is not None else None
        self._take_body()
        return self

    def read_event(self, timeout: float | None = None) -> RawEvent | None:
        """The next block that has data; None at the end of the body. Comments go to ``comments``.

        :raises TimeoutError: if it is not whole after `timeout` seconds (the client's own unless given).
        """
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            block, found, rest = bytes(self._body).partition(b"\n\n")
            if found:
                self._body = bytearray(rest)
                event = self._parse(block + found)
                if event:
                    return event
                continue
            if self.ending:
                return None
            self._sock.settimeout(max(0.001, until - time.monotonic()))
            self._receive()
            self._take_body()

    def events(self) -> Iterator[RawEvent]:
        """All events that are still to come."""
        while event := self.read_event():
            yield event

    def read_body(self) -> bytes:
        """All that is still to come of the body."""
        self._sock.settimeout(self.timeout)
        while not self.ending:
            self._receive()
            self._take_body()
        body, self._body = bytes(self._body), bytearray()
        return body

    def wait_for_bytes(self, wanted: bytes, timeout: float | None = None) -> None:
        """Until the unread part of the body has these bytes, e.g. a keep-alive."""
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        while wanted not in self._body:
            assert not self.ending, f"the body ended without {wanted!r}"
            self._sock.settimeout(max(0.001, until - time.monotonic()))
            self._receive()
            self._take_body()

    def close(self) -> None:
        """Hang up as a closed tab does. (With bytes unread the kernel makes an RST of it.)"""
        self._sock.close()

    def reset(self) -> None:
        """Vanish with an RST."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self._raw += data
        if not data and not self.ending:
            framed = self._left is not None or self.headers.get("transfer-encoding") == "chunked"
            self.ending = "cut" if framed else "clean"
        return bool(data)

    def _take_body(self) -> None:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while self._take_chunk():
                pass
            return
        piece = bytes(self._raw if self._left is None else self._raw[: self._left])
        del self._raw[: len(piece)]
        if piece:
            self._body += piece
            self.chunks.append(piece)
        if self._left is not None:
            self._left -= len(piece)
            if not self._left:
                self.ending = "clean"

    def _take_chunk(self) -> bool:
        line, found, rest = bytes(self._raw).partition(b"\r\n")
        if not found or self.ending == "clean":
            return False
        size = int(line.split(b";")[0], 16)
        if len(rest) < size + 2:
            return False
        self._raw = bytearray(rest[size + 2 :])
        if not size:
            self.ending = "clean"
            return False
        self._body += rest[:size]
        self.chunks.append(rest[:size])
        return True

    def _parse(self, block: bytes) -> RawEvent | None:
        fields: dict[bytes, list[bytes]] = {}
        for line in block.split(b"\n"):
            if line.startswith(b":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(b":")
                fields.setdefault(name, []).append(value.removeprefix(b" "))
        if b"data" not in fields:
            return None
        types, ids = fields.get(b"event", [b""]), fields.get(b"id")
        return RawEvent(
            block, b"\n".join(fields[b"data"]), types[-1].decode(), ids[-1].decode() if ids else None, time.monotonic()
        )
