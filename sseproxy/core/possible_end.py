"""Where an answer may end, told from bytes that nobody has parsed."""

from __future__ import annotations

import re
from typing import Final

from sseproxy.core.sse import DONE

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.cancelled", "message_stop"})
"""Types of the event that ends an answer of a typed API, if it has not failed."""
LAST: Final = TERMINAL | {"response.failed"}
"""The same, failed or not."""
_MARKS: Final = (DONE, *(b'"%b"' % type.encode() for type in sorted(LAST)))
_FAILURE: Final = re.compile(rb'"error"(?!\s*:\s*null)')


def may_end(data: bytes) -> bool:
    """Whether this may be the end of an answer, at which a charge is settled; that may have to wait for a database."""
    return any(map(data.__contains__, _MARKS)) or (data.find(b'"error"') >= 0 and _FAILURE.search(data) is not None)
