"""Label values: names out of the configuration, whatever clients ask for, so that there are never more than a few."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Final

from sseproxy.core.path_patterns import PathPatterns

MOST: Final = 200
"""Values of one label; with more, those that come later are :data:`OTHER`."""
OTHER: Final = "other"
NONE: Final = "none"
REMEMBERED: Final = 1024
"""Paths, or models, of which the label is known without a look."""


class Named:
    """The names that stand in a section; what is beyond :data:`MOST` goes together."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(list(names)[:MOST])

    def __call__(self, name: str | None) -> str:
        return NONE if name is None else name if name in self._names else OTHER


class RouteLabels:
    """What stands for a path: itself if it is one of a few, else the pattern that it matches.

    :param paths: that stand for themselves.
    :param prefixes: below which all paths are one.
    :param route: the pattern of a path that is a route, else the path.
    :param wrapped: patterns of a wrapped application's paths.
    """

    def __init__(
        self,
        paths: Collection[str],
        prefixes: Sequence[str],
        route: Callable[[str], str],
        wrapped: Sequence[str],
    ) -> None:
        self._paths = frozenset(paths)
        self._prefixes = tuple(prefixes)
        self._route = route
        self._wrapped = [(pattern, PathPatterns([pattern])) for pattern in wrapped]
        self.of = lru_cache(REMEMBERED)(self._of)

    def _of(self, path: str) -> str:
        if path in self._paths:
            return path
        for prefix in self._prefixes:
            if path.startswith(prefix):
                return f"{prefix}*"
        pattern = self._route(path)
        if pattern != path:
            return pattern
        return next((pattern for pattern, paths in self._wrapped if path in paths), OTHER)
