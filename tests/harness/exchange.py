"""One request as the controllable upstream saw it, and the levers a script pulls to answer it. See upstream.py."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .waiting import PATIENCE

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
POLL_SECONDS = 0.005


class PeerGone(Exception):
    """The peer closed or reset its connection; raised inside a script."""


class Stopped(Exception):
    """The test is over; raised inside a script."""


class Exchange:
    """One request and what became of its answer. Attributes are the truth that tests compare with.

    * ``method``, ``path``, ``headers`` (lower-case names), ``header_list``, ``raw_body``, ``body`` (its JSON, or None)
    * ``connection``: number of the connection it came on, from 1
    * ``sent``: what :meth:`write` was given, piece by piece; ``sent_at``: when (monotonic)
    * ``tokens``: output tokens produced so far; ``input_tokens``; ``usage_sent``: whether the figures were told
    * ``text``: all that the first choice would say if it ran to its end (scripts.stream)
    * ``outcome``: ``running``, ``completed``, ``peer_gone``, ``cut``, ``reset``, ``stopped`` or ``crashed``
    * ``peer_closed_at``: when (monotonic) it was noticed that the peer left during the answer; polled while silent too
    """

    def __init__(self, sock: socket.socket, connection: int, stopping: threading.Event) -> None:
        self.method = self.path = ""
        self.header_list: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}
        self.raw_body = b""
        self.body: Any = None
        self.connection = connection
        self.received_at = time.monotonic()
        self.sent: list[bytes] = []
        self.sent_at: list[float] = []
        self.bytes_sent = 0
        self.tokens = 0
        self.input_tokens = 0
        self.text = ""
        self.usage_sent = False
        self.outcome = "running"
        self.error: BaseException | None = None
        self.peer_closed_at: float | None = None
        self.ended_at: float | None = None
        self.keep_alive = True
        self._sock = sock
        self._stopping = stopping
        self._framing = "chunked"
        self._headers_sent = False
        self._changed = threading.Condition()
        self._allowed = 0
        self._steps_taken = 0

    # What a test calls.

    def allow(self, steps: int = 1) -> None:
        """Let a script in step mode send that many events more."""
        with self._changed:
            self._allowed += steps
            self._changed.notify_all()

    def wait_for_sent(self, count: int, timeout: float = PATIENCE) -> None:
        """Until `count` pieces were handed to the kernel. :raises AssertionError: after `timeout` seconds."""
        self._wait_until(lambda: len(self.sent) >= count, timeout, f"{count} pieces sent")

    def wait_for_peer_close(self, timeout: float = PATIENCE) -> float:
        """Until the peer's hang-up was noticed; when that was (monotonic)."""
        self._wait_until(lambda: self.peer_closed_at is not None, timeout, "the peer to hang up")
        assert self.peer_closed_at is not None
        return self.peer_closed_at

    def wait_for_end(self, timeout: float = PATIENCE) -> str:
        """Until the answer is over; its outcome."""
        self._wait_until(lambda: self.outcome != "running", timeout, "the end of the answer")
        return self.outcome

    # What a script calls.

    def start(self, status: int = 200, headers: Headers = (), *, framing: str = "chunked", length: int = 0) -> None:
        """Send the head. `framing`: ``chunked``, ``close`` (the end of the connection is the end) or ``length``."""
        self._framing = framing
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if framing == "chunked":
            pairs.append(("Transfer-Encoding", "chunked"))
        elif framing == "length":
            pairs.append(("Content-Length", str(length)))
        else:
            pairs.append(("Connection", "close"))
            self.keep_alive = False
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in pairs)]
        self._headers_sent = True
        self._send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def write(self, piece: bytes) -> None:
        """Send one piece of the body, in one chunk. :raises PeerGone:"""
        self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._framing == "chunked" else piece)
        with self._changed:
            self.sent.append(piece)
            self.sent_at.append(time.monotonic())
            self._changed.notify_all()

    def finish(self) -> None:
        """End the body as its framing demands. A peer that left by now has had it all: SDKs hang up at ``[DONE]``."""
        try:
            if self._framing == "chunked":
                self._send(b"0\r\n\r\n")
        except PeerGone:
            self.keep_alive = False

    def step(self) -> None:
        """Wait for the test's :meth:`allow`. :raises PeerGone:"""
        while True:
            with self._changed:
                if self._allowed > self._steps_taken:
                    self._steps_taken += 1
                    return
                self._changed.wait(POLL_SECONDS)
            self.check_peer()

    def pause(self, seconds: float) -> None:
        """Be silent for that long. :raises PeerGone: as soon as the peer leaves"""
        until = time.monotonic() + seconds
        self.check_peer()
        while (left := until - time.monotonic()) > 0:
            self._stopping.wait(min(left, POLL_SECONDS))
            self.check_peer()

    def hang(self) -> None:
        """Be silent until the peer leaves or the test ends; returns never."""
        while True:
            self.pause(3600)

    def cut(self) -> None:
        """Close the connection here and now."""
        self.outcome = "cut"
        self.keep_alive = False
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Break the connection with an RST as soon as the script returns."""
        self.outcome = "reset"
        self.keep_alive = False
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def check_peer(self) -> None:
        """:raises PeerGone: if the peer closed its side; :raises Stopped: if the test is over"""
        if self._stopping.is_set():
            raise Stopped
        try:
            if self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                self._lost_peer()
        except BlockingIOError:
            return
        except OSError:
            self._lost_peer()

    # What the upstream calls.

    def take_request(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.method, self.path, self.header_list, self.raw_body = method, path, headers, body
        self.headers = {name.lower(): value for name, value in headers}
        with contextlib.suppress(ValueError):
            self.body = json.loads(body)

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        with self._changed:
            if self.outcome == "running":
                self.outcome = outcome
            self.error = error
            self.ended_at = time.monotonic()
            self._changed.notify_all()

    def _lost_peer(self) -> None:
        with self._changed:
            self.peer_closed_at = self.peer_closed_at or time.monotonic()
            self._changed.notify_all()
        raise PeerGone

    def _send(self, data: bytes) -> None:
        """Never blocks for good: a peer that reads slowly holds it up, one that left ends it."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        view = memoryview(data)
        while view:
            self.check_peer()
            if not poll.poll(20):
                continue
            try:
                count = self._sock.send(view, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                self._lost_peer()
            self.bytes_sent += count
            view = view[count:]

    def _wait_until(self, condition: Any, timeout: float, what: str) -> None:
        with self._changed:
            done = self._changed.wait_for(condition, timeout)
        assert done, f"waited {timeout} s for {what}: {self}"

    def __repr__(self) -> str:
        what = f"{self.method} {self.path} {self.outcome}, {len(self.sent)} pieces, {self.tokens} tokens"
        return f"<Exchange {what}{f', {self.error!r}' if self.error else ''}>"
