"""Tokens that some models price apart: written to a cache that keeps them for an hour; audio, images, video.

Kinds are called as genai-prices calls their rates. No token is of two kinds. Knows no price.
Shapes: https://platform.openai.com/docs/api-reference/chat/object#chat/object-usage,
https://docs.claude.com/en/api/messages (``cache_creation``), LiteLLM's ``cache_creation_token_details``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["PART_OF", "UNCACHED", "TokensApart", "tokens_apart"]

TokensApart = tuple[tuple[str, int], ...]
"""Kinds and how many tokens there are of each."""

_MODALITIES: Final = ("audio", "image", "video")
_MEDIA: Final = tuple((f"{it}_tokens", f"input_{it}", f"cache_{it}_read", f"output_{it}") for it in _MODALITIES)

PART_OF: Final = {
    "cache_write_1h": "cache_write",
    **{f"input_{it}": "input" for it in _MODALITIES},
    **{f"cache_{it}_read": "cache_read" for it in _MODALITIES},
    **{f"output_{it}": "output" for it in _MODALITIES},
}
"""Kinds and the wider kind whose rate is theirs where a model has no other; ``input`` is what no cache holds."""

UNCACHED: Final = {f"cache_{it}_read": f"input_{it}" for it in _MODALITIES}
"""What such tokens are where a model has no price for cached ones."""


def tokens_apart(usage: Mapping[str, Any], ins: Mapping[str, Any], outs: Mapping[str, Any]) -> TokensApart | None:
    """Return what a usage in OpenAI's shape and its details tell of such tokens; None if nothing."""
    counts = {}
    if written := usage.get("cache_creation") or ins.get("cache_creation_token_details"):
        counts["cache_write_1h"] = _count(written, "ephemeral_1h_input_tokens")
    cached = ins.get("cached_tokens_details")
    for name, given, read, made in _MEDIA:
        if name in ins:
            counts[read] = _count(cached, name)
            counts[given] = _count(ins, name) - counts[read]
        if name in outs:
            counts[made] = _count(outs, name)
    return tuple((kind, count) for kind, count in counts.items() if count > 0) or None


def _count(details: Any, name: str) -> int:
    count = details.get(name) if isinstance(details, dict) else None
    return count if type(count) is int and count > 0 else 0
