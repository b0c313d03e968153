"""JSON that takes many times its own size when it is decoded, and stops every other thread meanwhile. Pure."""

from __future__ import annotations

from typing import Final

MOST_PARTS: Final = 250_000
"""Objects, lists and names of one document: some 50 MB and a fifth of a second. A message has three of them."""
_MARKS: Final = b"{[:"
_UNMARKED: Final = bytes(set(range(256)).difference(_MARKS, b'"'))


def is_intricate(document: bytes) -> bool:
    """Whether a document, JSON or not, has more than :data:`MOST_PARTS`."""
    if len(document) <= MOST_PARTS or sum(map(document.count, _MARKS)) <= MOST_PARTS:
        return False
    return len(_marks_outside_texts(document)) > MOST_PARTS


def _marks_outside_texts(document: bytes) -> bytes:
    marks = document.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _UNMARKED)
    # Two quotes without a mark between them, in a text or outside, change nothing for those that follow.
    return b"".join(marks.replace(b'""', b"").split(b'"')[::2])
