"""The body of an answer that is one JSON document: bytes to the server, a read completion to a middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from sseproxy.core.chat import Api
from sseproxy.core.chunk import read_json
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import (
    STANDARD,
    Completion,
    Dialect,
    events_of,
    normalize,
    read_canonical,
    read_completion,
    read_gathered,
)
from sseproxy.core.normalize.bodies import BODY_LIMIT
from sseproxy.core.normalize.compression import unzip
from sseproxy.wsgi.call import close_read
from sseproxy.wsgi.client import asking


class CompletionBody:
    """Parsed once however many middlewares look at it."""

    def __init__(self, completion: Completion) -> None:
        self.completion = completion

    @classmethod
    def at_once(cls, body: Iterable[bytes], api: Api) -> CompletionBody | None:
        """The answer, if it is complete already, as short ones are, and in canonical form: no need to wait for it."""
        if type(body) is list and len(body) == 1 and len(body[0]) <= BODY_LIMIT:
            canonical = read_canonical(api, body[0])
            if canonical is not None:
                return cls(canonical)
        return None

    @classmethod
    def of(
        cls,
        body: Iterable[bytes],
        api: Api,
        gone: Callable[[], bool],
        *,
        model: str = "",
        choices: int = 1,
        dialect: Dialect = STANDARD,
    ) -> CompletionBody:
        """The answer in a WSGI body, which is read to the answer's end and closed.

        :param gone: whether the client has left; called while the upstream is silent.
        :param model: the model's name, if the upstream gives none.
        :param choices: the request's ``n``.
        :param dialect: the upstream's configured peculiarities.
        :raises ClientGone: the client has left.
        :raises Failure: the body is no answer of this API.
        """
        if isinstance(body, cls):
            return body
        if (at_once := cls.at_once(body, api)) is not None:
            return at_once
        try:
            return cls(_read(_unpacked(body, gone), api, model, choices, dialect))
        finally:
            close_read(body)

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.completion.body])


def collect(body: Iterable[bytes], gone: Callable[[], bool], limit: int = BODY_LIMIT) -> bytes:
    """All of a body, uncompressed; closes it.

    :raises UpstreamFailure: it is larger than ``limit`` bytes, or broken.
    :raises ClientGone: the client left while the upstream was silent.
    """
    try:
        return b"".join(_unpacked(body, gone, limit))
    finally:
        close_read(body)


def _read(pieces: Iterator[bytes], api: Api, model: str, choices: int, dialect: Dialect) -> Completion:
    """A document is read as it is; a stream that was not requested is gathered into one completion."""
    head = next((piece for piece in pieces if piece.strip()), b"")
    if api == "embeddings" or head.lstrip().startswith(b"{"):
        document = _document(head, pieces)
        if (canonical := read_canonical(api, document)) is not None:
            return canonical
        answer = _answer(document)
        if api == "embeddings" or answer is not None:
            return read_completion(api, document, answer=answer, model=model, fold=dialect.reasoning_in_total)
        head = document
    events = normalize(events_of(chain([head], pieces)), api=api, model=model, choices=choices, dialect=dialect)
    return read_gathered(events, api, model=model)


def _document(head: bytes, pieces: Iterator[bytes]) -> bytes:
    """The whole body, or the document in it if the upstream keeps the connection open after that."""
    read = [head]
    for piece in pieces:
        if not piece and _answer(b"".join(read)) is not None:
            break
        read.append(piece)
    return b"".join(read)


def _answer(document: bytes) -> Any:
    """The JSON in a document; None if it is none."""
    try:
        return read_json(document)
    except ValueError:
        return None


def _unpacked(body: Iterable[bytes], gone: Callable[[], bool], limit: int = BODY_LIMIT) -> Iterator[bytes]:
    size = 0
    for piece in asking(unzip(body), gone):
        size += len(piece)
        if size > limit:
            raise UpstreamFailure(f"The upstream's answer is larger than {limit} bytes.", code="answer_too_large")
        yield piece
