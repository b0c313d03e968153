"""What an upstream says when it refuses a request: read as far as it is worth it, whatever becomes of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize.compression import unzip
from sseproxy.wsgi.call import close_body
from sseproxy.wsgi.client import asking

ERROR_BODY_LIMIT: Final = 64 * 1024


def read_refusal(open_body: Callable[[], Iterable[bytes]], gone: Callable[[], bool]) -> str:
    """The text of an answer that refuses, uncompressed.

    :param open_body: gives its body, or raises what is wrong with it from the beginning.
    :raises ClientGone: the client has left meanwhile.
    """
    content = b""
    body: Iterable[bytes] = ()
    try:
        body = open_body()
        for piece in asking(unzip(body), gone):
            content += piece
            if len(content) > ERROR_BODY_LIMIT:
                break
    except UpstreamFailure:
        pass
    finally:
        close_body(body)
    return content[:ERROR_BODY_LIMIT].decode("utf-8", "replace")
