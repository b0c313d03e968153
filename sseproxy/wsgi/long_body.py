"""The body of an answer that is too long to be kept, or no JSON: passed on as it arrives, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from sseproxy.core.long_answer import END, Ends
from sseproxy.core.normalize.compression import unzip
from sseproxy.core.usage import Usage
from sseproxy.wsgi.call import close_body
from sseproxy.wsgi.client import asking

KEPT: Final = 1024 * 1024
"""Bytes up to which an answer is read as a whole."""


class LongBody:
    """An iterable of bytes that knows at its end what usage was reported in them.

    :param pieces: the body, uncompressed.
    :param about: metadata beside the body, which may end with the usage.
    """

    def __init__(self, body: Iterable[bytes], pieces: Iterator[bytes], about: bytes = b"") -> None:
        self._body = body
        self._pieces = pieces
        self._ends = Ends()
        self._ends.feed(about[-END:])

    @classmethod
    def begin(cls, body: Iterable[bytes], gone: Callable[[], bool]) -> LongBody | list[bytes]:
        """The answer, whole if it is short, with its body closed.

        :param gone: whether the client has left; called while the upstream is silent.
        :raises ClientGone: the client has left.
        :raises UpstreamFailure: the body broke off.
        """
        if isinstance(body, cls):
            return body
        pieces = unzip(body)
        head: list[bytes] = []
        size = 0
        try:
            for piece in asking(pieces, gone):
                head.append(piece)
                size += len(piece)
                if size > KEPT:
                    return cls(body, chain(head, pieces))
        except BaseException:
            close_body(body)
            raise
        close_body(body)
        return head

    def usage(self) -> Usage | None:
        """What the part of the answer that has passed reports."""
        return self._ends.usage()

    def __iter__(self) -> LongBody:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._ends.feed(piece)
        return piece

    def close(self) -> None:
        """Hang up."""
        close_body(self._body)
