"""middleware/fetch: a document that somebody else serves, as slowly, as largely and as wrongly as they like."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sseproxy.middleware.fetch import LARGEST, fetch_json
from tests.harness import Upstream, raw, refuse
from tests.harness.scripts import Script


@contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[str]:
    """The address, without its scheme, of somebody who sends a drop now and then instead of an end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        enough = threading.Event()

        def drip() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                peer.sendall(first)
                for _ in range(300):
                    if not enough.wait(0.01):
                        peer.sendall(drop)

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}/"
        finally:
            enough.set()
            thread.join()


def test_a_document_is_read(upstream: Upstream) -> None:
    upstream.script = raw([b'{"keys"', b": []}"])

    assert fetch_json(upstream.url, 60) == {"keys": []}


def test_one_that_comes_byte_by_byte_is_given_up(upstream: Upstream) -> None:
    upstream.script = raw([b" "] * 100_000, interval=0.01)

    with pytest.raises(TimeoutError):
        fetch_json(upstream.url, 0.3)


@pytest.mark.parametrize(
    ("scheme", "first", "drop"),
    [
        ("http", b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n{}", b" "),
        ("https", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x03"),
    ],
    ids=["head", "continue", "chunk size", "body", "handshake"],
)
def test_whatever_is_dripped_is_given_up(scheme: str, first: bytes, drop: bytes) -> None:
    # Cut before its handshake has begun, as on a busy machine, a socket is left open by Python's ssl.
    seconds = 2 if scheme == "https" else 0.3
    with dripping(first, drop) as address, pytest.raises(TimeoutError):
        fetch_json(f"{scheme}://{address}", seconds)


def test_one_that_does_not_end_is_given_up(upstream: Upstream) -> None:
    upstream.script = raw([b" " * 65536] * (2 * LARGEST // 65536))

    with pytest.raises(ValueError, match="too large"):
        fetch_json(upstream.url, 60)


@pytest.mark.parametrize(
    "script",
    [
        refuse(500),
        raw(b"", status=302, headers=(("Location", "/"),)),
        raw(b'{"keys": []}', end="reset"),
        raw(b'{"keys": []}', end="cut"),
        raw(b"<html>"),
        raw(b"\xff"),
        raw(b"[" * 100_000),
    ],
)
def test_what_cannot_be_read_is_no_surprise(upstream: Upstream, script: Script) -> None:
    upstream.script = script

    with pytest.raises((OSError, ValueError)):
        fetch_json(upstream.url, 60)
