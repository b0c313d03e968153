"""Where an answer may end, told from bytes that nobody has parsed."""

from __future__ import annotations

import re
from typing import Final

from sseproxy.core.sse import DONE

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.cancelled", "message_stop"})
"""Types of the event that ends an answer of a typed API, if it has not failed."""
_FAILURE: Final = re.compile(rb'"error"(?!\s*:\s*null)')


def may_end(data: bytes) -> bool:
    """Whether this may be the end of an answer, at which a charge is settled; that may have to wait for a database."""
    return (
        data.find(DONE) >= 0
        or (data.find(b'"error"') >= 0 and _FAILURE.search(data) is not None)
        or data.find(b'"message_stop"') >= 0
        or data.find(b'"response.completed"') >= 0
        or data.find(b'"response.incomplete"') >= 0
        or data.find(b'"response.failed"') >= 0
        or data.find(b'"response.cancelled"') >= 0
    )
