"""Recognises usage that is in OpenAI's own shape, or llama.cpp's: one typed look, where putting it right takes sixty.

What is not recognised may still be in that shape; :func:`~sseproxy.core.usage.tidy_usage` then leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sseproxy.core.usage import Usage

__all__ = ["PLAIN", "plain_counts", "plain_usage", "timed_counts", "timed_fields"]

_Count = Annotated[int, Meta(ge=0, le=2**52)]
#: Of what is priced apart there is none.
_Nothing = Literal[0, None]
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS: Final = ("prompt_tokens_details", "completion_tokens_details")
PLAIN: Final = frozenset((*_COUNTS, *_DETAILS))
"""The fields that may be in it."""
_ORDERS: Final = frozenset(((*_COUNTS,), (*_COUNTS, _DETAILS[0]), (*_COUNTS, _DETAILS[1]), (*_COUNTS, *_DETAILS)))
_RENAMED: Final = ("prompt_n", "predicted_n")
"""The counts among llama.cpp's timings; all else in them stays."""


class _Input(msgspec.Struct, frozen=True):
    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    # What others call the same.
    prompt_cache_hit_tokens: UnsetType = UNSET
    cache_read_input_tokens: UnsetType = UNSET
    cache_read_tokens: UnsetType = UNSET
    cachedContentTokenCount: UnsetType = UNSET
    cacheReadInputTokens: UnsetType = UNSET
    cachedInputTokens: UnsetType = UNSET
    cache_n: UnsetType = UNSET
    cache_creation_tokens: UnsetType = UNSET
    cache_creation_input_tokens: UnsetType = UNSET
    cache_write_input_tokens: UnsetType = UNSET
    created_cache_tokens: UnsetType = UNSET
    cacheWriteInputTokens: UnsetType = UNSET
    cache_read: UnsetType = UNSET
    cache_creation: UnsetType = UNSET
    audio_tokens: _Nothing = 0
    image_tokens: _Nothing = 0
    video_tokens: _Nothing = 0
    cached_tokens_details: UnsetType = UNSET
    cache_creation_token_details: UnsetType = UNSET


class _Output(msgspec.Struct, frozen=True):
    reasoning_tokens: _Count = 0
    thinking_tokens: UnsetType = UNSET
    thoughtsTokenCount: UnsetType = UNSET
    reasoningTokens: UnsetType = UNSET
    reasoning: UnsetType = UNSET
    audio_tokens: _Nothing = 0
    image_tokens: _Nothing = 0
    video_tokens: _Nothing = 0


class _Plain(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: Annotated[int, Meta(gt=0, le=2**53)]
    prompt_tokens_details: _Input = _Input()
    completion_tokens_details: _Output = _Output()


class _Timings(msgspec.Struct, forbid_unknown_fields=True):
    """Of llama.cpp, with each token where it is asked to."""

    prompt_n: _Count
    predicted_n: _Count
    cache_n: _Count
    prompt_ms: Any = None
    prompt_per_token_ms: Any = None
    prompt_per_second: Any = None
    predicted_ms: Any = None
    predicted_per_token_ms: Any = None
    predicted_per_second: Any = None
    draft_n: Any = None
    draft_n_accepted: Any = None


# What msgspec knows of a type it puts together at the first use, and two threads at that crash the process.
msgspec.convert({"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}, _Plain)
msgspec.convert({"prompt_n": 1, "predicted_n": 0, "cache_n": 0}, _Timings)


def plain_usage(raw: Mapping[str, Any]) -> Usage | None:
    """Return what a mapping says if tidying would change nothing of it, not even its order; None if it might."""
    usage = plain_counts(raw, fold=False) if (*raw,) in _ORDERS else None
    return usage if usage is not None and usage.output_tokens == raw["completion_tokens"] else None


def plain_counts(raw: Mapping[str, Any], *, fold: bool) -> Usage | None:
    """Return what a mapping says with no fields but :data:`PLAIN`, in whichever order.

    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`; reasoning that is left out of the output is none of the
        prompt's, if no cache has to do with it.
    """
    try:
        usage = msgspec.convert(raw, _Plain)
    except msgspec.ValidationError:
        return None
    ins, outs = usage.prompt_tokens_details, usage.completion_tokens_details
    given, output, reasoning = usage.prompt_tokens, usage.completion_tokens, outs.reasoning_tokens
    held = ins.cached_tokens + ins.cache_write_tokens
    missing = usage.total_tokens - given - output
    if missing > 0 and given and not held and (reasoning == missing or (fold and not reasoning)):
        output, reasoning = output + missing, missing
    elif missing or given < held or output < reasoning:
        return None
    return None if {} in raw.values() else Usage(given, ins.cached_tokens, ins.cache_write_tokens, output, reasoning)


def timed_counts(raw: Mapping[str, Any]) -> Usage | None:
    """Return what llama.cpp's timings say; None if they are in any other shape than it gives them now."""
    try:
        timings = msgspec.convert(raw, _Timings)
    except msgspec.ValidationError:
        return None
    cached = timings.cache_n
    return Usage(timings.prompt_n + cached, cached, 0, timings.predicted_n, 0)


def timed_fields(raw: Mapping[str, Any]) -> list[str]:
    """Return the fields that such timings have once they are put right, in their order."""
    return [*_COUNTS, _DETAILS[0], *(name for name in raw if name not in _RENAMED)]
