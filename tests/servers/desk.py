"""Asks one thing twice: the server itself, and through the proxy; and finds what the proxy charged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.harness import RawClient
from tests.integration.books import KEY as CLIENT_KEY
from tests.integration.books import Books

from .running import KEY, RealServer

CHAT = "/v1/chat/completions"


@dataclass
class Answer:
    """An answer of the OpenAI API, streamed or whole, as far as tests compare it."""

    status: int
    body: Any
    """The JSON, or the list of all events' JSON."""
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """Name and parsed arguments."""
    finish: str | None = None
    usage: dict[str, int] | None = None
    done: bool = False

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output tokens, as stated."""
        assert self.usage is not None
        names = (
            ("prompt_tokens", "completion_tokens")
            if "prompt_tokens" in self.usage
            else ("input_tokens", "output_tokens")
        )
        return self.usage[names[0]], self.usage.get(names[1], 0)


class Desk:
    """A real server and the proxy in front of it.

    :ivar url: of the proxy.
    """

    def __init__(self, url: str, server: RealServer, books: Books) -> None:
        self.url = url
        self.server = server
        self.books = books

    def ask(self, body: Any, path: str = CHAT) -> Answer:
        """The proxy's answer."""
        with RawClient(self.url) as client:
            return _read(client.post(path, body, key=CLIENT_KEY))

    def ask_directly(self, body: Any, path: str = CHAT) -> Answer:
        """The server's own."""
        if isinstance(body, Mapping):
            body = {**body, "model": self.server.models.get(body["model"], body["model"])}
        with RawClient(self.server.url) as client:
            return _read(client.post(path, body, key=KEY))

    def charged(self, body: Any, path: str = CHAT) -> tuple[Answer, Mapping[str, Any]]:
        """The proxy's answer, and the one charge it led to, which has ended."""
        with self.new_charge() as charges:
            answer = self.ask(body, path)
        return answer, charges[0]

    @contextmanager
    def new_charge(self) -> Iterator[list[Mapping[str, Any]]]:
        """The list holds, after its block, the one charge that was begun in it."""
        before = {row["id"] for row in self.books.charges()}
        new: list[Mapping[str, Any]] = []
        yield new

        def one_ended(rows: list[dict[str, Any]]) -> bool:
            new[:] = [row for row in rows if row["id"] not in before]
            return len(new) == 1 and new[0]["state"] != "pending"

        self.books.wait_for(one_ended)


def tokens_of(charge: Mapping[str, Any]) -> tuple[int, int]:
    """Input and output tokens."""
    return charge["input_tokens"], charge["output_tokens"]


def _read(client: RawClient) -> Answer:
    if client.headers.get("content-type", "").startswith("text/event-stream"):
        return _read_stream(client)
    content = client.read_body()
    try:
        body = json.loads(content)
    except ValueError:
        return Answer(client.status, content.decode())
    answer = Answer(client.status, body)
    if isinstance(body, dict) and client.status == 200:
        answer.usage = body.get("usage")
        for choice in body.get("choices", []):
            _take(answer, choice, choice.get("message") or {})
    _parse_calls(answer)
    return answer


def _read_stream(client: RawClient) -> Answer:
    answer = Answer(client.status, [])
    for event in client.events():
        if event.data == b"[DONE]":
            answer.done = True
            continue
        assert not answer.done
        answer.body.append(event.json)
        answer.usage = event.json.get("usage") or answer.usage
        for choice in event.json.get("choices", []):
            _take(answer, choice, choice.get("delta") or {})
    assert client.ending == "clean"
    _parse_calls(answer)
    return answer


def _take(answer: Answer, choice: dict[str, Any], message: dict[str, Any]) -> None:
    answer.text += choice.get("text") or message.get("content") or ""
    answer.reasoning += message.get("reasoning_content") or ""
    answer.finish = choice.get("finish_reason") or answer.finish
    for call in message.get("tool_calls") or []:
        index, function = call.get("index", len(answer.calls)), call["function"]
        if index == len(answer.calls):
            answer.calls.append((function["name"], ""))
        name, arguments = answer.calls[index]
        answer.calls[index] = name, arguments + function["arguments"]


def _parse_calls(answer: Answer) -> None:
    answer.calls = [(name, json.loads(arguments)) for name, arguments in answer.calls]
