"""Recognises a whole answer that needs no repair: one look at each field, nothing written.

What is not recognised may still be canonical; repairing it then changes no byte of it (see ``completion``).
"""

from __future__ import annotations

from typing import Any, Final

from sseproxy.core.chunk import write_json
from sseproxy.core.normalize.finish import REASONS

__all__ = ["OBJECTS", "is_canonical"]

OBJECTS: Final = {"chat": "chat.completion", "completions": "text_completion"}
_TEXTS: Final = ("content", "refusal", "reasoning_content")
# Fields of a message that are rewritten, or that others are made of.
_REWORKED: Final = frozenset(
    ("tool_calls", "function_call", "reasoning", "thinking", "reasoning_text", "reasoning_details")
)
_MOST: Final = 2**53


def is_canonical(api: str, answer: dict[str, Any], usage: dict[str, Any] | None) -> bool:
    """Tell whether `answer` is just as a client expects it.

    :param api: ``chat`` or ``completions``.
    :param usage: what :func:`~sseproxy.core.usage.find_usage` finds in it.
    """
    choices = answer.get("choices")
    created = answer.get("created")
    return (
        answer.get("object") == OBJECTS[api]
        and _is_name(answer.get("id"))
        and _is_name(answer.get("model"))
        and type(created) is int
        and 0 < created < _MOST
        and type(choices) is list
        and bool(choices)
        and all(_is_choice(api, choice) for choice in choices)
        and ("usage" not in answer if usage is None else write_json(usage) == write_json(answer.get("usage")))
    )


def _is_name(value: Any) -> bool:
    return type(value) is str and value != ""


def _is_choice(api: str, choice: Any) -> bool:
    return (
        type(choice) is dict
        and type(choice.get("index")) is int
        and "usage" not in choice
        and _is_finish(choice.get("finish_reason"))
        and (api != "chat" or ("delta" not in choice and _is_message(choice.get("message"))))
    )


def _is_finish(value: Any) -> bool:
    return type(value) is str and value in REASONS


def _is_message(message: Any) -> bool:
    return (
        type(message) is dict
        and "content" in message
        and _is_name(message.get("role"))
        and _REWORKED.isdisjoint(message)
        and all(message.get(name) is None or type(message[name]) is str for name in _TEXTS)
    )
