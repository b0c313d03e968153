"""``${VAR}`` and ``${VAR:-default}`` in the strings of a configuration; ``$${`` is a literal ``${``.

As in a shell, ``:-`` also replaces an empty variable (POSIX.1-2017, Shell Command Language, 2.6.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sseproxy.config.problem import Path, Problem, closest
from sseproxy.config.source import Source

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?(?P<end>\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Environment:
    """Expands references and collects what is wrong with them.

    :param variables: usually ``os.environ``.
    :param source: where the problems are.
    """

    def __init__(self, variables: Mapping[str, str], source: Source) -> None:
        self._variables = variables
        self._source = source
        #: Values that could not be made; what follows from that is no news.
        self.failed: set[Path] = set()
        self.problems: list[Problem] = []

    def expand(self, value: Any, path: Path = ()) -> Any:
        """A copy of the tree ``value`` in which every string is expanded."""
        if isinstance(value, Mapping):
            return {key: self.expand(each, (*path, str(key))) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.expand(each, (*path, index)) for index, each in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return _REFERENCE.sub(lambda match: self._replace(match, path), value)
        return value

    def _replace(self, match: re.Match[str], path: Path) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "${"
        if not match["end"] or not _NAME.fullmatch(name):
            return self._fail(path, "expected ${VAR} or ${VAR:-default}; write $${ for a literal ${", None)
        found = self._variables.get(name)
        if default is not None:
            return found or default
        if found is None:
            return self._fail(
                path, f"the environment variable {name} is not set", closest(name, _similar(name, self._variables))
            )
        return found

    def _fail(self, path: Path, message: str, suggestion: str | None) -> str:
        self.failed.add(path)
        self.problems.append(self._source.problem(path, message, suggestion))
        return ""


def _similar(name: str, variables: Mapping[str, str]) -> list[str]:
    """Variables worth suggesting; a name that shares no word with the one sought would only puzzle."""
    words = set(name.upper().split("_"))
    return [other for other in variables if words & set(other.upper().split("_"))]
