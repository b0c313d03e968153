"""What an image counts as."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest

from sseproxy.core.images import claude_image_tokens, image_tokens


def png(width: int, height: int) -> str:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return base64.b64encode(data).decode()


def jpeg(width: int, height: int) -> str:
    comment = b"\xff\xfe" + struct.pack(">H", 40_002) + b"x" * 40_000
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return base64.b64encode(b"\xff\xd8" + comment + frame).decode()


def gif(width: int, height: int) -> str:
    return base64.b64encode(b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 8).decode()


def webp(width: int, height: int) -> str:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return base64.b64encode(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sizes).decode()


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        # The examples of OpenAI's guide.
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o-mini", (1024, 1024), "high", 2833 + 4 * 5667),
        ("openai/gpt-4.1-mini", (1024, 1024), "high", 1659),
    ],
)
@pytest.mark.parametrize("encode", [png, jpeg, gif, webp])
def test_an_image_costs_what_its_size_says(
    model: str, size: tuple[int, int], detail: str, tokens: int, encode: Any
) -> None:
    assert image_tokens(model, "data:image/any;base64," + encode(*size), detail) == tokens


def test_an_image_behind_a_url_costs_as_a_usual_one() -> None:
    assert image_tokens("gpt-4o", "https://example.com/cat.png") == 765


def test_images_of_claude() -> None:
    assert claude_image_tokens(png(200, 200)) == 54
    assert claude_image_tokens(png(1000, 1000)) == 1334
    assert claude_image_tokens(png(90_000, 90_000)) == 1600
    assert claude_image_tokens("") == 1399


@pytest.mark.parametrize(
    "data", ["", "!!!", "AAAA", png(0, 5), base64.b64encode(b"\xff\xd8\xff").decode(), "/9j/" * 99]
)
def test_what_is_no_picture_costs_as_a_usual_one(data: str) -> None:
    assert image_tokens("gpt-4o", "data:image/png;base64," + data) == 765
