"""pydantic's errors as problems for people: which key, what was expected, what was probably meant.

pydantic's own message repeats the value and names Python types; neither may go out.
https://docs.pydantic.dev/latest/errors/validation_errors/
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sseproxy.config.problem import Path, Problem, closest, dotted, listed
from sseproxy.config.section import Section
from sseproxy.config.source import Source
from sseproxy.config.values import Expected, kind


def explain(error: ValidationError, source: Source, root: type[BaseModel], failed: set[Path]) -> Iterator[Problem]:
    """One problem per error, except for values at ``failed`` that are known to be wrong already."""
    for detail in error.errors(include_url=False):
        path = tuple(step for step in detail["loc"] if step != "[key]")
        if path not in failed:
            message, suggestion = _words(detail, path, root)
            shown = (*path[:-1], _harmless(path[-1])) if detail["type"] == "extra_forbidden" else path
            yield Problem(source.name, source.line(path), dotted(shown), message, suggestion)


def _words(detail: ErrorDetails, path: Path, root: type[BaseModel]) -> tuple[str, str | None]:
    """Message and suggestion."""
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Expected):
        return str(cause), cause.suggestion
    what, value = detail["type"], detail.get("input")
    if what == "extra_forbidden":
        return _unknown(path, root)
    if what == "missing":
        return "missing; it has no default", None
    if what == "literal_error":
        names = _choices(path, root)
        return f"expected {listed(names)}", closest(value, names) if isinstance(value, str) else None
    if what == "model_type" and (section := section_at(path, root)) is not None:
        example = section.EXAMPLE if issubclass(section, Section) else Section.EXAMPLE
        return f"expected a mapping ({example}), not {kind(value)}", None
    return f"expected {_WANTED.get(what, 'another kind of value')}, not {kind(value)}", None


_WANTED = {
    "dict_type": "a mapping (`key: value` lines)",
    "tuple_type": "a list (`[…]`, or lines that begin with `- `)",
    "string_type": "text",
}


def _harmless(name: str | int) -> str:
    """An unknown key without what may be a secret: ``api_key:sk-…`` is one where the blank was left out."""
    return str(name).partition(":")[0]


def _unknown(path: Path, root: type[BaseModel]) -> tuple[str, str | None]:
    """An unknown key: the nearest sibling, else the same key where it does exist."""
    *parent, name = path
    siblings = list(fields_at(tuple(parent), root))
    if str(name).partition(":")[0] in siblings:
        return "a blank is missing after the colon", None
    near = closest(name, siblings)
    if near is None:
        elsewhere = [known for known in keys_of(root) if known[-1] == name]
        near = dotted(elsewhere[0]) if elsewhere else None
    known = f"; known here: {', '.join(siblings)}" if siblings else ""
    return f"unknown key{known}", near


def _choices(path: Path, root: type[BaseModel]) -> list[str]:
    return [str(choice) for choice in typing.get_args(fields_at(path[:-1], root)[str(path[-1])])]


def fields_at(path: Path, root: type[BaseModel]) -> dict[str, Any]:
    """The keys that the section at ``path`` may have, with their types, ``X`` for ``X | None``."""
    section = section_at(path, root)
    return {name: _inner(field.annotation) for name, field in section.model_fields.items()} if section else {}


def section_at(path: Path, root: type[BaseModel]) -> type[BaseModel] | None:
    """The class of the section at ``path``; None if no section is there."""
    section: Any = root
    for step in path:
        if typing.get_origin(section) is dict:
            section = _inner(typing.get_args(section)[1])
        elif _is_section(section) and step in section.model_fields:
            section = _inner(section.model_fields[str(step)].annotation)
        else:
            return None
    return section if _is_section(section) else None


def _is_section(annotation: Any) -> bool:
    # Python 3.10 takes list[str] for a type, and is told of no class by it.
    return typing.get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inner(annotation: Any) -> Any:
    """``X`` of ``X | None``."""
    wanted = [each for each in typing.get_args(annotation) if each is not type(None)]
    return wanted[0] if len(wanted) == 1 and typing.get_origin(annotation) is not dict else annotation


def keys_of(section: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the file, from the top; ``NAME`` stands for the names that the file's writer chooses."""
    section = _inner(section)
    if typing.get_origin(section) is dict:
        yield from keys_of(typing.get_args(section)[1], (*path, "NAME"))
    elif _is_section(section):
        for name, field in section.model_fields.items():
            yield (*path, name)
            yield from keys_of(field.annotation, (*path, name))
