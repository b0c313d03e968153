"""How many tokens of output a request allows, as far as its upstream can be trusted to read that. Pure."""

from __future__ import annotations

from typing import Final

from sseproxy.core.chat import OUTPUT_LIMITS, Api, Request, peek_field, peek_number

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
    upstream reads all of them. llama.cpp's reads its own ``n_predict`` before OpenAI's, and a negative one as none.
    """
    fields = request.fields
    stated: dict[str, int] = {name: peek_number(fields, name) for name in OUTPUT_LIMITS if name in fields}
    if not any(stated.get(name) for name in _OWN[request.api]):
        return None
    is_lifted = any((peek_field(fields, name, float) or 0) < 0 for name, limit in stated.items() if not limit)
    return None if is_lifted else max(stated.values())
