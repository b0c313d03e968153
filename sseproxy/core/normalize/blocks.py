"""What the blocks of an Anthropic message say.

Specification: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

from typing import Any

from sseproxy.core.chunk import write_json

__all__ = ["texts_in_blocks"]


def texts_in_blocks(blocks: Any) -> tuple[str, str]:
    """Return what a list of blocks says: visible text, and other billed output."""
    content = hidden = ""
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, dict):
            continue
        given = block.get("input")
        content += _text(block.get("text"))
        hidden += _text(block.get("thinking")) + _text(block.get("name"))
        hidden += _text(block.get("content")) if block.get("type") == "compaction" else ""  # else it is a result
        hidden += write_json(given).decode() if isinstance(given, dict) else ""
    return content, hidden


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
