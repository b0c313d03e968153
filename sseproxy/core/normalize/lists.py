"""Lists in deltas (``annotations``): entries are numbered on from chunk to chunk, and none is said twice.

openai-python's ``stream()`` takes no second list without numbers, and joins the strings of entries with the same one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

__all__ = ["Lists", "further"]

_PIECES: Final = frozenset(("content", "refusal", "reasoning_details", "thinking_blocks", "content_parts", "images"))
"""Lists of pieces, of which one may equal those before."""


def further(name: str, said: list[Any], entries: list[Any]) -> list[Any]:
    """Return what a list adds to what it `said` before: all of it, unless it says all that again.

    Numbers (``token_ids``) and pieces are never said again, however equal.
    """
    if name in _PIECES or entries[: len(said)] != said or all(isinstance(entry, int) for entry in entries):
        return entries
    return entries[len(said) :]


class Lists:
    """The lists of objects in the deltas of one choice."""

    def __init__(self) -> None:
        self._said: defaultdict[str, list[Any]] = defaultdict(list)
        self._counts: Counter[str] = Counter()

    def tidy(self, delta: dict[str, Any]) -> bool:
        """Leave what is new in the lists of a delta, with numbers; False if none lacks any."""
        names = [name for name, value in delta.items() if name != "tool_calls" and _lacks_numbers(value)]
        for name in names:
            new = self._new(name, delta.pop(name))
            if new:
                delta[name] = new
        return bool(names)

    def _new(self, name: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        entries = further(name, self._said[name], entries)
        if name not in _PIECES:  # images are large
            self._said[name] += entries
        begin = self._counts[name]
        self._counts[name] += len(entries)
        return [{**entry, "index": at} for at, entry in enumerate(entries, begin)]


def _lacks_numbers(value: Any) -> bool:
    return (
        type(value) is list and value != [] and all(isinstance(entry, dict) and "index" not in entry for entry in value)
    )
