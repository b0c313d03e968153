"""Web origins and lists of them that are allowed. https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin

An origin is compared as the text a browser sends: scheme, host, port, in small letters, without the scheme's own port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

ANY: Final = "*"
NULL: Final = "null"
"""What a browser says for a page without an origin: a sandboxed frame, a file, some redirects. Anybody can make one."""

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]"
_ORIGIN: Final = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>(?:\*\.)?(?:{_HOST}))(?::(?P<port>\d{{1,5}}))?")
_OWN_PORTS: Final = {"http": 80, "https": 443}


class BadOrigin(ValueError):
    """What stands in a list is no origin.

    :param message: what was expected.
    :param suggestion: how it would be written right, where that is clear.
    """

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


def normal_origin(text: str) -> str:
    """An entry of a list as browsers would write it: ``https://App.Example.com:443`` → ``https://app.example.com``.

    :raises BadOrigin: it is no origin, and no pattern of one such as ``https://*.example.com``.
    """
    text = text.strip().lower()
    if text in (ANY, NULL):
        return text
    match = _ORIGIN.fullmatch(text)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 65536):
        raise _explained(text)
    if match["host"].startswith("*.") and re.search(r"\]\Z|\.\d+\Z", match["host"]):
        raise BadOrigin("expected a name after `*.`; an address has no parts to choose from")
    port = int(match["port"] or 0)
    suffix = "" if port in (0, _OWN_PORTS.get(match["scheme"])) else f":{port}"
    return f"{match['scheme']}://{match['host']}{suffix}"


def _explained(text: str) -> BadOrigin:
    """What is wrong with a text that is no origin."""
    if "://" not in text:
        found = _ORIGIN.match(f"https://{text}")
        return BadOrigin("expected scheme and host, such as https://app.example.com", found and found[0])
    if "*" in text.replace("://*.", "://", 1):
        return BadOrigin("expected `*` alone, or as the first part of a host (https://*.example.com); ports are listed")
    found = _ORIGIN.match(text)
    if found and text[found.end() :].startswith(("/", "?", "#")):
        return BadOrigin("expected an origin, which ends with its host or port and has no path", found[0])
    return BadOrigin("expected an origin such as https://app.example.com or http://localhost:3000")


class Origins:
    """Who may read answers.

    :param entries: as :func:`normal_origin` returns them. ``*`` is every origin but ``null``, which must be listed.
    :ivar any: whether every origin is allowed.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        entries = list(entries)
        self.any = ANY in entries
        self._listed = frozenset(each for each in entries if each != ANY and "*" not in each)
        patterns = [_pattern(each) for each in entries if each != ANY and "*" in each]
        self._pattern = re.compile("|".join(patterns)) if patterns else None
        self._some = bool(entries)

    def __bool__(self) -> bool:
        return self._some

    def allows(self, origin: str) -> bool:
        """Whether this ``Origin`` header names one of them. It is compared as it came: browsers send small letters."""
        if origin in self._listed:
            return True
        if self.any:
            match = _ORIGIN.fullmatch(origin)
            return match is not None and "*" not in origin
        return self._pattern is not None and self._pattern.fullmatch(origin) is not None


def _pattern(entry: str) -> str:
    """``https://*.example.com`` as a regular expression; ``*`` is one label of a host or more."""
    scheme, _, rest = entry.partition("://*.")
    return rf"{re.escape(scheme)}://(?:{_LABEL}\.)+{re.escape(rest)}"
