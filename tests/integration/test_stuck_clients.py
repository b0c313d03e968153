"""A client that does not read is cut off, on every server; one that reads slowly, and all others, are not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import PATIENCE, SERVERS, Exchange, RawClient, Server, Upstream, choose, serve, stream

from .books import KEY, STREAM, Books, config

WORDS = "one two three four five six seven eight nine ten " * 8
TOKENS = 8 * 10
CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
EVENT = (
    b"data: %b\n\n"
    % json.dumps({**CHUNK, "choices": [{"index": 0, "delta": {"content": WORDS}, "finish_reason": None}]}).encode()
)
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
SLOW_EVENTS = 600
BUFFER = 16 * 1024


def endless(exchange: Exchange) -> None:
    exchange.start(200, {"Content-Type": "text/event-stream"})
    while True:
        exchange.write(EVENT)


def long(exchange: Exchange) -> None:
    exchange.start(200, {"Content-Type": "text/event-stream"})
    for _ in range(SLOW_EVENTS):
        exchange.write(EVENT)
    exchange.write(END)
    exchange.finish()


SCRIPTS = {"stuck": endless, "slow": long, "other": stream(tokens=3, steps=True)}


@contextmanager
def asking(server: Server, what: str) -> Iterator[socket.socket]:
    """A client with a small buffer that has asked and read nothing yet."""
    body = json.dumps({**STREAM, "messages": [{"role": "user", "content": what}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        if what == "slow":  # ordinary packets: one of the loopback's would not fit into that buffer
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", server.port))
        client.sendall(head.encode() + body)
        yield client


def read_slowly(client: socket.socket, read: list[bytes]) -> None:
    """As fast as a slow line would be; the pauses are what is tested, nobody waits for them."""
    pause = threading.Event()
    while data := client.recv(BUFFER):
        read.append(data)
        pause.wait(0.15)


def what_arrives_after(client: socket.socket) -> bytes | None:
    """All that is left in the client's buffer; None if the connection was reset."""
    try:
        return b"".join(iter(lambda: client.recv(65536), b""))
    except ConnectionResetError:
        return None


@pytest.mark.parametrize("server", [*SERVERS, "workers"])
def test_a_client_that_never_reads_is_cut_off_and_nobody_else(
    server: str, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = choose(lambda exchange: SCRIPTS[exchange.body["messages"][-1]["content"]])
    settings = config(upstream.url, tmp_path, streams={"client_timeout": "1500ms"}, server={"threads": 3})
    slowly_read: list[bytes] = []
    with serve(settings, server, threads=3) as proxy, RawClient(proxy.url) as other:
        other.send("POST", "/v1/chat/completions", saying("other"), key=KEY)
        running = upstream.wait_for_request()
        running.allow(2)
        other.read_head()
        assert other.read_event()
        with asking(proxy, "slow") as slow, asking(proxy, "stuck") as stuck:
            reader = threading.Thread(target=read_slowly, args=(slow, slowly_read))
            reader.start()
            upstream.wait_for_request(3)
            dropped = next(each for each in upstream.exchanges if "stuck" in each.raw_body.decode())
            dropped.wait_for_peer_close()
            books.wait_for(lambda rows: any(row["outcome"] == "client_gone" for row in rows))
            # Every thread is held but that of the client that was cut off.
            with RawClient(proxy.url) as next_one:
                assert next_one.get("/-/health").status == 200
            assert what_arrives_after(stuck) is None
            reader.join(PATIENCE)
        running.allow(10)
        assert [event.data for event in other.events()][-1] == b"[DONE]"
        assert "Traceback" not in proxy.log

    assert b"".join(slowly_read).count(b"one two three") == SLOW_EVENTS * 8
    assert b"data: [DONE]" in b"".join(slowly_read)
    outcomes = {row["outcome"]: row for row in books.charges()}
    assert sorted(row["outcome"] for row in books.charges()) == ["client_gone", "completed", "completed"]
    assert outcomes["client_gone"]["state"] == "settled"
    # What the kernel and the server hold for a client that does not read is bounded, and so is what it costs.
    assert 0 < outcomes["client_gone"]["output_tokens"] < 512 * 1024 / len(EVENT) * TOKENS


def saying(what: str) -> dict[str, object]:
    return {**STREAM, "messages": [{"role": "user", "content": what}]}
