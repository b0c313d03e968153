"""Header fields that are for one visitor alone: who joins an answer that another one began does not get them.

What HTTP has of the kind has one of a few words in its name, and so have the fields that applications make up to hand
out tokens. Which origins may read an answer (``Access-Control-…``) is said to browsers, of one page or of all.
"""

from __future__ import annotations

from typing import Final

from sseproxy.wsgi.call import Headers

NAMES: Final = frozenset(["clear-site-data"])
WORDS: Final = frozenset(
    [
        "auth",
        "authenticate",
        "authentication",
        "authorization",
        "cookie",
        "cookie2",
        "csrf",
        "csrftoken",
        "jwt",
        "login",
        "ratelimit",
        "session",
        "sessionid",
        "token",
        "xsrf",
        "xsrftoken",
    ]
)
"""Of which one stands in a name: ``Set-Cookie``, ``Authentication-Info``, ``X-CSRF-Token``, ``x-ratelimit-…``."""


def split_personal(headers: Headers) -> tuple[Headers, Headers]:
    """The fields that are for whoever asked, and those that are for everybody who reads the answer."""
    personal = [item for item in headers if _is_personal(item[0])]
    return personal, [item for item in headers if item not in personal] if personal else headers


def _is_personal(name: str) -> bool:
    known = name.lower()
    return known in NAMES or not WORDS.isdisjoint(known.replace("_", "-").split("-"))
