"""What every API of the demo has in common on the wire: an event, a JSON body, what stamps its parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sseproxy.core.failure import Failure
from sseproxy.demo.answer import Answer
from sseproxy.demo.question import Question

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """One answer on its way out: the question, what is said, and the stamp all its parts carry."""

    question: Question
    answer: Answer
    stamp: str
    created: int

    @property
    def tells_usage(self) -> bool:
        return self.question.script.fault != "no_usage"

    @property
    def tells_end(self) -> bool:
        return self.question.script.fault != "no_done"


class Format(Protocol):
    """One API's JSON for a reply. Each method gives whole events; ``tokens`` exactly one for each output token."""

    def opening(self) -> Iterator[bytes]: ...
    def tokens(self) -> Iterator[bytes]: ...
    def closing(self) -> Iterator[bytes]: ...
    def failure(self, failure: Failure) -> bytes: ...
    def whole(self) -> dict[str, Any]: ...


def dump(value: object) -> bytes:
    """Compact JSON as upstreams send it: raw UTF-8, half a surrogate pair replaced."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def event(value: object, type: str = "") -> bytes:
    """One event of a stream."""
    named = b"event: %s\n" % type.encode() if type else b""
    return b"%sdata: %s\n\n" % (named, dump(value))
