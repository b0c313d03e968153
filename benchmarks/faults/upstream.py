"""An OpenAI-compatible upstream that keeps the truth, in one process: ``python benchmarks/faults/upstream.py PORT``.

Its answers are prose cut into the real tokens of OpenAI's vocabulary, so that a token here is a token there. What each
request is to come to stands in its ``metadata``; ``GET /truth`` tells, by model, what was asked for, made and said.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from functools import cache
from typing import Any

from splintr import Tokenizer

PROSE = (
    " Whoever keeps books for other people learns to distrust a quiet ledger. The interesting entries are the ones "
    "that nobody finished: a customer who left the shop with the scales still swinging, a carter whose horse died on "
    "the bridge, a clerk who fell asleep at 23:59 with the pen in his hand. In 1494, Luca Pacioli wrote down how "
    "Venetian merchants did it: every amount twice, on two sides, so that a missing one shows. A stream of tokens is "
    "not so different. It can be cut off between two syllables; it can end with a receipt or without one; and somebody "
    "has paid for the part that was spoken. def settle(charge): return min(charge.reserved, charge.cost) # not quite! "
    "Das Gegenteil von gut ist gut gemeint, said Tucholsky, or Benn, or neither. C'est la vie: 3.14159, 2.71828, 42."
)


@cache
def vocabulary() -> Any:
    """That of OpenAI's newer models."""
    return Tokenizer.from_pretrained("o200k_base")


def count(text: str) -> int:
    """Tokens of a text."""
    return len(vocabulary().encode_ordinary(text))


@cache
def prose() -> list[tuple[str, int]]:
    """It as a model would say it: pieces that are whole characters, and how many tokens each is."""
    pieces, held = [], []
    for token in vocabulary().encode_ordinary(PROSE):
        held.append(token)
        try:
            piece = vocabulary().decode(held)
        except ValueError:
            continue
        if "\ufffd" not in piece:
            pieces.append((piece, len(held)))
            held = []
    return pieces


class PeerGone(Exception):
    """The proxy hung up."""


class Exchange:
    """One request and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        self.body = body
        self.truth = {"seen": 1, "input": self._input(), "output": 0, "reported": False, "refused": False}
        self.watch = asyncio.ensure_future(reader.read(1))
        self._writer = writer
        self._plan = body.get("metadata", {})

    def _input(self) -> int:
        """As OpenAI counts: https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken."""
        return 3 + sum(3 + count(message["role"]) + count(message["content"]) for message in self.body["messages"])

    async def answer(self) -> None:
        """Do as the plan says. :raises PeerGone:"""
        how = self._plan["upstream"]
        if how == "mute":
            await self._pause(3600)
        if isinstance(how, int):
            self.truth["refused"] = True
            return self._whole({"error": {"message": "not today", "type": "refused", "code": None}}, how)
        if not self.body.get("stream"):
            return await self._completion(how)
        self._head("text/event-stream", None)
        await self._talk()
        if how == "hang":
            await self._pause(3600)
        elif how == "cut":
            self._writer.close()
        elif how == "reset":
            self._reset()
        elif how == "error":
            self._event({"error": {"message": "the model broke", "type": "server_error", "code": None}})
            self._send(b"0\r\n\r\n")
        else:
            await self._end(how)

    async def _talk(self) -> None:
        pieces = prose()
        start = self._plan["seed"] % len(pieces)
        for number in range(self._plan["tokens"]):
            await self._pause(self._plan["interval"])
            text, tokens = pieces[(start + number) % len(pieces)]
            # Made is made: it counts when it is written, whether or not it arrives.
            self.truth["output"] += tokens
            self._chunk({"content": text}, None)

    async def _end(self, how: str) -> None:
        self._chunk({}, "stop")
        if how == "late":
            # Before the proxy can notice that its client left, and after.
            await self._pause(0.15 if self._plan["seed"] % 2 else 1.3)
        if how != "silent" and self.body.get("stream_options", {}).get("include_usage"):
            self.truth["reported"] = True
            self._event({**self._envelope("chat.completion.chunk"), "choices": [], "usage": self._usage()})
        self._send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async def _completion(self, how: str) -> None:
        await self._pause(self._plan["tokens"] * self._plan["interval"] / 4)
        pieces = prose()
        start = self._plan["seed"] % len(pieces)
        said = [pieces[(start + number) % len(pieces)] for number in range(self._plan["tokens"])]
        self.truth["output"] = sum(tokens for _, tokens in said)
        message = {"role": "assistant", "content": "".join(text for text, _ in said)}
        answer = self._envelope("chat.completion")
        answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        if how != "silent":
            self.truth["reported"] = True
            answer["usage"] = self._usage()
        self._whole(answer, 200)

    def _usage(self) -> dict[str, int]:
        made, given = self.truth["output"], self.truth["input"]
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": f"c-{self.body['model']}", "object": kind, "created": 1, "model": self.body["model"]}

    def _chunk(self, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self._event({**self._envelope("chat.completion.chunk"), "choices": [choice]})

    def _event(self, value: object) -> None:
        data = b"data: %s\n\n" % json.dumps(value).encode()
        self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def _whole(self, value: object, status: int) -> None:
        body = json.dumps(value).encode()
        self._head("application/json", len(body), status)
        self._send(body)

    def _head(self, kind: str, length: int | None, status: int = 200) -> None:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        self._send(f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode())

    def _send(self, data: bytes) -> None:
        if self.watch.done() or self._writer.is_closing():
            raise PeerGone
        self._writer.write(data)

    async def _pause(self, seconds: float) -> None:
        done, _ = await asyncio.wait([self.watch], timeout=seconds)
        if done:
            raise PeerGone

    def _reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Truth:
    """All that was asked for."""

    def __init__(self) -> None:
        self.by_model: dict[str, dict[str, Any]] = {}
        self.running: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request after another."""
        first = b""
        try:
            while not writer.is_closing() and (head := first + await reader.readuntil(b"\r\n\r\n")):
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                if head.startswith(b"GET"):
                    self._tell(writer)
                    first = b""
                else:
                    first = await self._answer(reader, writer, json.loads(body))
                    if not first:
                        return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict[str, Any]) -> bytes:
        exchange = Exchange(reader, writer, body)
        if earlier := self.by_model.get(body["model"]):
            exchange.truth["seen"] = earlier["seen"] + 1
        self.by_model[body["model"]] = exchange.truth
        self.running.add(body["model"])
        try:
            await exchange.answer()
            self.running.discard(body["model"])
            # What came meanwhile is the first byte of the next request, or the end of the connection.
            return await exchange.watch
        except PeerGone:
            return b""
        finally:
            self.running.discard(body["model"])
            if not exchange.watch.cancel():
                exchange.watch.exception()

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"running": sorted(self.running), "truth": self.by_model}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def _main(port: int) -> None:
    server = await asyncio.start_server(Truth().serve, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
