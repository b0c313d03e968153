"""Header fields that are for whoever asked alone: who joins an answer that another one began does not get them.

Applications make up fields of their own (``X-User-Id``), and no name tells for whom one is. So everybody gets what is
known to describe the answer, and only the connection that began it gets the rest. Which origins may read an answer
(``Access-Control-…``) is said to browsers, of one page or of all.
"""

from __future__ import annotations

from typing import Final

from sseproxy.wsgi.call import Headers

FOR_ALL: Final = frozenset(
    [
        "cache-control",
        "content-disposition",
        "content-language",
        "content-length",
        "content-type",
        "retry-after",
        "vary",
        "x-accel-buffering",
        "x-content-type-options",
        "x-should-retry",
    ]
)
_OF_CORS: Final = "access-control-"


def split_personal(headers: Headers) -> tuple[Headers, Headers]:
    """The fields that are for whoever asked, and those that are for everybody who reads the answer."""
    personal: Headers = []
    others: Headers = []
    for item in headers:
        (others if _is_for_all(item[0].lower()) else personal).append(item)
    return personal, others


def _is_for_all(name: str) -> bool:
    return name in FOR_ALL or name.startswith(_OF_CORS)
