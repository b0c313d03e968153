"""The usage in a JSON answer too long to be kept, read from its two ends as it passes: embeddings. No I/O.

OpenAI's and everybody's embeddings state it last; what stands in the middle is vectors.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sseproxy.core.usage import Usage, read_usage

END: Final = 16 * 1024
"""Bytes that are looked at, at each end."""
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


class Ends:
    """Fed all of an answer; keeps its beginning and its end."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if len(self._head) < END:
            self._head += piece[: END - len(self._head)]
        self._tail = (self._tail + piece[-END:])[-END:]

    def usage(self) -> Usage | None:
        """What the answer reports; None where neither end says it."""
        for end in (self._tail, self._head):
            for found in reversed(_USAGE.findall(end)):
                try:
                    return read_usage({"usage": msgspec.json.decode(found)})
                except msgspec.DecodeError:
                    continue
        return None
