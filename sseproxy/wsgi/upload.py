"""Request bodies as the server provides them: read whole, or passed on as they arrive. Bounded either way."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any, cast

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import LimitedStream, get_content_length

from sseproxy.core.chat import BadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

STREAMED_FROM = 256 * 1024
"""Bytes from which on a body that is not parsed is streamed instead of held in memory."""
STEP = 64 * 1024
"""Bytes per read: werkzeug allocates as many as it is asked for."""
NEEDS_LENGTH = "The request body needs a Content-Length: the server here does not say where a chunked one ends."


class Upload(io.RawIOBase):
    """A body that can be read once, piece by piece.

    :param head: what was read already.
    :param rest: where the rest is read from.
    :param limit: the most bytes it may have.
    :param length: its stated length; None: unknown.
    """

    def __init__(self, head: bytes, rest: IO[bytes], limit: int, length: int | None = None) -> None:
        self._head = head
        self._rest = rest
        self._limit = limit
        self._given = 0
        self.length = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what is available; 0 at the end.

        :raises BadRequest: the body is longer than its limit, or does not have its stated length.
        """
        piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        piece = piece or read_input(self._rest, len(buffer))
        self._given += len(piece)
        if self._given > self._limit:
            raise too_large(self._limit)
        is_longer = self.length is not None and self._given > self.length
        if is_longer or (not piece and len(buffer)):
            _check_length(self._given, self.length)
        buffer[: len(piece)] = piece
        return len(piece)


def open_body(environ: WSGIEnvironment, limit: int) -> bytes | Upload:
    """The request's body: the bytes if it is short, else a stream.

    :raises BadRequest: it is known to be longer than ``limit`` bytes, has no known end, is malformed or truncated.
    """
    stream, length = _open(environ, limit)
    head = b""
    while len(head) <= STREAMED_FROM and (piece := read_input(stream, STREAMED_FROM + 1 - len(head))):
        head += piece
    if len(head) > limit:
        raise too_large(limit)
    if len(head) > STREAMED_FROM:
        return Upload(head, stream, limit, length)
    _check_length(len(head), length)
    return head


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """All of the request's body.

    :raises BadRequest: it is longer than ``limit`` bytes, has no known end, is malformed or truncated.
    """
    stream, length = _open(environ, limit)
    pieces: list[bytes] = []
    left = limit
    # One byte more than the stated length, so that a body that is there as a whole takes one read.
    step = STEP if length is None or length >= STEP else length + 1
    while piece := read_input(stream, step if step <= left else left + 1):
        if len(piece) == length and not pieces:
            return piece
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise too_large(limit)
    _check_length(limit - left, length)
    return b"".join(pieces)


def _open(environ: WSGIEnvironment, limit: int) -> tuple[IO[bytes], int | None]:
    """The stream to read the body from, and its length where one is stated."""
    stated = environ.get("CONTENT_LENGTH", "")
    is_terminated, is_coded = environ.get("wsgi.input_terminated"), "HTTP_TRANSFER_ENCODING" in environ
    is_plain = stated.isdecimal() and stated.isascii() and len(stated) < 10 and not (is_coded and is_terminated)
    length = int(stated) if is_plain else get_content_length(environ)
    if length is not None and length > limit:
        raise too_large(limit)
    given: IO[bytes] = environ["wsgi.input"]
    if is_terminated:
        return given, length
    # Elsewhere only the length tells the end (PEP 3333), even if the body came chunked: nginx gives uWSGI the length.
    if length is None and is_coded:
        raise BadRequest(NEEDS_LENGTH, status=411, code="length_required")
    return cast("IO[bytes]", LimitedStream(given, length or 0)), length


def _check_length(given: int, stated: int | None) -> None:
    """A server that ends the input itself (``wsgi.input_terminated``) may not check: gunicorn's input just ends."""
    if stated is not None and given != stated:
        raise _malformed()


def read_input(stream: IO[bytes], size: int) -> bytes:
    """At most ``size`` bytes of a server's input.

    :raises BadRequest: the body is malformed or ended too early.
    """
    try:
        return stream.read(size)
    except (ClientDisconnected, OSError, ValueError) as error:
        raise _malformed() from error
    except Exception as error:
        if type(error).__module__.startswith("gunicorn."):  # which parses chunks while they are read
            raise BadRequest("The request body's chunked framing is malformed.") from error
        raise


def _malformed() -> BadRequest:
    return BadRequest("The request body is malformed or ended before its stated length.")


def too_large(limit: int) -> BadRequest:
    """The refusal of a body that is longer than the limit."""
    message = f"The request body is larger than {limit} bytes, the most that is accepted here."
    return BadRequest(message, status=413, code="request_too_large")
