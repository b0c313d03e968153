"""client_timeout: who looks after a process's clients; who is stuck is told by tests/integration/test_stuck_clients."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import closing, suppress

import pytest

from sseproxy.wsgi.client_timeout import ClientTimeout
from tests.harness import PATIENCE


def is_cut_off(timeout: ClientTimeout, listener: socket.socket) -> bool:
    """Whether a client that takes nothing is."""
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
        timeout.watch({"gunicorn.socket": connection})
        try:
            while True:
                connection.sendall(bytes(65536))
        except OSError:
            return True


def forked(timeout: ClientTimeout, listener: socket.socket) -> int:
    """A child that ends with 0 if its own client is cut off."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        code = 1
        with suppress(BaseException):
            code = 0 if is_cut_off(timeout, listener) else 1
        os._exit(code)
    return child


@pytest.mark.skipif(sys.platform != "linux", reason="nobody is found stuck elsewhere")
def test_requests_go_on_while_no_thread_is_left_to_look_after_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    timeout = ClientTimeout(0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener, closing(timeout):
        with monkeypatch.context() as meanwhile, socket.socket() as connection:
            meanwhile.setattr(threading.Thread, "start", none_left)
            timeout.watch({"gunicorn.socket": connection})

        assert is_cut_off(timeout, listener)


@pytest.mark.skipif(sys.platform != "linux", reason="nobody is found stuck elsewhere")
def test_a_process_that_was_forked_after_a_request_cuts_off_its_own_clients() -> None:
    timeout = ClientTimeout(0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection, closing(timeout):
            timeout.watch({"gunicorn.socket": connection})
            child = forked(timeout, listener)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="nobody is found stuck elsewhere")
def test_a_process_that_was_forked_during_the_first_request_cuts_off_its_own_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeout = ClientTimeout(0.1)
    children: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):

        class Forking(threading.Thread):
            def start(self) -> None:
                monkeypatch.undo()
                children.append(forked(timeout, listener))
                super().start()

        monkeypatch.setattr(threading, "Thread", Forking)
        connection, _ = listener.accept()
        with connection, closing(timeout):
            timeout.watch({"gunicorn.socket": connection})
            assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
