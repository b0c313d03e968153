"""Where a configuration comes from, and its YAML as plain data that remembers its lines.

YAML as PyYAML reads it (https://pyyaml.org/wiki/PyYAMLDocumentation), with three differences: a key given twice is a
problem, keys are always text (``007:`` names the user "007"), and words are read as in YAML 1.2, see ``plain_scalars``.
What the keys mean may not go in here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from sseproxy.config.builtin import BUILT_IN, BUILT_IN_NAME
from sseproxy.config.plain_scalars import Constructor, Loader
from sseproxy.config.problem import ConfigError, Path, Problem, dotted
from sseproxy.config.syntax import syntax_problem

VARIABLE = "SSEPROXY_CONFIG"
DEFAULT_FILE = "config.yaml"
MOST_VALUES = 300_000
"""In a file: a few lines of aliases of aliases can stand for more than a machine can hold."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_NO_COLON = re.compile(r"(?:\s|#.*\n)*[,}]")


@dataclass
class Source:
    """A configuration before anything is known of its meaning.

    :param name: what ``Config.source`` says.
    :param directory: what relative file names in it are relative to.
    :param data: the tree of plain values.
    :param lines: the line of each key and list item; empty where there is no file.
    :param file: its absolute name.
    :param is_empty: the file has nothing in it but comments.
    :param lone: keys without a colon behind them, as in ``{alice}``.
    """

    name: str
    directory: FilePath
    data: Mapping[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    file: str | None = None
    is_empty: bool = False
    lone: set[Path] = field(default_factory=set)

    def line(self, path: Path) -> int | None:
        """The line of ``path``, else of the nearest key around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1 if self.lines else None

    def problem(self, path: Path, message: str, suggestion: str | None = None) -> Problem:
        return Problem(self.name, self.line(path), dotted(path), message, suggestion)


def file_meant() -> str | None:
    """The name of the file that is read where none is given, if there is one."""
    return os.environ.get(VARIABLE) or (DEFAULT_FILE if FilePath(DEFAULT_FILE).is_file() else None)


def find(given: str | os.PathLike[str] | Mapping[str, Any] | None) -> Source:
    """Read ``given``; without it ``$SSEPROXY_CONFIG``, else ``./config.yaml``, else the built-in demo configuration.

    :raises ConfigError: if the file cannot be read or is no YAML mapping.
    :raises TypeError: ``given`` is nothing of that.
    """
    if isinstance(given, Mapping):
        return Source("configuration", FilePath.cwd(), given)
    if given is None:
        given = file_meant()
    if given is None:
        return Source(BUILT_IN_NAME, FilePath.cwd(), BUILT_IN)
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"expected a configuration as a file's name, a mapping or a Config, not {type(given).__name__}")
    return _read(os.fspath(given))


def _read(name: str) -> Source:
    try:
        text = FilePath(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([Problem(name, None, "", f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(name, line, "", "is not UTF-8 text")]) from None
    source = Source(name, FilePath(name).resolve().parent, {}, file=os.path.abspath(name))
    try:
        node = yaml.compose(text, Loader=Loader)
        data = _Builder(source).value(node, ()) if node else {}
    except yaml.YAMLError as error:
        raise ConfigError([syntax_problem(name, text, error)]) from None
    except RecursionError:
        raise ConfigError([Problem(name, None, "", "is nested too deeply")]) from None
    if not isinstance(data, dict):
        source.problems.append(Problem(name, 1, "", "expected a mapping (`key: value` lines) at the top of the file"))
        raise ConfigError(source.problems)
    source.data = data
    source.is_empty = node is None
    return source


class _Builder:
    """Turns YAML nodes into plain values and notes each one's line in the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._scalars = Constructor()
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > MOST_VALUES:
            message = f"has more than {MOST_VALUES:,} values, aliases written out"
            raise ConfigError([Problem(self._source.name, None, "", message)])
        if id(node) in self._open:
            self._source.problems.append(self._source.problem(path, "an alias that contains itself"))
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merges = [value for key, value in node.value if key.tag == _MERGE]
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._source.problems.append(Problem(self._source.name, line, dotted(path), "a key must be text"))
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key in result:
                message = f"given twice; the first is on line {self._source.lines[inner]}"
                self._source.problems.append(Problem(self._source.name, line, dotted(inner), message))
                continue
            self._source.lines.setdefault(inner, line)
            if _is_lone(key_node):
                self._source.lone.add(inner)
            result[key] = self.value(value_node, inner)
        for value_node in merges:
            for other in self._merged(value_node, path):
                result = {**other, **result}
        return result

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[dict[str, Any]]:
        """The mappings of ``<<: *anchor`` or ``<<: [*a, *b]``; the earlier wins (https://yaml.org/type/merge.html)."""
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(each, path)
            if isinstance(value, dict):
                yield value
            else:
                self._source.problems.append(self._source.problem(path, "`<<` expects an alias of a mapping"))

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        for index, each in enumerate(node.value):
            self._source.lines.setdefault((*path, index), each.start_mark.line + 1)
        return [self.value(each, (*path, index)) for index, each in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            if not isinstance(node, yaml.ScalarNode):
                raise ValueError(node.tag)
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # of what PyYAML does not look at
            _, own, kind = node.tag.rpartition(_TAG)
            message = f"a value that YAML cannot read as {kind if own else 'anything it knows'}; put it in quotes"
            self._source.problems.append(self._source.problem(path, message))
            return None


def _is_lone(key: yaml.ScalarNode) -> bool:
    mark = key.end_mark
    return key.style is None and _NO_COLON.match(mark.buffer or "", mark.pointer) is not None
