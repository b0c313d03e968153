"""Header fields as HTTP has them, whoever sends them: what a name may be, and which concern one connection alone."""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a field, or of a method (RFC 9110 section 5.6.2)."""
HOP_BY_HOP: Final = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    ]
)
"""RFC 9110 section 7.6.1. ``trailers`` is a slip of RFC 2616, for which WSGI servers refuse an answer all the same."""
