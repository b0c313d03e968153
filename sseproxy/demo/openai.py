"""OpenAI's JSON: chat completions, completions, embeddings, models. https://platform.openai.com/docs/api-reference

Usage in a stream as OpenAI does it: with ``include_usage`` every chunk has ``usage: null`` and one last chunk without
choices has the figures; without it the word does not occur.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from sseproxy.core.failure import Failure
from sseproxy.demo.answer import Choice
from sseproxy.demo.essay import count_words
from sseproxy.demo.faults import bad_request
from sseproxy.demo.question import Body, read_model
from sseproxy.demo.wire import DONE, Reply, event

MODELS = ("demo", "demo-large")
"""Listed; every other name is served too."""


class Completion:
    """``/v1/completions``."""

    prefix = "cmpl"
    kind = ("text_completion", "text_completion")

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked = reply.question.include_usage and reply.tells_usage

    def opening(self) -> Iterator[bytes]:
        yield from ()

    def tokens(self) -> Iterator[bytes]:
        for index, _, piece in self.reply.answer.tokens():
            yield self._chunk([{"index": index, "text": piece, "logprobs": None, "finish_reason": None}])

    def closing(self) -> Iterator[bytes]:
        for index, choice in enumerate(self.reply.answer.choices):
            yield self._chunk([{"index": index, "text": "", "logprobs": None, "finish_reason": choice.finish}])
        yield from self._end()

    def failure(self, failure: Failure) -> bytes:
        return event(failure.as_json())

    def whole(self) -> dict[str, Any]:
        body = self._envelope(self.kind[0])
        body["choices"] = [self._choice(*numbered) for numbered in enumerate(self.reply.answer.choices)]
        if self.reply.tells_usage:
            body["usage"] = self._usage()
        return body

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        return {"index": index, "text": choice.text, "logprobs": None, "finish_reason": choice.finish}

    def _end(self) -> Iterator[bytes]:
        if self.asked:
            yield event({**self._envelope(self.kind[1]), "choices": [], "usage": self._usage()})
        if self.reply.tells_end:
            yield DONE

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        chunk = {**self._envelope(self.kind[1]), "choices": choices}
        return event({**chunk, "usage": None} if self.asked else chunk)

    def _envelope(self, kind: str) -> dict[str, Any]:
        reply = self.reply
        stamp = f"{self.prefix}-demo{reply.stamp}"
        return {"id": stamp, "object": kind, "created": reply.created, "model": reply.question.model}

    def _usage(self) -> dict[str, Any]:
        given, made = self.reply.question.input_tokens, self.reply.answer.output_tokens
        return {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


class Chat(Completion):
    """``/v1/chat/completions``."""

    prefix = "chatcmpl"
    kind = ("chat.completion", "chat.completion.chunk")

    def opening(self) -> Iterator[bytes]:
        content = None if self.reply.question.tool else ""
        for index in range(self.reply.question.choices):
            yield self._delta(index, {"role": "assistant", "content": content})

    def tokens(self) -> Iterator[bytes]:
        for index, position, piece in self.reply.answer.tokens():
            if self.reply.question.tool:
                yield self._delta(index, {"tool_calls": [self._call_delta(index, position, piece)]})
            else:
                yield self._delta(index, {"content": piece})

    def closing(self) -> Iterator[bytes]:
        for index, choice in enumerate(self.reply.answer.choices):
            yield self._delta(index, {}, choice.finish)
        yield from self._end()

    def _delta(self, index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}])

    def _call_delta(self, index: int, position: int, piece: str) -> dict[str, Any]:
        if position:
            return {"index": 0, "function": {"arguments": piece}}
        return {"index": 0, **self._call(index, piece, "")}

    def _call(self, index: int, name: str, arguments: str) -> dict[str, Any]:
        stamp = f"call_demo{self.reply.stamp}{index}"
        return {"id": stamp, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if self.reply.question.tool:
            message |= {"content": None, "tool_calls": [self._call(index, choice.pieces[0], choice.arguments)]}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish}


def embeddings(body: Body) -> dict[str, Any]:
    """``/v1/embeddings``: unit vectors out of a hash, so like texts are not near each other.

    :raises Failure: status 400.
    """
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise bad_request("input must be a string or a non-empty array of strings", "input")
    dimensions = body.get("dimensions", 64)
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= 4096:
        raise bad_request("dimensions must be an integer from 1 to 4096", "dimensions")
    packed = body.get("encoding_format") == "base64"
    words = sum(count_words(text) for text in texts)
    return {
        "object": "list",
        "model": read_model(body),
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text, dimensions, packed)}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }


def models() -> dict[str, Any]:
    """``/v1/models``."""
    return {"object": "list", "data": [model(name) for name in MODELS]}


def model(name: str) -> dict[str, Any]:
    """``/v1/models/NAME``."""
    return {"id": name, "object": "model", "created": 1767225600, "owned_by": "sseproxy"}


def _vector(text: str, dimensions: int, packed: bool) -> list[float] | str:
    seed = text.encode("utf-8", "replace")
    blocks = (sha256(b"%d:%b" % (block, seed)).digest() for block in range(dimensions // 32 + 1))
    raw = [byte - 127.5 for byte in b"".join(blocks)[:dimensions]]
    length = sum(value * value for value in raw) ** 0.5
    vector = [value / length for value in raw]
    return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if packed else vector
