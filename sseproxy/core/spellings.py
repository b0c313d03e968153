"""What a text means, however JSON, HTML and addresses spell it, one within another, and wherever its lines are broken.

To look for something in, not to show: it is read as far as it goes, whether or not it was spelt by anybody. Pure.
"""

from __future__ import annotations

import html
import json
import re
from typing import Final
from urllib.parse import unquote

DEEPEST: Final = 4
"""So many within another are read: an upstream's JSON, quoted in a gateway's JSON, on a page of HTML."""

_SPELT: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[\"'/\\]|[rn]\s*)"
    r"|%(?:[0-7][0-9a-fA-F]|[c-fC-F][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){1,3})"
    r"|&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31});"
    r"|[\r\n]\s*"
)


def meaning(text: str) -> str:
    """The text as it is meant, without line breaks and what indents the next line."""
    for _ in range(DEEPEST):
        meant = _SPELT.sub(_meant, text)
        if meant == text:
            break
        text = meant
    return text


def origins(text: str) -> tuple[list[int], list[int]]:
    """For each letter of its meaning, where in the text its spelling begins and where it ends."""
    begins, ends = [*range(len(text))], [*range(1, len(text) + 1)]
    for _ in range(DEEPEST):
        begin: list[int] = []
        end: list[int] = []
        read: list[str] = []
        at = 0
        for spelt in _SPELT.finditer(text):
            first, behind = spelt.span()
            meant = _meant(spelt)
            read += text[at:first], meant
            begin += begins[at:first] + begins[first : first + 1] * len(meant)
            end += ends[at:first] + ends[behind - 1 : behind] * len(meant)
            at = behind
        text, begins, ends = "".join([*read, text[at:]]), begin + begins[at:], end + ends[at:]
    return begins, ends


def _meant(spelt: re.Match[str]) -> str:
    written = spelt[0]
    if written[0] == "&":
        return html.unescape(written)
    if written[0] == "%":
        return unquote(written)
    if written.startswith("\\u"):
        return str(json.loads(f'"{written}"'))
    return written[1] if written[0] == "\\" and written[1] not in "rn" else ""
