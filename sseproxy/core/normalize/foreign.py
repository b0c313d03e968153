"""Foreign shapes: whole answers and Ollama's own, each rewritten as a chunk of a stream.

A later transform splits and orders what one chunk here carries at once. Nothing is translated that is an API of its
own (Anthropic, Gemini, Responses): that ends in an error, for want of choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.deltas import legacy_text
from sseproxy.core.sse import Event

__all__ = ["adopt_foreign", "adopt_whole", "put_in_place", "unwrap"]

# Where gateways put an answer inside one of their own.
_WRAPPERS: Final = ("result", "data", "response")
# What some put into the delta or message of a choice that is said of the choice itself.
_OF_CHOICE: Final = ("finish_reason", "usage")
_OLLAMA_OWN: Final = frozenset(("created_at", "message", "response", "done", "done_reason", "thinking"))


def adopt_foreign(events: Iterator[Event]) -> Iterator[Event]:
    """Give every chunk a list of choices with ``delta`` (or ``text``), if it has anything to put there.

    A bare ``done`` ends an answer that has begun; before, it does not tell where an application puts its text.
    """
    has_begun = False
    for event in events:
        if type(event) is Chunk:
            body = event.body
            choices = body.get("choices")
            if isinstance(choices, list):
                has_begun = True
                if not all(type(choice) is dict and _is_in_place(choice) for choice in choices):
                    whole = body.get("object") == "chat.completion"
                    event.body = {**body, "choices": [_with_delta(c, whole) for c in choices if isinstance(c, dict)]}
                    event.steady = False
            elif isinstance(choices, dict):
                has_begun = True
                event.body = {**body, "choices": [_with_delta(choices, False)]}
                event.steady = False
            elif choices is not None:
                event.body = {**body, "choices": []}
            elif isinstance(body.get("done"), bool) and (has_begun or _is_ollama(body)):
                has_begun = True
                event.body = _from_ollama(body)
                event.steady = False
        yield event


def adopt_whole(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a whole answer with ``choices[].message``: Ollama's are rewritten, others are returned as they are."""
    if isinstance(answer.get("done"), bool) and "choices" not in answer and _is_ollama(answer):
        adopted = _from_ollama(answer)
        choice = adopted["choices"][0]
        choice["message"] = choice.pop("delta")
        return adopted
    return answer


def put_in_place(choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice with its finish reason and usage where they belong: some say them in the delta, or message."""
    for name in ("delta", "message"):
        inner = choice.get(name)
        if isinstance(inner, dict) and not inner.keys().isdisjoint(_OF_CHOICE):
            said = {field: inner[field] for field in _OF_CHOICE if inner.get(field) is not None}
            known = {field: value for field, value in choice.items() if value is not None}
            rest = {field: value for field, value in inner.items() if field not in _OF_CHOICE}
            choice = {**choice, **said, **known, name: rest}
    return choice


def unwrap(body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer or chunk inside a gateway's own object (Cloudflare's ``result``), or `body` as it is."""
    if "choices" not in body:
        for name in _WRAPPERS:
            inner = body.get(name)
            if isinstance(inner, dict) and isinstance(inner.get("choices"), list) and not body.get("error"):
                return inner
    return body


def _is_in_place(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    misplaces = isinstance(delta, dict) and any(delta.get(name) is not None for name in _OF_CHOICE)
    return _has_delta(choice) and not misplaces


def _has_delta(choice: dict[str, Any]) -> bool:
    """Whether it has one, or the legacy API's text, which is none if it is empty beside a message."""
    if choice.get("delta") is not None:
        return True
    if isinstance(choice.get("message"), dict):
        return legacy_text(choice) != ""
    return "text" in choice


def _with_delta(choice: dict[str, Any], whole: bool) -> dict[str, Any]:
    """Return `choice` with its message as the delta; in a whole answer it is finished, said or not."""
    choice = put_in_place(choice)
    if _has_delta(choice):
        return choice
    message = choice.get("message")
    rest = {name: value for name, value in choice.items() if name not in ("delta", "message")}
    if whole and not rest.get("finish_reason") and isinstance(message, dict):
        rest["finish_reason"] = "stop"
    return {**rest, "delta": message if isinstance(message, dict) else {}}


def _is_ollama(body: dict[str, Any]) -> bool:
    """Whether an object with ``done`` has its text where Ollama's do: all of its lines have one of the two."""
    return isinstance(body.get("message"), dict) or isinstance(body.get("response"), str)


def _from_ollama(body: dict[str, Any]) -> dict[str, Any]:
    """Read a line of Ollama's /api/chat or /api/generate (ollama:api/types.go)."""
    message = body.get("message")
    delta = dict(message) if isinstance(message, dict) else {"content": body.get("response")}
    thinking = delta.pop("thinking", None) or body.get("thinking")
    if thinking:
        delta["reasoning_content"] = thinking
    finish = (body.get("done_reason") or "stop") if body["done"] else None
    adopted = {name: value for name, value in body.items() if name not in _OLLAMA_OWN}
    created = _seconds(body.get("created_at"))
    if created:
        adopted["created"] = created
    adopted["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return adopted


def _seconds(timestamp: Any) -> int | None:
    if not isinstance(timestamp, str):
        return None
    try:
        # Ollama writes nanoseconds, and Z; Python before 3.11 reads neither.
        return int(datetime.fromisoformat(re.sub(r"\.\d+", "", timestamp).replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
