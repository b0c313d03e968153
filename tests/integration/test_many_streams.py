"""500 answers at once that can be re-joined, a fifth of the readers dropping out repeatedly: each word comes once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import PATIENCE, Exchange, Upstream, serve
from tests.harness.scripts import SSE

from .books import CHAT, KEY, Books, config

STREAMS = 500
DROPPING = STREAMS // 5
DROPS = 3
EVENTS = 25
SEED = 5


@dataclass
class Reader:
    """One answer, over as many connections as it takes; ``last``: the ID of the last event that it has."""

    number: int
    port: int
    drops_at: list[int]
    text: str = ""
    events: int = 0
    connections: int = 0
    last: str = ""
    done: bool = False

    async def read(self) -> None:
        """Until the end mark."""
        while not self.done:
            await self._connect()

    async def _connect(self) -> None:
        self.connections += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self._request())
            async for event in _events(reader):
                self._take(event)
                if self.done or (self.drops_at and self.events >= self.drops_at[0]):
                    break
        finally:
            if not self.done and self.drops_at:
                self.drops_at.pop(0)
            writer.transport.abort()

    def _request(self) -> bytes:
        body = json.dumps({**CHAT, "stream": True, "user": f"reader-{self.number}"})
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {KEY}",
            "Accept: text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"Idempotency-Key: reader-{self.number}",
            *([f"Last-Event-ID: {self.last}"] if self.last else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _take(self, event: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
        self.last = fields["id"]
        self.events += 1
        if fields["data"] == "[DONE]":
            self.done = True
            return
        for choice in json.loads(fields["data"])["choices"]:
            self.text += choice["delta"].get("content") or ""


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The events of one answer, without keep-alives."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
        *blocks, body = body.removeprefix(b": ping\n").split(b"\n\n")
        for block in blocks:
            yield block


def texts(number: int) -> list[str]:
    """No two readers have a piece in common."""
    return [f"{number}.{place} " for place in range(EVENTS)]


def tell(exchange: Exchange) -> None:
    """What the reader is to get. It sleeps, instead of waking 200 times a second to see whether the peer left."""
    number = int(exchange.body["user"].removeprefix("reader-"))
    exchange.start(200, SSE)
    for text in texts(number):
        time.sleep(0.1)
        exchange.write(_chunk({"choices": [{"index": 0, "delta": {"content": text}}]}))
    exchange.write(_chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    exchange.write(_chunk({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": EVENTS}}))
    exchange.write(b"data: [DONE]\n\n")
    exchange.finish()


def _chunk(fields: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **fields}).encode()


async def _read_all(readers: list[Reader]) -> None:
    await asyncio.wait_for(asyncio.gather(*(reader.read() for reader in readers)), PATIENCE)


def test_500_streams_of_which_a_fifth_drop_are_read_to_the_letter(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = tell
    chance = random.Random(SEED)
    settings = config(upstream.url, tmp_path, server={"threads": STREAMS + 100})
    with serve(settings) as server:
        readers = [Reader(number, server.port, []) for number in range(STREAMS)]
        for reader in chance.sample(readers, DROPPING):
            reader.drops_at = sorted(chance.sample(range(1, EVENTS), DROPS))
        asyncio.run(_read_all(readers))

        assert [reader.text for reader in readers] == ["".join(texts(reader.number)) for reader in readers]
        assert sum(reader.connections for reader in readers) == STREAMS + DROPPING * DROPS
        _check_books(upstream, Books(tmp_path))


def _check_books(upstream: Upstream, books: Books) -> None:
    asked = Counter(exchange.body["user"] for exchange in upstream.exchanges)
    assert (len(asked), set(asked.values())) == (STREAMS, {1})
    charges = books.wait_for(lambda rows: all(row["state"] == "settled" for row in rows))
    told = {(row["outcome"], row["usage_source"], row["output_tokens"]) for row in charges}
    assert (len(charges), told) == (STREAMS, {("completed", "reported", EVENTS)})
