"""What an upstream says when it refuses a request: read as far as it is worth it, whatever becomes of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize.compression import unzip
from sseproxy.upstream.waiting import Waiting
from sseproxy.wsgi.call import close_body
from sseproxy.wsgi.client import asking

ERROR_BODY_LIMIT: Final = 64 * 1024
ERROR_BODY_TIME: Final = 5.0
"""Bytes and seconds up to which it is read: another upstream may be waiting to be asked."""


def read_refusal(open_body: Callable[[float], Iterable[bytes]], waiting: Waiting) -> str:
    """The text of an answer that refuses, uncompressed.

    :param open_body: gives its body, to be read until a deadline, or raises what is wrong with it from the beginning.
    :raises ClientGone: the client has left meanwhile.
    """
    content = b""
    body: Iterable[bytes] = ()
    try:
        body = open_body(min(waiting.deadline, monotonic() + ERROR_BODY_TIME))
        for piece in asking(unzip(body), waiting.has_no_reader):
            content += piece
            if len(content) > ERROR_BODY_LIMIT:
                break
    except UpstreamFailure:
        pass
    finally:
        close_body(body)
    return content[:ERROR_BODY_LIMIT].decode("utf-8", "replace")
