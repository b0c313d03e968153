"""What a file or a recording in a request counts as: plain text by its text, all else by its size. Pure.

Of a page of a PDF Claude is shown the text and a picture, 1,500 to 3,000 tokens
(https://platform.claude.com/docs/en/build-with-claude/pdf-support); a page takes some 10 to 30 kB. OpenAI counts a
token per 100 ms that a user speaks (https://platform.openai.com/docs/guides/realtime-costs).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

#: Bytes of a file that is no plain text, for each token.
_PER_TOKEN: Final = 8
#: The same of a recording: 100 ms at 32 kbit/s, as speech is compressed, and at 16 kHz and 16 bits, as it is not.
_COMPRESSED: Final = 400
_WAVE: Final = 3200
_WAVES: Final = frozenset(("wav", "pcm16"))
_BASE64: Final = str.maketrans("-_", "+/", "\r\n")


def file_contents(data: str) -> str | int:
    """What a file in base64 says, if it is plain text; else the tokens that it is taken to count.

    What is no base64 is text itself.
    """
    encoded = data.translate(_BASE64).rstrip("=")
    try:
        contents = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return data
    try:
        return contents.decode()
    except UnicodeDecodeError:
        return -(-len(contents) // _PER_TOKEN)


def audio_tokens(data: str, kind: str) -> int:
    """What a recording in base64 is taken to count.

    :param kind: ``wav``, ``mp3`` …
    """
    return -(-len(data) * 3 // 4 // (_WAVE if kind in _WAVES else _COMPRESSED))
