"""What one running stream takes: a server thread, and memory that does not grow with the answer."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.harness import RawClient, Server, Upstream, raw, serve, stream

from .books import KEY, STREAM, config

STREAMS = 8


def threads_of(server: Server) -> int:
    """Threads of the server's processes."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in [server.pid, *server.workers()])


def memory_of(server: Server) -> int:
    """Resident bytes of the server's process, at its highest."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def start_what_all_have_in_common(proxy: Server, upstream: Upstream) -> None:
    """Read a stream that comes one event at a time: what moves streams beside their own threads has begun then."""
    upstream.script = stream(tokens=STREAMS, steps=True)
    with RawClient(proxy.url) as client:
        client.send("POST", "/v1/chat/completions", STREAM, key=KEY)
        exchange = upstream.wait_for_request()
        exchange.allow(2)
        client.read_head()
        while client.read_event():
            exchange.allow()


@pytest.mark.parametrize("server", ["waitress", "gthread"])
def test_one_stream_holds_at_most_one_server_thread(server: str, upstream: Upstream, tmp_path: Path) -> None:
    settings = config(upstream.url, tmp_path, server={"threads": STREAMS})
    with serve(settings, server, threads=STREAMS) as proxy, contextlib.ExitStack() as stack:

        def begin(number: int) -> int:
            """So many more streams; how many threads there are then."""
            for _ in range(number):
                client = stack.enter_context(RawClient(proxy.url))
                client.post("/v1/chat/completions", STREAM, key=KEY).read_event()
            return threads_of(proxy)

        start_what_all_have_in_common(proxy, upstream)
        upstream.script = stream(tokens=4, fault="hang", after=2)
        before = begin(STREAMS // 2)

        # waitress has its threads from the start, gthread makes them as they are needed.
        assert begin(STREAMS // 2) <= before + (STREAMS // 2 if server == "gthread" else 0)


def test_memory_does_not_grow_with_the_answer(upstream: Upstream, tmp_path: Path) -> None:
    chunk = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"word " * 200)
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    def read(pieces: int) -> None:
        upstream.script = raw([chunk * 16] * pieces + [end])
        with RawClient(proxy.url) as client:
            client.post("/v1/chat/completions", STREAM, key=KEY)
            while event := client.read_event():
                last = event
            assert last.data == b"[DONE]"

    with serve(config(upstream.url, tmp_path)) as proxy:
        read(64)
        before = memory_of(proxy)
        read(1024)  # 17 MiB

        assert memory_of(proxy) - before < 6 * 2**20
