"""Patterns of request paths, and what frameworks take for one path. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

_CONTROLS: Final = dict.fromkeys((*range(0x20), 0x7F))


class PathPatterns:
    """Contains the paths that match one of the patterns, as WSGI has them (Latin-1 for UTF-8) and however spelt.

    :param patterns: paths in which ``*`` stands for anything, slashes too.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(map(plain_path, patterns))

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        plain = plain_path(path.encode("latin-1", "replace").decode("utf-8", "replace"))
        return any(fnmatchcase(plain, pattern) for pattern in self._patterns)


def plain_path(path: str) -> str:
    """``//a/./x/../b/`` → ``/a/b``, and without control characters: lenient frameworks reach the same view by either.

    ``$`` at the end of a regular expression matches before a line feed, too: so Pyramid and Bottle take ``/a/b%0A``.
    """
    parts: list[str] = []
    for part in path.translate(_CONTROLS).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
