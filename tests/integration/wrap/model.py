"""What every wrapped application here answers: the model, without any framework.

It says the words of the system message, which shows that the prefix has reached the view.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.books import config

PATH = "/v1/chat/completions"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
RULES = "House rules apply"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def wrapping(directory: Path, **sections: Any) -> dict[str, Any]:
    """A configuration with the prefix :data:`RULES`, one user and a ledger in ``directory``."""
    settings = config("http://unused.invalid/v1", directory, **{"prompt": {"prefix": RULES}, **sections})
    del settings["upstreams"]
    return settings


def asking(content: str, *, stream: bool = True) -> dict[str, Any]:
    """A request; ``fail``, ``break`` and ``endless`` as content do what they say."""
    return {"model": "m", "messages": [{"role": "user", "content": content}], "stream": stream}


def complete(body: dict[str, Any]) -> dict[str, Any]:
    """The answer in one document."""
    message = {"role": "assistant", "content": _system(body)}
    return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}


def chunks(body: dict[str, Any]) -> Iterator[bytes]:
    """The answer word by word, without id, role, model or ``[DONE]``."""
    content = body["messages"][-1]["content"]
    for word in _system(body).split():
        yield _chunk(f" {word}")
        if content == "break":
            raise ValueError("the model broke")
    while content == "endless":
        time.sleep(0.005)
        yield _chunk(" more")
    yield STOP


def _system(body: dict[str, Any]) -> str:
    first = body["messages"][0]
    return str(first["content"]) if first["role"] == "system" else "no rules"


def _chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def texts(answer: bytes) -> list[str]:
    """The pieces of text in an answered stream."""
    bodies = [json.loads(line[6:]) for line in answer.split(b"\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"].get("content") for body in bodies for choice in body.get("choices", ())]
    return [text for text in deltas if text]
