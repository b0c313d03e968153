"""wsgi/stuck: which connections are cut off; real sockets, because the kernel is what tells."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from sseproxy.wsgi.stuck import StuckClients
from tests.harness import PATIENCE

TIMEOUT = 0.2


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end of a connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            yield server, client


def fill(connection: socket.socket) -> None:
    """Write until nothing more fits in."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while connection.send(b"x" * 65536):
            pass


def cut_until(stuck: StuckClients, condition: Callable[[], bool]) -> bool:
    """Look again and again until it is so; False after :data:`PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
        stuck.cut()
    return True


def is_dead(connection: socket.socket) -> bool:
    try:
        connection.send(b"x")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_a_client_that_takes_nothing_is_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    stuck = StuckClients(TIMEOUT)
    stuck.watch(server)
    fill(server)

    assert cut_until(stuck, lambda: is_dead(server))
    server.close()
    with pytest.raises(ConnectionResetError):
        while client.recv(65536):
            pass


def test_a_client_for_whom_nothing_waits_is_left_alone_and_so_is_one_that_reads(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    stuck = StuckClients(TIMEOUT)
    stuck.watch(server)
    begun = time.monotonic()

    assert cut_until(stuck, lambda: time.monotonic() - begun > 3 * TIMEOUT)
    for _ in range(10):
        stuck.watch(server)
        server.send(b"event")
        assert client.recv(100) == b"event"
        stuck.cut()


def test_a_closed_connection_is_forgotten(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    stuck = StuckClients(TIMEOUT)
    stuck.watch(server)
    fill(server)
    server.close()

    stuck.cut()

    client.close()


def test_a_unix_socket_is_nobody_s_to_cut() -> None:
    server, client = socket.socketpair(socket.AF_UNIX)
    with server, client:
        stuck = StuckClients(TIMEOUT)
        stuck.watch(server)
        fill(server)
        begun = time.monotonic()

        assert cut_until(stuck, lambda: time.monotonic() - begun > 3 * TIMEOUT)
        assert not is_dead(server)
