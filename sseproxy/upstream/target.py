"""What stands in the request line to an upstream. Pure."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import Final
from urllib.parse import quote

from sseproxy.upstream.flavor import Flavor

REMEMBERED: Final = 64
LONGEST: Final = 256
"""Bytes of a path that is remembered."""
_PATH: Final = "/:@!$&'()*+,;=~"
_QUERY: Final = _PATH + "?%"
_PLAIN: Final = re.compile(r"[/A-Za-z0-9_-]*")
"""A path of which nothing needs to be quoted."""


class RequestTargets:
    """The targets of requests to one upstream.

    :param base: the path of its URL, without a slash at its end.
    :param prefix: what stands before the path.
    """

    def __init__(self, flavor: Flavor, base: str, prefix: str = "") -> None:
        self._write = partial(_write, flavor, base, prefix)
        self._remembered = lru_cache(REMEMBERED)(self._write)

    def write(self, path: str, query: str, model: str) -> str:
        """The target, in characters that may stand there.

        :param path: as WSGI has it, and so the query.
        :param model: as the upstream calls it.
        """
        # There may be a secret in a query.
        return (self._write if query or len(path) > LONGEST else self._remembered)(path, query, model)


def _write(flavor: Flavor, base: str, prefix: str, path: str, query: str, model: str) -> str:
    if not _PLAIN.fullmatch(path):
        path = quote(path.encode("latin-1"), _PATH)
    if query:
        query = quote(query.encode("latin-1"), _QUERY)
    target = flavor.url(base, path.removeprefix("/v1"), query, model)
    return prefix + (target if target.startswith("/") else f"/{target}")
