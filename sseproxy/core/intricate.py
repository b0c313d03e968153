"""JSON that takes many times its own size when it is decoded, and stops every other thread meanwhile. Pure."""

from __future__ import annotations

from typing import Final

MOST_PARTS: Final = 250_000
"""Objects, lists and names of one document: some 50 MB and a fifth of a second. A message has three of them."""
MOST_PARTS_OF_ANSWER: Final = 2_000_000
"""The same of what an upstream says at once. A token with 20 alternatives has a hundred; answers have 16,000 tokens."""
_MARKS: Final = b"{[:"
_UNMARKED: Final = bytes(set(range(256)).difference(_MARKS, b'"'))


def is_intricate(document: bytes, most: int = MOST_PARTS) -> bool:
    """Whether a document, JSON or not, has more than `most` objects, lists and names."""
    if len(document) <= most or sum(map(document.count, _MARKS)) <= most:
        return False
    marks = _marks_and_quotes(document)
    # Between any two of these quotes there are marks, each second time outside of texts.
    return marks.count(b'"') > 2 * (most + 1) or len(b"".join(marks.split(b'"')[::2])) > most


def _marks_and_quotes(document: bytes) -> bytes:
    marks = document.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _UNMARKED)
    # Two quotes without a mark between them, in a text or outside, change nothing for those that follow.
    return marks.replace(b'""', b"")
