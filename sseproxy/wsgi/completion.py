"""The body of an answer that is one JSON document: bytes to the server, a read completion to a middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sseproxy.core.chat import Api
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import Completion, read_completion
from sseproxy.wsgi.call import close_body
from sseproxy.wsgi.client import ClientGone

MAX_DOCUMENT: Final = 64 * 1024 * 1024


class CompletionBody:
    """Parsed once however many middlewares look at it."""

    def __init__(self, completion: Completion) -> None:
        self.completion = completion

    @classmethod
    def of(cls, body: Iterable[bytes], api: Api, gone: Callable[[], bool]) -> CompletionBody:
        """The document behind a WSGI body, which is read to its end and closed.

        :param gone: tells whether the client has left; asked while the upstream is silent.
        :raises ClientGone: it has.
        :raises Failure: the body is no answer of this API.
        """
        if isinstance(body, cls):
            return body
        return cls(read_completion(api, collect(body, gone)))

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.completion.body])


def collect(body: Iterable[bytes], gone: Callable[[], bool], limit: int = MAX_DOCUMENT) -> bytes:
    """All of a body, which is closed then.

    :raises UpstreamFailure: it is larger than ``limit`` bytes.
    :raises ClientGone: the client left while the upstream was silent.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in body:
            if not piece and gone():
                raise ClientGone
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise UpstreamFailure(f"The upstream's answer is larger than {limit} bytes.", code="answer_too_large")
    finally:
        close_body(body)
    return b"".join(pieces)
