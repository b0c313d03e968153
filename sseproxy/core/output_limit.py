"""How many tokens of output a request allows, as far as its upstream can be trusted to read that. Pure."""

from __future__ import annotations

from typing import Final

from sseproxy.core.chat import OUTPUT_LIMITS, Api, Request, peek_number

_OWN: Final[dict[Api, tuple[str, ...]]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "embeddings": (),
}
"""The names that it has in each API. By that of another one nothing is limited: most upstreams pass it over."""


def output_limit(request: Request) -> int | None:
    """The most output tokens the client allows per choice, if it set a sane limit: of several the largest, for no
    upstream reads all of them. llama.cpp's reads its own ``n_predict`` before OpenAI's.
    """
    stated: dict[str, int] = {
        name: peek_number(request.fields, name) for name in OUTPUT_LIMITS if name in request.fields
    }
    return max(stated.values()) if any(stated.get(name) for name in _OWN[request.api]) else None
