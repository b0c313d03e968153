"""What must fit together in ``routes``: patterns that cannot be mistaken for each other, inputs and models that exist.

Looks at plain data, as :mod:`sseproxy.config.references` does. A pattern is written as werkzeug's router has it
(https://werkzeug.palletsprojects.com/en/stable/routing/), with the converters in :data:`CONVERTERS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from sseproxy.config.problem import Path, Problem, closest, listed
from sseproxy.config.source import Source
from sseproxy.config.values import Expected

CONVERTERS = ("string", "path", "int", "uuid")
LONGEST = 200
_VARIABLE = re.compile(r"<(?:(?P<converter>[^<>:]*):)?(?P<name>[^<>:]*)>")
_TEXT = re.compile(r"<(?:string:)?[^<>:]*>")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNFIT = re.compile(r"[\s<>?#%\\|]|//")
_RESERVED = ("/v1/", "/-/")


def variables_of(pattern: str) -> list[str]:
    """The variables of a route's pattern.

    :raises Expected: it is no pattern.
    """
    if not pattern.startswith("/"):
        raise Expected("expected a path that begins with /", f"/{pattern}" if pattern else None)
    if f"{pattern}/".startswith(_RESERVED):
        raise Expected("the paths under /v1/ and /-/ are taken: the API's and the proxy's own")
    dots = {".", ".."}.intersection(pattern.split("/"))
    if dots or len(pattern) > LONGEST or not pattern.isprintable() or _UNFIT.search(_VARIABLE.sub("x", pattern)):
        raise Expected(
            f"expected a path of at most {LONGEST} plain characters, such as /chat/<id>: no blank, //, ?, # or %"
        )
    found = list(_VARIABLE.finditer(pattern))
    for converter in (match["converter"] for match in found):
        if converter is not None and converter not in CONVERTERS:
            kinds = listed(CONVERTERS)
            raise Expected(f"expected <name> or <kind:name> with a kind of {kinds}", closest(converter, CONVERTERS))
    names = [match["name"] for match in found]
    if not all(map(_NAME.fullmatch, names)) or len(set(names)) < len(names):
        raise Expected("expected variables of letters, digits and _, each with a name of its own, such as <id>")
    if _is_slow(pattern):
        raise Expected(
            "expected one <path:name> at most and no other variable in its part, something between two variables, and "
            "two texts in a part only where they end it and nothing is a <path:name>: "
            "to look for anything else in a long path takes minutes"
        )
    return names


def _is_slow(pattern: str) -> bool:
    """Whether a path may be cut at the variables in more ways than it has letters. The router's regular expressions try
    them all, with every other thread waiting, whoever asks.
    """
    paths = pattern.count("<path:")
    return paths > 1 or "><" in pattern or any(_is_slow_part(part, paths > 0) for part in pattern.split("/"))


def _is_slow_part(part: str, has_path: bool) -> bool:
    """The same of what stands between two slashes; no router stops at these where a path is looked for."""
    if "<path:" in part:
        return len(_VARIABLE.findall(part)) > 1
    texts = _TEXT.findall(part)
    return len(texts) > 1 and (has_path or not part.endswith(texts[-1]))


def check_routes(data: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Problems of patterns, of inputs and of the models that routes ask."""
    routes = data.get("routes")
    if not isinstance(routes, Mapping):
        return
    models = data.get("models")
    known = list(models) if isinstance(models, Mapping) else ["*"]
    shapes: dict[str, str] = {}
    for pattern, route in routes.items():
        try:
            variables = variables_of(str(pattern))
        except Expected as problem:
            yield source.problem(("routes", pattern), str(problem), problem.suggestion)
            continue
        shape = _VARIABLE.sub(lambda match: f"<{match['converter'] or 'string'}>", str(pattern))
        if shape in shapes:
            message = f"matches the same paths as {shapes[shape]}; a path must have one route"
            yield source.problem(("routes", pattern), message)
        shapes.setdefault(shape, pattern)
        if isinstance(route, Mapping):
            yield from _check_model(route, ("routes", pattern), source, known)
            yield from _check_input(route, ("routes", pattern), source, variables)


def _check_model(route: Mapping[str, Any], where: Path, source: Source, known: list[str]) -> Iterator[Problem]:
    model = route.get("model")
    if not isinstance(model, str):
        return
    if not model.strip() or not model.isprintable() or len(model) > LONGEST:
        yield source.problem((*where, "model"), "expected the name of a model")
        return
    if any(model == name or fnmatchcase(model, name) for name in known):
        return
    message = f"no entry of models matches {model}; known: {', '.join(map(str, known)) or 'none'}"
    yield source.problem((*where, "model"), message, closest(model, known))


def _check_input(route: Mapping[str, Any], where: Path, source: Source, variables: list[str]) -> Iterator[Problem]:
    given = route.get("input")
    if not isinstance(given, Mapping):
        return
    where = (*where, "input")
    fields = {key: given[key] for key in ("message", "messages", "path") if isinstance(given.get(key), str)}
    if not any(given.get(key) is not None for key in ("message", "messages", "path")):
        yield source.problem(where, "expected message, messages or path: the field that holds it")
    for key, name in fields.items():
        if not name.strip() or not name.isprintable():
            yield source.problem((*where, key), "expected the name of a field")
        elif name == "model" and key != "path" and route.get("model") is None:
            yield source.problem((*where, key), "the field model names the model, where the route does not")
    if "message" in fields and fields["message"] == fields.get("messages"):
        yield source.problem((*where, "messages"), "the same field as message; each needs one of its own")
    if "path" in fields:
        yield from _check_replay(route, where, source, fields, variables)


def _check_replay(
    route: Mapping[str, Any], where: Path, source: Source, fields: Mapping[str, str], variables: list[str]
) -> Iterator[Problem]:
    name = fields["path"]
    if name not in variables:
        known = f"; its variables: {', '.join(variables)}" if variables else " such as <id>"
        message = f"the pattern has no variable {name}{known}"
        yield source.problem((*where, "path"), message, closest(name, variables))
    if len(fields) > 1:
        yield source.problem(where, "path stands alone: a stream that is read again takes no message")
    for key in ("model", "prompt"):
        if route.get(key) is not None:
            message = "no model is asked where input.path names a stream to be read again; leave it out"
            yield source.problem((*where[:-1], key), message)
