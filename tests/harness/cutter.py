"""A network that fails: a TCP relay to a server on this machine, whose connections are killed when a test says so.

    with Cutter(server.port) as cutter:
        page.run(f"...{cutter.url}...")
        cutter.cut()                        # every connection, now
        cutter.target = other.port          # where new ones lead

Cuts can also be planned by the bytes that pass, to hit the middle of an event: ``cutter.plan([700, 3000])``.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable

from .waiting import PATIENCE

PIECE = 4096
"""Bytes passed on at once."""


class Cutter:
    """Listens at :attr:`url`; ``connections`` and ``cuts`` so far; ``passed``: bytes of answers that went through.

    :param port: of the server on 127.0.0.1 that connections lead to; :attr:`target` may be changed at any time.
    :param reset: whether a cut is an RST (a crash, a dead router) or a FIN (a relay that gives up politely).
    :param when_cut: called after each cut, before the next connection is made.
    """

    def __init__(self, port: int, *, reset: bool = True, when_cut: Callable[[], object] | None = None) -> None:
        self.target = port
        self.connections = self.cuts = self.passed = 0
        self._reset = reset
        self._when_cut = when_cut
        self._plan: list[int] = []
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Kill every running connection, on both its sides."""
        with self._lock:
            self.cuts += 1
            self._kill_all()
            if self._when_cut is not None:
                self._when_cut()

    def plan(self, places: Iterable[int]) -> None:
        """Cut each time when so many bytes of answers, from now on and of all connections together, have passed.

        Between the two line ends that end an event it cuts behind both: there fetch-event-source, which believes an
        ``id:`` line before it has the event, loses that event, and no server can help it.
        """
        with self._lock:
            self._plan = sorted((self.passed + place for place in places), reverse=True)

    def close(self) -> None:
        """Kill every connection and accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._kill_all()

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _kill_all(self) -> None:
        for link in self._links:
            link.kill(self._reset)
        self._links.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            with self._lock:
                server = socket.create_connection(("127.0.0.1", self.target), PATIENCE)
                link = _Link(client, server)
                self.connections += 1
                self._links.add(link)
            with server:
                upwards = threading.Thread(target=link.pump, args=(client, server, server.sendall), daemon=True)
                upwards.start()
                link.pump(server, client, lambda piece: self._answer(client, piece))
                upwards.join()
            with self._lock:
                self._links.discard(link)

    def _answer(self, client: socket.socket, piece: bytes) -> None:
        """Pass on a piece of an answer, up to the next planned cut."""
        with self._lock:
            left = self._plan[-1] - self.passed if self._plan else len(piece) + 1
            due = left <= len(piece)
            if due and piece[max(left - 1, 0) : left + 1] == b"\n\n":
                left += 1
            piece = piece[: max(left, 0)]
            self.passed += len(piece)
            if due:
                self._plan.pop()
        client.sendall(piece)
        if due:
            self.cut()


class _Link:
    """The two connections that are one to both ends."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._socks = (client, server)
        self._alive = True
        for sock in self._socks:
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def kill(self, reset: bool = True) -> None:
        """End both; what reads them wakes up and closes them."""
        self._alive = False
        for sock in self._socks:
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)

    def pump(self, source: socket.socket, sink: socket.socket, send: Callable[[bytes], object]) -> None:
        """Carry one direction until its end, and pass the end on."""
        try:
            while (piece := source.recv(PIECE)) and self._alive:
                send(piece)
            if self._alive:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.kill()
