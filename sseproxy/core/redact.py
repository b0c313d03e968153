"""Cuts keys out of what an upstream says of its errors: some quote the key they refuse, whole or in part. Pure."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from sseproxy.core.chunk import read_json, write_json
from sseproxy.core.failure import Failure
from sseproxy.core.spellings import meaning, origins

KEY_SHAPED: Final = re.compile(r"\b(?:sk|key|pk|gsk|xai)-[\w*.…-]{3,}[\w*]")
SHORTEST: Final = 4
"""What is configured as a secret and is shorter than this would be found everywhere."""
SHORTEST_ENCODED: Final = 8
"""The same of what is looked for within Base64."""
SHORTEST_UNNAMED: Final = 12
"""The same of the value of a header field whose name does not tell whether it is a secret."""
_SECRET_NAME: Final = re.compile(r"(?:auth|authorization|cookie|key|password|secret|token)$", re.I)
_OPEN_NAMES: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "referer",
        "user-agent",
        "x-title",
    }
)
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


class Redactor:
    """Replaces secrets by ``[key]``: as they are, as JSON, HTML and addresses spell them, or within Base64.

    :param secrets: values that must not be shown, such as an upstream's API key.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= SHORTEST}
        self._literal = sorted({*known, *(form for secret in known for form in _within_base64(secret))}, key=len)
        self._meant = sorted((meant for meant in map(meaning, self._literal) if len(meant) >= SHORTEST), key=len)

    def __call__(self, text: str) -> str:
        """The text, which may quote JSON, without secrets, and without what looks like a key."""
        found = [*_places(self._literal, text)]
        meant = meaning(text)
        if meant != text and (places := [*_places(self._meant, meant)]):
            begins, ends = origins(text)
            found += [(begins[first], ends[behind - 1]) for first, behind in places]
        return KEY_SHAPED.sub("[key]", _cut(text, found))

    def holds(self, text: str) -> bool:
        """Whether one of the secrets stands in the text, which is one line."""
        # Not any(), whose generator costs more than the look: this is asked of every answer.
        for literal in self._literal:
            if literal in text:
                return True
        if "%" not in text and "\\" not in text and "&" not in text:
            return False
        meant = meaning(text)
        return any(secret in meant for secret in self._meant)


def _places(wanted: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    """Where any of what is wanted, the shortest first, begins and ends."""
    for each in wanted:
        if len(each) > len(text):
            return
        at = text.find(each)
        while at >= 0:
            yield at, at + len(each)
            at = text.find(each, at + 1)


def _cut(text: str, places: Iterable[tuple[int, int]]) -> str:
    """The text with ``[key]`` for each place; places that overlap are one."""
    kept, at = "", 0
    for first, behind in sorted(places):
        if first >= at:
            kept += text[at:first] + "[key]"
        at = max(at, behind)
    return kept + text[at:]


def _within_base64(secret: str) -> Iterator[str]:
    """What the secret alone decides of the Base64 of a longer text, by where in three bytes it begins."""
    data = secret.encode()
    if len(data) < SHORTEST_ENCODED:
        return
    for before in range(3):
        own = slice(-(-8 * before // 6), 8 * (before + len(data)) // 6)
        yield b64encode(bytes(before) + data)[own].decode()
        yield urlsafe_b64encode(bytes(before) + data)[own].decode()


def redact_failure(failure: Failure, redact: Callable[[str], str]) -> None:
    """Let `redact` cut what is no client's business out of all that a failure says."""
    failure.message, failure.type = redact(failure.message), redact(failure.type)
    failure.request_id = redact(failure.request_id)
    if isinstance(failure.code, str):
        failure.code = redact(failure.code)
    if failure.param is not None:
        failure.param = redact(failure.param)
    if failure.further:
        failure.further = read_json(redact_json(write_json(failure.further).decode(), redact))


def redact_json(text: str, redact: Callable[[str], str]) -> str:
    """Let `redact` go over each string of JSON, and leave the rest of it: ``true`` may be somebody's password."""

    def cut(string: re.Match[str]) -> str:
        said = json.loads(string[0], strict=False)
        clean = redact(said)
        return string[0] if clean == said else write_json(clean).decode()

    return _STRING.sub(cut, text)


def redact_body(text: str, redact: Callable[[str], str]) -> str:
    """Let `redact` go over a body of any kind: over its strings if it is JSON."""
    try:
        read_json(text)
    except ValueError:
        return redact(text)
    return redact_json(text, redact)


def secrets_of(api_key: str | None, headers: Mapping[str, str], proxy: str | None) -> Iterator[str]:
    """What is secret of that by which an upstream is reached: its key, header values, its proxy's password."""
    if api_key:
        yield api_key
    for name, value in headers.items():
        yield from secrets_in_header(name, value)
    if proxy:
        yield proxy
        password = urlsplit(proxy).password or ""
        yield password
        yield unquote(password)


def secrets_in_header(name: str, value: str) -> Iterator[str]:
    """What is secret of a header field: its value as a whole, and what follows a scheme (``Bearer …``).

    Where the name does not tell, what is long enough to be a secret is one.
    """
    if name.lower() in _OPEN_NAMES:
        return
    shortest = SHORTEST if names_secret(name) else SHORTEST_UNNAMED
    for secret in dict.fromkeys((value, value.rpartition(" ")[2])):
        if len(secret) >= shortest:
            yield secret


def names_secret(name: str) -> bool:
    """Whether a header field of this name has a secret: ``Authorization``, ``X-Api-Key``, ``…-Token``."""
    return _SECRET_NAME.search(name) is not None
