"""What must fit together across keys. Looks at plain data, so that it speaks up beside errors of any other kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sseproxy.config.builtin import DEMO_KEY
from sseproxy.config.models import is_pattern
from sseproxy.config.problem import Path, Problem, closest
from sseproxy.config.source import Source
from sseproxy.config.users import HASH_PREFIX, hash_key
from sseproxy.core.redact import names_secret


def check_references(data: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Problems of upstreams, of models that name them, and of keys that two users share."""
    upstreams = _entries(data, "upstreams")
    if not upstreams and isinstance(data.get("upstreams"), Mapping):
        yield source.problem(("upstreams",), "expected at least one upstream; without the key it is the built-in demo")
    for name, upstream in upstreams.items():
        if not isinstance(upstream, Mapping) or _is_glued(("upstreams", name), source):
            continue
        if (upstream.get("url") is None) == (upstream.get("wsgi") is None):
            yield source.problem(("upstreams", name), "expected exactly one of url and wsgi")
    known = list(upstreams) or ["demo"]
    for pattern, model in _entries(data, "models").items():
        for path, wanted in _wanted(model.get("upstream") if isinstance(model, Mapping) else None):
            if wanted and wanted not in known:
                message = f"no upstream is called {wanted}; known: {', '.join(map(str, known))}"
                yield source.problem(("models", pattern, "upstream", *path), message, closest(wanted, known))
    yield from _glued(source)
    yield from _unknown_default(data, source)
    yield from _shared_keys(data, source)


def _is_glued(path: Path, source: Source) -> bool:
    """``{alice:sk-…}``, which is an entry of that name. Models may be called so."""
    return path in source.lone and len(path) == 2 and path[0] in ("users", "upstreams") and ":" in str(path[1])


def _glued(source: Source) -> Iterator[Problem]:
    for path in source.lone:
        if _is_glued(path, source):
            name = str(path[1]).partition(":")[0]
            message = "a blank is missing after the colon, or quotes around a name that has one"
            yield Problem(source.name, source.line(path), f"{path[0]}.{name}", message)


def _unknown_default(data: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """What ``wrap`` counts requests as must be a model."""
    wrap, models = _entries(data, "wrap"), _entries(data, "models")
    name = wrap.get("default_model") or "app"
    if not wrap or not isinstance(name, str) or not models or any(fnmatchcase(name, str(each)) for each in models):
        return
    message = f"no entry of models is for {name}; without one nobody may ask for it, and it has no price"
    yield source.problem(("wrap", "default_model"), message, closest(name, list(models)))


def _wanted(upstream: object) -> Iterator[tuple[Path, str]]:
    """The names of upstreams in a model's entry, and where below it they stand."""
    if isinstance(upstream, str):
        yield (), upstream
    for index, each in enumerate(upstream if isinstance(upstream, (list, tuple)) else ()):
        if isinstance(each, str):
            yield (index,), each
        elif isinstance(each, Mapping) and isinstance(each.get("name"), str):
            yield (index, "name"), each["name"]


def check_unreached(data: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Warnings about models that nobody gets, since one above them takes all that they are for: the first wins."""
    above: list[str] = []
    for name in map(str, _entries(data, "models")):
        taker = next((pattern for pattern in above if _takes_all(pattern, name)), None)
        if taker is not None:
            yield source.problem(("models", name), f"never used: {taker} stands above it and takes all that it is for")
        elif is_pattern(name):  # what is taken takes no more than its taker; a name, only itself
            above.append(name)


def _takes_all(pattern: str, name: str) -> bool:
    """Whether whatever a name, or pattern, stands for matches the pattern. Of two sets of letters nothing is said."""
    if "[" in name or (any(mark in name for mark in "*?") and any(mark in pattern for mark in "?[")):
        return pattern == "*"
    return fnmatchcase(name, pattern)


def check_plain_keys(data: Mapping[str, Any], source: Source, local: bool) -> Iterator[Problem]:
    """Warnings about secrets that stand in the file itself; ``data`` is as written, before ``${VAR}`` is replaced.

    :param local: only this machine can connect, so that the demo key does no harm.
    """
    for path, key in _keys(data):
        if key == DEMO_KEY and not local:
            yield source.problem(path, f"everybody knows the key {DEMO_KEY}, and others than this machine can connect")
        elif key != DEMO_KEY and not key.startswith(HASH_PREFIX) and "${" not in key:
            yield source.problem(path, "a key in plain text; better sha256:<hex> of it, or ${VAR}")
    for path, kind, secret in _secrets(data):
        if isinstance(secret, str) and secret and "${" not in secret:
            yield source.problem(path, f"a {kind} in plain text; better ${{VAR}}")


def check_secret_length(secret: str, source: Source) -> Iterator[Problem]:
    """A warning about a secret for tokens that can be found by trying (RFC 7518 section 3.2)."""
    from sseproxy.middleware.jwt import SHORTEST_SECRET

    if (length := len(secret.encode())) < SHORTEST_SECRET:
        message = f"{length} bytes; tokens are safe from forgery with {SHORTEST_SECRET} or more"
        yield source.problem(("auth", "jwt", "secret"), message)


def _entries(data: Mapping[str, Any], section: str) -> Mapping[Any, Any]:
    entries = data.get(section)
    return entries if isinstance(entries, Mapping) else {}


def _keys(data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every key of every user that is text."""
    for name, user in _entries(data, "users").items():
        keys = user.get("keys") if isinstance(user, Mapping) else None
        for index, key in enumerate(keys if isinstance(keys, (list, tuple)) else ()):
            if isinstance(key, str):
                yield ("users", name, "keys", index), key


def _shared_keys(data: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """A key must say who is billed."""
    owners: dict[str, Path] = {}
    for path, key in _keys(data):
        try:
            digest = hash_key(key)
        except ValueError:
            continue
        if digest in owners:
            owner = owners[digest]
            yield source.problem(path, f"the same key as users.{owner[1]}.keys[{owner[3]}]; each key has one user")
        owners.setdefault(digest, path)


def _secrets(data: Mapping[str, Any]) -> Iterator[tuple[Path, str, Any]]:
    """What is most likely a secret, apart from users' keys: where it stands, what it is, and its value."""
    for name, upstream in _entries(data, "upstreams").items():
        if isinstance(upstream, Mapping):
            yield ("upstreams", name, "api_key"), "key", upstream.get("api_key")
            for field, value in _entries(upstream, "headers").items():
                if isinstance(field, str) and names_secret(field):
                    yield ("upstreams", name, "headers", field), "secret", value
            yield from _password(("upstreams", name, "proxy"), upstream.get("proxy"))
    tokens = _entries(data, "auth").get("jwt")
    yield ("auth", "jwt", "secret"), "secret", tokens.get("secret") if isinstance(tokens, Mapping) else None
    for section, key in (("accounting", "ledger"), ("limits", "store"), ("streams", "store")):
        yield from _password((section, key), _entries(data, section).get(key))


def _password(path: Path, address: object) -> Iterator[tuple[Path, str, Any]]:
    """The address, if there is a password in it, before its host or as an option."""
    if not isinstance(address, str):
        return
    try:
        parts = urlsplit("//" + address.partition("://")[2])
    except ValueError:  # a bracket in the password, of which more is said elsewhere
        return
    if parts.password or any(option.endswith("password") for option, _ in parse_qsl(parts.query)):
        yield path, "password", address
