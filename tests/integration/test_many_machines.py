"""Two gunicorns behind one nginx share PostgreSQL and Redis; one is killed under 300 streams, the books stay exact."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sseproxy.ledger.ledger import open_ledger
from sseproxy.tokenizer import Tokenizer
from tests.harness import PATIENCE, Exchange, RedisServer, Server, Upstream, free_port, run_nginx
from tests.harness.scripts import SSE
from tests.ledger.conftest import new_database, postgresql  # noqa: F401

from .books import CHAT, KEY, PRICE
from .processes import PATH, running

STREAMS = 300
EVENTS, BEFORE = 20, 8
"""Events of an answer, and how many of them have come when the machine dies."""
INPUT = 3
SURVIVOR, VICTIM = "workers", "gevent"
TOKENIZER = Tokenizer()

NGINX = """
    upstream machines {{
        random;
        server 127.0.0.1:{ports[0]} max_fails=1 fail_timeout=60s;
        server 127.0.0.1:{ports[1]} max_fails=1 fail_timeout=60s;
    }}
    server {{
        listen 127.0.0.1:{own} backlog=1024;
        location / {{
            proxy_pass http://machines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 1h;
            proxy_next_upstream error timeout;
        }}
    }}"""


@dataclass
class Reader:
    """One answer, over as many connections as it takes; every second one can be read again after a cut.

    ``ending``: ``whole``, ``cut`` (and it cannot be read on) or ``lost`` (nobody has it any more).
    """

    number: int
    port: int
    drops: bool = False
    text: str = ""
    events: int = 0
    last: str = ""
    ending: str = ""
    connections: int = 0

    @property
    def rejoins(self) -> bool:
        return self.number % 2 == 0

    async def read(self) -> None:
        """Until it is over in one way or another."""
        while not self.ending:
            await self._connect()
            if not self.ending and not self.rejoins:
                self.ending = "cut"

    async def _connect(self) -> None:
        self.connections += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self._request())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.startswith(("HTTP/1.1 404 ", "HTTP/1.1 410 ")):  # known when it asked, or while it waited
                self.ending = "lost"
                return
            if head.startswith("HTTP/1.1 502 "):  # nginx had given it to the machine that died
                return
            assert head.startswith("HTTP/1.1 200 "), head
            async for event in _events(reader):
                self._take(event)
                if self.ending or (self.drops and self.events == BEFORE // 2):
                    self.drops = False
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.transport.abort()

    def _request(self) -> bytes:
        body = json.dumps({**CHAT, "stream": True, "user": f"reader-{self.number}"})
        lines = [
            f"POST {PATH} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {KEY}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(["Accept: text/event-stream", f"Idempotency-Key: reader-{self.number}"] if self.rejoins else []),
            *([f"Last-Event-ID: {self.last}"] if self.last else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _take(self, event: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
        self.last = fields.get("id", "")
        self.events += 1
        if fields["data"] == "[DONE]":
            self.ending = "whole"
            return
        for choice in json.loads(fields["data"])["choices"]:
            self.text += choice["delta"].get("content") or ""


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The events of one answer, without keep-alives.

    :raises IncompleteReadError: it was cut off.
    """
    body = b""
    while size := int(await reader.readuntil(b"\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
        *blocks, body = body.replace(b": ping\n", b"").split(b"\n\n")
        for block in blocks:
            yield block


class Teller:
    """The upstream's script: the first events, then a wait for the test, then the others."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        number = int(exchange.body["user"].removeprefix("reader-"))
        exchange.start(200, SSE)
        for place, text in enumerate(texts(number)):
            if place == BEFORE:
                assert self.go_on.wait(4 * PATIENCE)
            exchange.write(chunk({"choices": [{"index": 0, "delta": {"content": text}}]}))
        exchange.write(chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        exchange.write(chunk({"choices": [], "usage": {"prompt_tokens": INPUT, "completion_tokens": EVENTS}}))
        exchange.write(b"data: [DONE]\n\n")
        exchange.finish()


def texts(number: int) -> list[str]:
    """No two readers have a piece in common."""
    return [f"{number}.{place} " for place in range(EVENTS)]


def chunk(fields: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **fields}).encode()


@contextmanager
def two_machines(upstream: Upstream, ledger: str, redis: RedisServer, directory: Path) -> Iterator[list[Server]]:
    """One with threads and one with greenlets, each of two workers; the first one is ready before the second begins."""
    settings = {
        "server": {"threads": STREAMS + 50, "shutdown_grace": "1s"},
        "models": {"m*": {"price": PRICE}},
        "users": {"alice": {"keys": [KEY], "limits": {"streams": 2 * STREAMS}}},
        "limits": {"store": redis.url},
        "streams": {"store": redis.url},
    }
    with ExitStack() as stack:
        machines = []
        for name in (SURVIVOR, VICTIM):
            own = directory / name
            own.mkdir()
            books = {"ledger": ledger, "journal": str(own / "usage.journal")}
            # Silent while the test takes its steps, on a slow machine for long.
            main = {"url": upstream.url, "api_key": name, "timeout": {"idle": "5m"}}
            own_settings = {**settings, "upstreams": {"main": main}, "accounting": books}
            machines.append(stack.enter_context(running(own_settings, own, name, workers=2)))
        yield machines


class Books:
    """The ledger in PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.ledger = open_ledger(url)

    def __enter__(self) -> Books:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def wait_for_checkpoints(self) -> None:
        """Until what every running answer has come to is written down."""
        until = time.monotonic() + 2 * PATIENCE
        expected = {number: count("".join(texts(number)[:BEFORE])) for number in range(STREAMS)}
        while True:
            rows = list(self.ledger.charges(state="pending"))
            noted = Counter(row["output_tokens"] for row in rows)
            if noted == Counter(expected.values()):
                return
            assert time.monotonic() < until, noted
            time.sleep(0.2)


def count(text: str) -> int:
    return TOKENIZER.count(text, "m")


async def _read_all(readers: list[Reader], kill: Any) -> None:
    reading = asyncio.gather(*(reader.read() for reader in readers))
    await asyncio.to_thread(kill)
    await asyncio.wait_for(reading, 2 * PATIENCE)


@pytest.mark.timeout(6 * PATIENCE)
def test_300_streams_on_two_machines_of_which_one_is_killed(
    upstream: Upstream,
    redis: RedisServer,
    tmp_path: Path,
    new_database: Any,  # noqa: F811
) -> None:
    ledger, own = new_database(), free_port()
    upstream.script = teller = Teller()
    with two_machines(upstream, ledger, redis, tmp_path) as machines, Books(ledger) as books:
        ports = [machine.port for machine in machines]
        with run_nginx(NGINX.format(ports=ports, own=own), own):
            readers = [Reader(number, own, drops=number % 6 == 0) for number in range(STREAMS)]

            def kill() -> None:
                upstream.wait_for_request(STREAMS, PATIENCE)
                books.wait_for_checkpoints()
                machines[1].kill()
                teller.go_on.set()

            asyncio.run(_read_all(readers, kill))
        upstream.wait_until_idle()
        _check_readers(upstream, readers)
        _check_books(upstream, books)


def _survivors(upstream: Upstream) -> set[int]:
    """Whose generation ran on the machine that lives, by the key with which it asked: what an upstream has written was
    not always heard.
    """
    asked = [each for each in upstream.exchanges if each.headers["authorization"] == f"Bearer {SURVIVOR}"]
    return {int(exchange.body["user"].removeprefix("reader-")) for exchange in asked}


def _check_readers(upstream: Upstream, readers: list[Reader]) -> None:
    alive = _survivors(upstream)
    assert STREAMS // 4 < len(alive) < STREAMS * 3 // 4, "both machines had their share"
    for reader in readers:
        expected = "whole" if reader.number in alive else "lost" if reader.rejoins else "cut"
        assert reader.ending == expected, reader
        assert "".join(texts(reader.number)).startswith(reader.text), reader
    whole = [reader for reader in readers if reader.number in alive]
    assert all(reader.text == "".join(texts(reader.number)) for reader in whole)
    # The first drop was their own, and led them to the machine that did not generate their answer.
    assert any(reader.connections > 2 for reader in whole), "somebody read on by way of the other machine"


def _check_books(upstream: Upstream, books: Books) -> None:
    assert len(upstream.exchanges) == STREAMS, "nothing was generated twice"
    alive = _survivors(upstream)
    books.ledger.recover()
    rows = list(books.ledger.charges())
    assert Counter((row["state"], row["outcome"], row["usage_source"]) for row in rows) == {
        ("settled", "completed", "reported"): len(alive),
        ("expired", "expired", "counted"): STREAMS - len(alive),
    }
    counted = [count("".join(texts(number)[:BEFORE])) for number in range(STREAMS) if number not in alive]
    assert sum(row["output_tokens"] for row in rows) == len(alive) * EVENTS + sum(counted)
    assert sum(row["input_tokens"] for row in rows if row["state"] == "settled") == len(alive) * INPUT
    (total,) = books.ledger.usage("user")
    assert (total["requests"], total["pending"]) == (STREAMS, 0)
