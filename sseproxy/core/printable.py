"""Names that come from clients, as they are shown to people."""

from __future__ import annotations


def printable(value: object) -> str:
    """The value as text that steers no terminal and turns no line around: what does not print is U+FFFD."""
    text = "" if value is None else f"{value}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
