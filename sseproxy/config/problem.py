"""What is wrong with a configuration, in words for the person who wrote it. No parsing here; nothing secret gets in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sseproxy.core.printable import printable
from sseproxy.core.redact import KEY_SHAPED

SHORTEST_KEY: Final = 16
"""What looks like a key and is shorter is most likely somebody's name for something."""

#: Where something stands in the configuration: keys and list positions, from the top.
Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """``("users", "alice", "keys", 0)`` as people write it: ``users.alice.keys[0]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def closest(word: object, known: Iterable[str]) -> str | None:
    """The known name that a mistyped ``word`` most likely stands for, or None."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def listed(words: Iterable[str]) -> str:
    """``a, b or c``."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


@dataclass(frozen=True)
class Problem:
    """One thing to correct (or, among :attr:`sseproxy.config.Config.warnings`, to think about).

    :param file: the file's name as it was given, or what stands in for a file.
    :param line: counted from 1; None where the configuration is no file.
    :param key: dotted path of the key; empty if the file as a whole is meant.
    :param message: what is wrong; what was expected.
    :param suggestion: the nearest valid name or spelling.
    """

    file: str
    line: int | None
    key: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = ".".join(map(_without_secrets, self.key.split(".")))
        hint = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        words = _without_secrets(self.message + hint)
        return printable(": ".join([place, key, words] if key else [place, words]))


def _without_secrets(text: str) -> str:
    """An API key in the place of a name is named by none of the problems that it makes."""
    return KEY_SHAPED.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return "[key]" if len(found[0]) >= SHORTEST_KEY else found[0]


class ConfigError(ValueError):
    """The configuration cannot be used. ``str()`` of it is one line per problem, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)
