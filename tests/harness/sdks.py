"""The SDKs people use, each reading one answer into the same few fields. The JavaScript ones stand in tests/clients."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import openai

from .parts import CLIENTS, require_node_clients
from .waiting import PATIENCE

NODE_CLIENTS = ("openai-node", "openai-node-stream", "ai-sdk")
PYTHON_CLIENTS = ("create", "stream", "async")
"""openai-python: ``create(stream=...)``, the ``.stream()`` helper, the async client."""
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Knows nobody: loading the certificates of the world would be most of what a client of one answer costs."""


@dataclass
class Reading:
    """What a client made of choice 0 of an answer. ``error``: None, or ``{"name", "message", "status"}``.

    ``texts``, ``finish_reasons``: of every choice by its index, where the client shows more than one.
    """

    text: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    finish_reasons: dict[str, str] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def read_with_python(client: str, base_url: str, body: Mapping[str, Any], key: str = "none") -> Reading:
    """Read with openai-python; `client` is one of PYTHON_CLIENTS. An exception of the SDK becomes ``error``."""
    reading = Reading()
    try:
        if client == "async":
            asyncio.run(_read_async(reading, base_url, key, body))
        else:
            _READERS[client](reading, base_url, key, body)
    except openai.OpenAIError as error:
        status = getattr(error, "status_code", None)
        reading.error = {"name": type(error).__name__, "message": str(error), "status": status}
    except (ValueError, AttributeError, TypeError) as error:  # what the SDK raises for what it cannot parse
        reading.error = {"name": type(error).__name__, "message": str(error), "status": None}
    return reading


def read_with_node(cases: Iterable[tuple[str, str, Mapping[str, Any]]], key: str = "none") -> list[Reading]:
    """Read many answers with one start of Node.js, eight at a time; skips (in CI: fails) the test without Node.js.

    :param cases: (one of NODE_CLIENTS, base URL, body of the request).
    """
    node = require_node_clients()
    lines = [
        json.dumps({"client": client, "base_url": url, "key": key, "body": body}) + "\n" for client, url, body in cases
    ]
    ran = subprocess.run(
        [node, str(CLIENTS / "read.mjs")], input="".join(lines).encode(), capture_output=True, timeout=100, cwd=CLIENTS
    )
    assert ran.returncode == 0, ran.stderr.decode("utf-8", "replace")
    # Not splitlines(): JSON.stringify leaves U+2028 as it is.
    return [Reading(**json.loads(line)) for line in ran.stdout.decode().split("\n") if line]


def connect(base_url: str, key: str) -> openai.OpenAI:
    """A client for one answer."""
    http_client = openai.DefaultHttpxClient(verify=TLS)
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=PATIENCE, http_client=http_client)


def _read_create(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    with connect(base_url, key) as client:
        answer = client.chat.completions.create(**_split(body))
        if not body.get("stream"):
            _take_answer(reading, answer)
            return
        with answer:
            for chunk in answer:
                _take_chunk(reading, chunk)


def _read_helper(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    arguments = {name: value for name, value in _split(body).items() if name != "stream"}
    with connect(base_url, key) as client, client.chat.completions.stream(**arguments) as stream:
        try:
            answer: Any = stream.get_final_completion()
        except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
            answer = stream.current_completion_snapshot  # whole; it only cannot be parsed into a model
        _take_answer(reading, answer)


async def _read_async(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    options: dict[str, Any] = {"base_url": base_url, "api_key": key, "max_retries": 0, "timeout": 30}
    async with openai.AsyncOpenAI(**options, http_client=openai.DefaultAsyncHttpxClient(verify=TLS)) as client:
        answer = await client.chat.completions.create(**_split(body))
        if not body.get("stream"):
            _take_answer(reading, answer)
            return
        async with answer:
            async for chunk in answer:
                _take_chunk(reading, chunk)


_READERS = {"create": _read_create, "stream": _read_helper}
_ARGUMENTS = frozenset(openai.resources.chat.completions.Completions.create.__annotations__)


def _split(body: Mapping[str, Any]) -> dict[str, Any]:
    """The SDK's arguments; fields it does not know (``demo``) go into ``extra_body``."""
    known = {name: value for name, value in body.items() if name in _ARGUMENTS}
    return {**known, "extra_body": {name: value for name, value in body.items() if name not in _ARGUMENTS} or None}


def _take_answer(reading: Reading, answer: Any) -> None:
    choice = answer.choices[0]
    reading.text = choice.message.content or ""
    reading.reasoning = getattr(choice.message, "reasoning_content", None) or ""
    reading.refusal = choice.message.refusal or ""
    reading.tool_calls = [_call(call) for call in choice.message.tool_calls or []]
    reading.finish_reason = choice.finish_reason
    for choice in answer.choices:
        reading.texts[str(choice.index)] = choice.message.content or ""
        reading.finish_reasons[str(choice.index)] = choice.finish_reason
    reading.usage = answer.usage.model_dump() if answer.usage else None


def _call(call: Any) -> dict[str, Any]:
    if call.type == "custom":
        return {"id": call.id, "name": call.custom.name, "arguments": call.custom.input}
    return {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}


def _take_chunk(reading: Reading, chunk: Any) -> None:
    if chunk.usage:
        reading.usage = chunk.usage.model_dump()
    for choice in chunk.choices:
        index = str(choice.index)
        reading.texts[index] = reading.texts.get(index, "") + (choice.delta.content or "")
        if choice.finish_reason:
            reading.finish_reasons[index] = choice.finish_reason
        if choice.index == 0:
            _take_delta(reading, choice.delta)
            reading.finish_reason = choice.finish_reason or reading.finish_reason


def _take_delta(reading: Reading, delta: Any) -> None:
    reading.text += delta.content or ""
    reading.reasoning += getattr(delta, "reasoning_content", None) or ""
    reading.refusal += delta.refusal or ""
    for piece in delta.tool_calls or []:
        while len(reading.tool_calls) <= piece.index:
            reading.tool_calls.append({"id": None, "name": "", "arguments": ""})
        call = reading.tool_calls[piece.index]
        call["id"] = call["id"] or piece.id
        if piece.function:
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
        if custom := getattr(piece, "custom", None):  # not among the SDK's types of a chunk
            call["name"] += custom.get("name") or ""
            call["arguments"] += custom.get("input") or ""
