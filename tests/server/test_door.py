"""Several loops at one address, as in the workers of gunicorn: nobody waits while another process has a thread."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from sseproxy.server.corridor import Corridor
from sseproxy.server.door import Door
from sseproxy.server.loop import Loop
from sseproxy.server.served import Served
from tests.harness import PATIENCE, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"


class Process:
    """What a worker of gunicorn has, in a thread: its loop and its door, with one thread for requests.

    An answer to ``/held`` sets :attr:`holds` and waits for :attr:`release`; every one names its process.
    """

    def __init__(self, listener: socket.socket, corridor: Corridor, number: int, connections: int = 100) -> None:
        self.holds, self.release = threading.Event(), threading.Event()
        self._name = b"%d" % number
        places = [{"sockets": [listener.dup()], "backlog": 100}]
        limits = {"threads": 1, "connections": connections, "max_body": 1024, "client_timeout": 30.0}
        self.loop = Loop(Served(self._answer), places, environ={}, **limits)  # type: ignore[arg-type]
        self.door = Door(self.loop, corridor, number)
        self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping = True
        self.release.set()
        self.loop.ring()
        if self._thread.ident:
            self._thread.join(PATIENCE)
        self.loop.close(PATIENCE)

    def _run(self) -> None:
        while not self._stopping:
            self.door.mind()
            self.loop.turn(self.door.patience)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/held":
            self.holds.set()
            assert self.release.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "1")])
        return [self._name]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield listening


@pytest.fixture
def corridor() -> Iterator[Corridor]:
    with closing(Corridor()) as made:
        yield made


class Client:
    """A connection, kept."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = socket.create_connection(listener.getsockname(), PATIENCE)

    def send(self, path: bytes = b"") -> Client:
        self._socket.sendall(GET % path)
        return self

    def read(self) -> bytes:
        """Who has answered, or what else was said."""
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2]:
            piece = self._socket.recv(4096)
            assert piece, answer
            answer += piece
        return answer[-1:] if answer.startswith(b"HTTP/1.1 200") else answer

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


def test_a_request_on_a_kept_connection_to_a_process_without_a_thread_is_answered_by_another(
    listener: socket.socket, corridor: Corridor
) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(Process(listener, corridor, number))) for number in (1, 2))
        kept, held, new = (stack.enter_context(closing(Client(listener))) for _ in range(3))
        first.start()
        assert kept.send().read() == b"1"
        held.send(b"held")
        assert first.holds.wait(PATIENCE)
        second.start()
        wait_until(lambda: corridor.has_room(besides=1))

        assert [kept.send().read(), kept.send().read(), new.send().read()] == [b"2", b"2", b"2"]

        first.release.set()
        assert held.read() == b"1"


def test_a_connection_that_was_passed_on_is_not_left_to_what_an_application_starts(
    listener: socket.socket, corridor: Corridor
) -> None:
    assert corridor.give(0, listener)
    arrived = corridor.take()
    assert arrived is not None
    with closing(arrived[1]) as passed:
        assert not passed.get_inheritable()


def test_who_is_beyond_all_processes_is_told_so(listener: socket.socket, corridor: Corridor) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(closing(Process(listener, corridor, number))) for number in (1, 2)]
        for process in processes:
            process.start()
        # One that is answered and one that waits, in each.
        clients = [stack.enter_context(closing(Client(listener))).send(b"held") for _ in range(20)]
        assert all(process.holds.wait(PATIENCE) for process in processes)
        probing = [stack.enter_context(closing(Client(listener))).send(b"-/health") for _ in range(2)]

        wait_until(lambda: len(select.select(clients, (), (), 0)[0]) >= 16)
        assert {client.read() for client in probing} <= {b"1", b"2"}, "probes are answered all the same"

        for process in processes:
            process.release.set()
        said = [client.read() for client in clients]
        assert sum(b"503 Service Unavailable" in each and b"Retry-After: 1" in each for each in said) >= 16


def test_connections_beyond_their_limit_are_not_taken_by_a_process_without_a_thread_either(
    listener: socket.socket, corridor: Corridor
) -> None:
    with closing(Process(listener, corridor, 1, connections=20)) as process, ExitStack() as stack:
        process.start()
        held = stack.enter_context(closing(Client(listener))).send(b"held")
        assert process.holds.wait(PATIENCE)
        silent = [stack.enter_context(closing(Client(listener))) for _ in range(40)]
        wait_until(lambda: len(process.loop.connections) >= 20)
        process.release.set()

        assert held.read() == b"1"
        assert len(process.loop.connections) == 20
        for client in silent:
            client.close()
        assert stack.enter_context(closing(Client(listener))).send().read() == b"1"


def test_a_process_that_leaves_is_not_the_one_that_another_leaves_its_clients_to(
    listener: socket.socket, corridor: Corridor
) -> None:
    with closing(Process(listener, corridor, 1)) as leaving:
        leaving.door.mind()
        assert corridor.has_room(besides=2)

        leaving.door.close()
        assert not corridor.has_room(besides=2)
