"""The models that a request names beside its own, for an upstream that has others answer where that one fails. Pure.

OpenRouter: https://openrouter.ai/docs/features/model-routing. LiteLLM: https://docs.litellm.ai/docs/proxy/reliability.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chat import Request, peek_field

_FIELDS: Final = ("models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_OF_TEXTS: Final = frozenset(("stop", "modalities"))
"""Fields of a request whose lists are of no names."""


def further_models(request: Request) -> Iterator[str]:
    """Their names, as the upstream reads them."""
    for field in _FIELDS:
        if field in request.fields:
            for item in peek_field(request.fields, field, list[Any]) or ():
                yield from _names_in(item)


def _names_in(item: Any) -> Iterator[str]:
    """A name; a request of its own with ``model``, which may name others; a model's name with the list of those that
    stand in for it.
    """
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict):
        for key, value in item.items():
            if isinstance(value, list) and key in _FIELDS:
                for further in value:
                    yield from _names_in(further)
            elif key not in _OF_TEXTS:
                names = value if isinstance(value, list) else [value] if key == "model" else []
                yield from (name for name in names if isinstance(name, str))
