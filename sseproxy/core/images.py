"""What an image in a request counts as, in tokens, from its header and its ``detail``. Pure; decodes no picture.

https://platform.openai.com/docs/guides/images-vision#calculating-costs and, for Claude,
https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Final

#: Assumed where the request shows only a URL.
_UNKNOWN_SIZE: Final = (1024, 1024)
#: Enough for the header of any format; a JPEG may carry a preview and a colour profile before its size.
_HEAD: Final = 256 * 1024
#: By the beginning of a model's name, the first match wins: tokens per image, and per tile of 512 x 512.
_TILES: Final = (("gpt-4o-mini", 2833, 5667), ("gpt-5", 70, 140), ("o1", 75, 150), ("o3", 75, 150), ("", 85, 170))
#: The same: what a patch of 32 x 32 counts.
_PATCHES: Final = (
    ("gpt-4.1-mini", 1.62), ("gpt-4.1-nano", 2.46), ("gpt-5-mini", 1.62), ("gpt-5-nano", 2.46), ("o4-mini", 1.72),
)  # fmt: skip
_MOST_PATCHES: Final = 1536
_CLAUDE_EDGE: Final = 1568
_CLAUDE_PIXELS_PER_TOKEN: Final = 750
_CLAUDE_MOST: Final = 1600


def image_tokens(model: str, url: str, detail: str = "auto") -> int:
    """What one image costs an OpenAI model.

    :param url: a ``data:`` URL shows its size; for any other a square of 1024 is assumed.
    :param detail: ``low`` is the price of a thumbnail whatever the size.
    """
    name = model.rpartition("/")[2].lower()
    width, height = _size_of_url(url)
    for begins, factor in _PATCHES:
        if name.startswith(begins):
            return math.ceil(min(math.ceil(width / 32) * math.ceil(height / 32), _MOST_PATCHES) * factor)
    per_image, per_tile = next((base, tile) for begins, base, tile in _TILES if name.startswith(begins))
    if detail == "low":
        return per_image
    return per_image + per_tile * _tiles(width, height)


def claude_image_tokens(data: str) -> int:
    """What one image costs a Claude model.

    :param data: base64 of the picture; empty if the request shows only a URL.
    """
    width, height = _size(data) or _UNKNOWN_SIZE
    shrink = min(1.0, _CLAUDE_EDGE / max(width, height))
    return min(math.ceil(width * shrink * height * shrink / _CLAUDE_PIXELS_PER_TOKEN), _CLAUDE_MOST)


def _tiles(width: int, height: int) -> int:
    """Tiles after the picture was made to fit 2048 x 2048, and its short side 768."""
    shrink = min(1.0, 2048 / max(width, height))
    shrink *= min(1.0, 768 / (min(width, height) * shrink))
    return math.ceil(round(width * shrink) / 512) * math.ceil(round(height * shrink) / 512)


def _size_of_url(url: str) -> tuple[int, int]:
    if not url.startswith("data:"):
        return _UNKNOWN_SIZE
    return _size(url.partition(",")[2]) or _UNKNOWN_SIZE


def _size(data: str) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, WebP or JPEG in base64; ``None`` if it is none of them."""
    text = data[:_HEAD]
    try:
        head = base64.b64decode(text[: len(text) // 4 * 4])
    except (binascii.Error, ValueError):
        return None
    try:
        width, height = _read_size(head)
    except (struct.error, IndexError, ValueError):
        return None
    return (width, height) if 0 < width < 2**17 and 0 < height < 2**17 else None


def _read_size(head: bytes) -> tuple[int, ...]:
    if head.startswith(b"\x89PNG"):
        return struct.unpack(">II", head[16:24])
    if head.startswith(b"GIF8"):
        return struct.unpack("<HH", head[6:10])
    if head.startswith(b"\xff\xd8"):
        return _read_jpeg_size(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _read_webp_size(head)
    raise ValueError("no picture that is known here")


def _read_jpeg_size(head: bytes) -> tuple[int, ...]:
    """Walk the segments to the frame header (SOF). ITU T.81, annex B."""
    at = 2
    while at < len(head):
        marker, length = head[at + 1], struct.unpack(">H", head[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height
        at += 2 + max(length, 2)
    raise ValueError("no frame header")


def _read_webp_size(head: bytes) -> tuple[int, ...]:
    """RFC 9649: extended, lossless and lossy files say it in three ways."""
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF
