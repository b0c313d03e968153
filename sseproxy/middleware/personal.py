"""Header fields that are for one visitor alone: who joins an answer that another one began does not get them.

What HTTP has of the kind has one of a few words in its name, and so have the fields that applications make up to hand
out tokens. Which origins may read an answer (``Access-Control-…``) is said to browsers, of one page or of all.
"""

from __future__ import annotations

import re
from typing import Final

from sseproxy.wsgi.call import Headers

WORDS: Final = re.compile(
    "accesskey|apikey|auth(?!or(?!iz))|clearsitedata|cookie|credential|csrf|jwt|login|password|ratelimit|secret"
    "|session|token(?!s|count|iz)|xsrf"
)
"""Of which one stands in a name, however that is divided: ``Set-Cookie``, ``X-Auth-Token``, ``X-AuthToken``,
``x-rate-limit-…``. An ``X-Author`` and ``X-Tokens-Used`` are of the answer.
"""
_OF_CORS: Final = "accesscontrol"


def split_personal(headers: Headers) -> tuple[Headers, Headers]:
    """The fields that are for whoever asked, and those that are for everybody who reads the answer."""
    personal: Headers = []
    others: Headers = []
    for item in headers:
        (personal if _is_personal(item[0]) else others).append(item)
    return personal, others


def _is_personal(name: str) -> bool:
    known = name.lower().replace("-", "").replace("_", "")
    return not known.startswith(_OF_CORS) and WORDS.search(known) is not None
