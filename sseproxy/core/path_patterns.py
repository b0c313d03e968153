"""Patterns of request paths, and what frameworks take for one path. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


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
    """``//a//b/`` → ``/a/b``: lenient frameworks reach the same view by either."""
    return "/" + "/".join(part for part in path.split("/") if part)
