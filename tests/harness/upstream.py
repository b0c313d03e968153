"""A controllable OpenAI-compatible upstream on a real socket, that keeps the truth. Threads and plain sockets only.

    with Upstream() as upstream:
        upstream.script = stream(tokens=5, steps=True)      # for every request, or
        upstream.scripts.append(raw(b"data: x", end="cut"))  # for the next one only
        ... send a request to upstream.url ...
        exchange = upstream.wait_for_request()
        exchange.allow(1)

A script is a callable that gets the :class:`Exchange`; ready-made ones are in scripts.py.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO

from .exchange import Exchange, PeerGone, Stopped
from .scripts import stream
from .waiting import PATIENCE

Script = Callable[[Exchange], None]


class Upstream:
    """An upstream at :attr:`url` (ends in ``/v1``). ``exchanges``: all requests; ``connections``: accepted so far."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        self.script: Script = script or stream()
        self.scripts: deque[Script] = deque()
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed as far as is known here."""
        return len(self._open)

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    def wait_for_request(self, number: int = 1, timeout: float = PATIENCE) -> Exchange:
        """The request with this number, from 1, as soon as it was received whole."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.exchanges) >= number, timeout)
        assert done, f"waited {timeout} s for request {number}; there were {len(self.exchanges)}"
        return self.exchanges[number - 1]

    def wait_until_idle(self, timeout: float = PATIENCE) -> None:
        """Until every exchange so far has ended."""
        for exchange in list(self.exchanges):
            exchange.wait_for_end(timeout)

    def kill(self) -> None:
        """Die as a process does under kill -9: no one listens any more, every connection is reset."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Stop listening, end every script, join every thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self) -> Upstream:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.add(sock)
            self._start(self._serve, sock, self.connections)

    def _serve(self, sock: socket.socket, connection: int) -> None:
        reader = sock.makefile("rb")
        try:
            while not self._stopping.is_set():
                exchange = Exchange(sock, connection, self._stopping)
                if not self._read_request(reader, exchange):
                    return
                self._answer(exchange)
                if not exchange.keep_alive or exchange.headers.get("connection", "").lower() == "close":
                    return
        except OSError:
            return
        finally:
            self._open.discard(sock)
            with contextlib.suppress(OSError):
                reader.close()
            sock.close()

    def _read_request(self, reader: BinaryIO, exchange: Exchange) -> bool:
        first = reader.readline()
        if not first.strip():
            return False
        method, path, _ = first.decode("latin-1").split(" ", 2)
        headers = []
        while line := reader.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers.append((name.strip(), value.strip()))
        known = {name.lower(): value for name, value in headers}
        exchange.take_request(method, path, headers, _read_body(reader, known))
        with self._changed:
            self.exchanges.append(exchange)
            self._changed.notify_all()
        return True

    def _answer(self, exchange: Exchange) -> None:
        try:
            script = self.scripts.popleft()
        except IndexError:
            script = self.script
        try:
            script(exchange)
            exchange.end("completed")
        except PeerGone:
            exchange.keep_alive = False
            exchange.end("peer_gone")
        except Stopped:
            exchange.keep_alive = False
            exchange.end("stopped")
        except Exception as error:  # a fault of the test's own script: shown in the repr of the exchange
            exchange.keep_alive = False
            exchange.end("crashed", error)


def _read_body(reader: BinaryIO, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int(reader.readline().split(b";")[0], 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
        return body
    return bytes(reader.read(int(headers.get("content-length", 0))))
