"""Header fields for the original request alone: a request that joins a running answer does not get them.

Applications make up fields of their own (``X-User-Id``) whose names do not tell whom they are for. So every reader gets
the fields that are known to describe the answer, and ``Access-Control-…``, which browsers of any origin need; only the
connection that began the answer gets the rest.
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
_CORS_PREFIX: Final = "access-control-"


def split_personal(headers: Headers) -> tuple[Headers, Headers]:
    """The fields for the original request alone, and those for every reader."""
    personal: Headers = []
    others: Headers = []
    for item in headers:
        (others if _is_for_all(item[0].lower()) else personal).append(item)
    return personal, others


def _is_for_all(name: str) -> bool:
    return name in FOR_ALL or name.startswith(_CORS_PREFIX)
