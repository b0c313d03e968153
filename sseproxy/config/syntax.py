"""What PyYAML says of a file that is no YAML, in words for the person who wrote it.

Without its excerpt of the file: the line might hold a key. https://pyyaml.org/wiki/PyYAMLDocumentation
"""

from __future__ import annotations

from typing import Final, NamedTuple

import yaml

from sseproxy.config.problem import Problem


class _Meaning(NamedTuple):
    """What a complaint comes from, mostly.

    :param words: ``{opened}`` is the line where that began which is not as it should be.
    :param is_there: that line is the one to look at, not the one where it was noticed.
    """

    words: str
    is_there: bool = False


_MEANT: Final = {
    "found character '\\t'": _Meaning("a tab; YAML indents with spaces only"),
    "found character": _Meaning("a text that begins so needs quotes"),
    "found undefined alias": _Meaning(
        "what begins with * is an alias, and this one is not defined; put a text that begins so in quotes"
    ),
    "expected alphabetic or numeric character": _Meaning(
        "what begins with * is an alias, with & what one stands for; put a text that begins so in quotes"
    ),
    "found unknown escape character": _Meaning(
        "within double quotes a backslash begins an escape, and this one does not exist; single quotes take it as it is"
    ),
    "found unexpected end of stream": _Meaning("a quote that is opened here is not closed", is_there=True),
    "could not find expected ':'": _Meaning(
        "neither `key: value`, with a blank after the colon, nor `- item`, with one after the dash", is_there=True
    ),
    "mapping values are not allowed here": _Meaning(
        "no key can be here: the line is indented too far, the one above lacks its colon or the blank after it, or a"
        " text that holds `: ` needs quotes"
    ),
    "expected ',' or": _Meaning(
        "of the bracket opened on line {opened}, the end or a comma is missing before this; a text that holds brackets,"
        " as ${{VAR}} does, needs quotes in there"
    ),
    "expected <block end>": _Meaning(
        "the line is indented as none above it, or goes on after a closing quote or bracket"
    ),
}
"""By how the complaint begins; the first that fits."""


def syntax_problem(name: str, text: str, error: yaml.YAMLError) -> Problem:
    """What is wrong with the file of this name and text."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(name, line, "", f"is no valid YAML: the control character U+{error.character:04X}")
    what = getattr(error, "problem", None) or "cannot be parsed"
    mark = getattr(error, "problem_mark", None)
    opened = getattr(error, "context_mark", None) or mark
    meaning = next((_MEANT[begins] for begins in _MEANT if what.startswith(begins)), None)
    if meaning is None:
        context = getattr(error, "context", None)
        words = f"{context}, {what}" if context else what
    else:
        words = meaning.words.format(opened=opened.line + 1 if opened else "?")
        mark = opened if meaning.is_there else mark
    column = f" (column {mark.column + 1})" if mark else ""
    return Problem(name, mark.line + 1 if mark else None, "", f"is no valid YAML: {words}{column}")
