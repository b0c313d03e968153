"""Compression that a body has come in all the same, found by its first bytes: no header is believed, none is asked."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final

from sseproxy.core.failure import UpstreamFailure

__all__ = ["ZIPPED", "BrokenCompression", "unzip"]

_STEP: Final = 64 * 1024
# gzip, and zlib as "deflate" is spelt (RFC 1950): no text begins like either.
_MAGIC: Final = (b"\x1f\x8b", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
ZIPPED: Final = b"\x1fx"  # what those begin with
_TICK: Final = 1.0
"""Seconds of bytes that come to nothing, after which they are as good as silence."""
_EITHER: Final = 32 + zlib.MAX_WBITS


class BrokenCompression(UpstreamFailure):
    """What came compressed cannot be read any further."""

    def __init__(self) -> None:
        super().__init__(
            "The upstream's compressed answer is broken.", type="upstream_truncated", code="upstream_truncated"
        )


def unzip(pieces: Iterable[bytes], is_plain: Callable[[], object] = lambda: None) -> Iterator[bytes]:
    """Undo gzip (or deflate) where the bytes are that, whatever a header says; other bytes pass (open-webui#23920).

    Pieces come out as they come in, never more than 64 KiB at a time, so that a small bomb stays small.

    :param is_plain: called when it is known that all pieces pass.
    :raises BrokenCompression: in the middle.
    """
    held = b""
    plain = False
    inflate = None
    told_at = 0.0
    for piece in pieces:
        if plain:
            yield piece
            continue
        if not piece:
            yield piece
            told_at = monotonic()
            continue
        if inflate is None:
            held += piece
            if held in (b"\x1f", b"x"):
                continue
            if held[:2] not in _MAGIC:
                plain = True
                is_plain()
                yield held
                continue
            piece, inflate, told_at = held, zlib.decompressobj(_EITHER), monotonic()
        while piece:
            try:
                plain_piece = inflate.decompress(piece, _STEP)
            except zlib.error as error:
                raise BrokenCompression from error
            if plain_piece:  # an empty one would say that the upstream is idle
                yield plain_piece
                told_at = monotonic()
            piece = inflate.unconsumed_tail
            if inflate.eof:
                piece = inflate.unused_data.lstrip(b"\0")
                inflate = zlib.decompressobj(_EITHER)
        if monotonic() - told_at >= _TICK:
            yield b""
            told_at = monotonic()
    if held and not plain and inflate is None:
        yield held
