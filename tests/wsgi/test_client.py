"""wsgi/client: is the client still there?"""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest
from werkzeug.test import create_environ

from sseproxy.wsgi.client import ClientGone, Linger, asking, lingering, watch_client
from tests.harness.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one that who lingers goes by."""
    clock = Clock()
    monkeypatch.setattr("sseproxy.wsgi.client.monotonic", clock)
    return clock


def test_waitress_is_asked_by_its_own_callable() -> None:
    gone = watch_client(create_environ(environ_overrides={"waitress.client_disconnected": lambda: True}))

    assert gone()


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_a_socket_tells_by_its_end_and_keeps_its_bytes_and_time_out(key: str) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(7)
    gone = watch_client(create_environ(environ_overrides={key: ours}))

    assert not gone()
    theirs.send(b"pipelined")
    assert not gone()
    assert ours.recv(100) == b"pipelined"
    assert ours.gettimeout() == 7
    theirs.close()
    assert gone()
    ours.close()
    assert gone()


def test_uwsgi_is_asked_for_the_descriptor_of_a_request_s_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(connection_fd=ours.fileno))
    gone = watch_client(create_environ(environ_overrides={"uwsgi.version": b"2.0.31"}))

    assert not gone()
    theirs.send(b"pipelined")
    assert not gone()
    assert ours.recv(100) == b"pipelined"
    theirs.close()
    assert gone()
    assert ours.fileno() >= 0
    ours.close()
    assert gone()


def test_a_server_that_tells_nothing_is_never_taken_for_a_hang_up() -> None:
    assert not watch_client(create_environ())()


def test_lingering_waits_before_it_says_gone() -> None:
    assert lingering(lambda: True, Linger())()
    assert not lingering(lambda: True, Linger(60.0))()
    assert not lingering(lambda: False, Linger(60.0))()


def test_all_who_linger_for_one_client_do_so_from_the_moment_that_the_first_missed_it(clock: Clock) -> None:
    linger = Linger(60.0)
    assert not lingering(lambda: True, linger)()

    clock.now += 59.0
    assert not lingering(lambda: True, linger)()
    assert linger.left() == 1.0
    clock.now += 1.0
    assert lingering(lambda: True, linger)()
    assert linger.left() == 0.0


def test_a_client_that_is_there_again_is_lingered_for_anew(clock: Clock) -> None:
    linger = Linger(60.0)
    assert not lingering(lambda: True, linger)()
    clock.now += 59.0
    assert not lingering(lambda: False, linger)()

    clock.now += 59.0
    assert not lingering(lambda: True, linger)()
    assert linger.left() == 60.0


def test_a_client_that_leaves_is_noticed_in_silences_and_while_something_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(asking([b"a", b"b"], lambda: True)) == [b"a", b"b"]
    with pytest.raises(ClientGone):
        list(asking([b"a", b""], lambda: True))

    monkeypatch.setattr("sseproxy.wsgi.client.INTERVAL", 0.0)
    with pytest.raises(ClientGone):
        list(asking([b"a", b"b"], lambda: True))
    assert list(asking([b"a", b""], lambda: False)) == [b"a", b""]
