"""Usage: what an answer took in tokens and, where the vendor says so, in money.

One reader for every place and name vendors use. Money is an integer count of nano-USD, parsed through Decimal, never
computed in floats. Nothing here counts tokens or knows a price table.
Shape: https://platform.openai.com/docs/api-reference/completions/object#completions/object-usage
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from sseproxy.core.tokens_apart import TokensApart, tokens_apart
from sseproxy.core.vendor_cost import NANO_PER_USD, nano_of, tidy_cost, usd_of

__all__ = ["TotalAlone", "Usage", "find_usage", "openai_usage", "read_usage", "tidy_usage", "usage_of"]

_MOST: Final = 2**53

# The rest of the world's names for OpenAI's three counts; the first with a count that is not zero wins.
_INPUT: Final = ("prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokens", "inputTokens",
                 "promptTokenCount", "inputTokenCount", "prompt_n")  # fmt: skip
_OUTPUT: Final = ("completion_tokens", "output_tokens", "eval_count", "completionTokens", "outputTokens",
                  "candidatesTokenCount", "outputTokenCount", "predicted_n")  # fmt: skip
_TOTAL: Final = ("total_tokens", "totalTokens", "totalTokenCount")
_TOOL_USE: Final = ("toolUsePromptTokenCount",)  # Gemini's: input beside the prompt, and in the total
_MEDIA: Final = ("audio_tokens", "image_tokens", "video_tokens")  # in the prompt, or, as Mistral's audio, beside it
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHED: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_read_tokens",
                  "cachedContentTokenCount", "cacheReadInputTokens", "cachedInputTokens", "cache_n",
                  "cache_read")  # fmt: skip
_WRITTEN: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens", "created_cache_tokens",
                   "cache_write_input_tokens", "cacheWriteInputTokens", "cache_creation")  # fmt: skip
_REASONING: Final = ("reasoning_tokens", "thinking_tokens", "thoughtsTokenCount", "reasoningTokens", "reasoning")
_ANTHROPIC: Final = frozenset(("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"))
_WITH_CACHES: Final = ("prompt_tokens", *_TOTAL)
_DETAILED: Final = frozenset((*_CACHED, *_WRITTEN, *_REASONING))
_RENAMED: Final = frozenset((*_INPUT, *_OUTPUT, *_TOTAL, *_INPUT_DETAILS, *_OUTPUT_DETAILS))


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer.

    :param input_tokens: all of the prompt, cached or not.
    :param cached_input_tokens: the part of it that was read from the vendor's cache.
    :param cache_write_tokens: the part of it that was written to the cache.
    :param output_tokens: all that was generated and is billed, reasoning too.
    :param reasoning_tokens: the part of it that is reasoning.
    :param cost: nano-USD, if the vendor reported a cost.
    :param apart: parts of these counts that some models price apart; None in most answers.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int | None = None
    apart: TokensApart | None = None


class TotalAlone(Usage, frozen=True):
    """The same where only the total is known, of input and output, which stands as input."""


def read_usage(payload: Mapping[str, Any]) -> Usage | None:
    """Return what a chunk or a whole answer reports, wherever it does; None if nothing, or nothing but zeros."""
    found = find_usage(payload)
    return None if found is None else usage_of(found)


def find_usage(payload: Mapping[str, Any], *, fold: bool = True) -> dict[str, Any] | None:
    """Return the usage of a chunk or an answer in OpenAI's shape (see :func:`tidy_usage`), or None.

    Looks into ``usage``, ``x_groq.usage``, ``choices[].usage``, ``response.usage`` and ``message.usage`` (typed
    streams), llama.cpp's ``timings``, then Ollama's counts beside the message.

    :param fold: see :func:`tidy_usage`.
    """
    for candidate in _candidates(payload):
        if not isinstance(candidate, dict):
            continue
        if (tidy := tidy_usage(candidate, fold=fold)) is not None:
            cost = payload.get("cost")
            if "cost" not in tidy and nano_of(cost) is not None:
                tidy["cost"] = usd_of(cost)
            return tidy
    return None


def _candidates(payload: Mapping[str, Any]) -> Iterator[Any]:
    yield payload.get("usage")
    for name in ("x_groq", "response", "message", "meta"):
        if name in payload and isinstance(payload[name], dict):
            yield payload[name].get("usage")
    choices = payload.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict):
                yield choice.get("usage")
    for name in ("usageMetadata", "timings"):
        if name in payload:
            yield payload[name]
    if "eval_count" in payload or "prompt_eval_count" in payload:
        yield {name: payload[name] for name in ("prompt_eval_count", "eval_count") if name in payload}


def tidy_usage(raw: Mapping[str, Any], *, exclusive: bool = False, fold: bool = True) -> dict[str, Any] | None:
    """Return `raw` in OpenAI's shape: its three counts, details, ``cost`` in USD, and every other field as it is.

    Idempotent. None if it says nothing: all zero is how relays spell "unknown" (CLIProxyAPI#2179). Where there is but
    a total, the other counts are 0.

    :param exclusive: the input count leaves cached and written tokens out, whatever else it says.
    :param fold: what the total counts beyond input and output is reasoning, billed as output (Gemini).
    """
    ins, outs = _details(raw, _INPUT_DETAILS), _details(raw, _OUTPUT_DETAILS)
    counts = _counts(raw, ins, outs)
    if counts.total > counts.input + counts.output:
        for beside in (_first(raw, _TOOL_USE) or 0, sum(_first(ins, (name,)) or 0 for name in _MEDIA)):
            if counts.total - counts.input - counts.output - beside in (0, counts.reasoning):
                counts.input += beside
    _repair_input(counts, exclusive=exclusive or _leaves_caches_out(raw))
    _repair_output(counts, fold=fold)
    if isinstance(raw.get("iterations"), list):
        _add_compactions(counts, raw["iterations"])
    if not (counts.input or counts.output or counts.total):
        return None
    tidy: dict[str, Any] = {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output or counts.total,
    }
    _put(ins, "cached_tokens", counts.cached)
    _put(ins, "cache_write_tokens", counts.written)
    if ins:
        tidy["prompt_tokens_details"] = ins
    _put(outs, "reasoning_tokens", counts.reasoning)
    if outs:
        tidy["completion_tokens_details"] = outs
    for name, value in raw.items():
        if name not in _RENAMED:
            tidy[name] = value
    tidy_cost(tidy)
    return tidy


class _Counts(msgspec.Struct):
    input: int
    output: int
    total: int
    cached: int | None
    written: int | None
    reasoning: int | None


def _counts(raw: Mapping[str, Any], ins: Mapping[str, Any], outs: Mapping[str, Any]) -> _Counts:
    beside: Mapping[str, Any] = {} if _DETAILED.isdisjoint(raw) else raw
    return _Counts(
        _first(raw, _INPUT) or 0,
        _first(raw, _OUTPUT) or 0,
        _first(raw, _TOTAL) or 0,
        _either(ins, beside, _CACHED),
        _either(ins, beside, _WRITTEN),
        _either(outs, beside, _REASONING),
    )


def _repair_input(counts: _Counts, *, exclusive: bool) -> None:
    """Make the input count include the cache buckets; where vendors disagree the total decides (U17, U18)."""
    buckets = (counts.cached or 0) + (counts.written or 0)
    missing = counts.total - counts.input - counts.output
    if not counts.input and counts.total > counts.output:
        if counts.output or counts.reasoning:  # else nobody knows what of it is input
            counts.input = counts.total - counts.output
    elif exclusive or (buckets and (counts.input < buckets or missing == buckets != counts.reasoning)):
        if counts.total == counts.input + counts.output:
            counts.total += buckets
        counts.input += buckets


def _leaves_caches_out(raw: Mapping[str, Any]) -> bool:
    """Whether this is Anthropic's usage or llama.cpp's timings as they are: of the prompt what no cache had, no sum."""
    return (raw.keys() >= _ANTHROPIC or "prompt_n" in raw) and raw.keys().isdisjoint(_WITH_CACHES)


def _repair_output(counts: _Counts, *, fold: bool) -> None:
    """Fold reasoning that is billed but left out of the output count: the total has it (U13 xAI, U14 Gemini), or it is
    more than all the output, of which it then is no part.
    """
    reasoning = counts.reasoning or 0
    missing = counts.total - counts.input - counts.output
    if missing > 0 and counts.input and (reasoning == missing or (fold and not reasoning)):
        counts.output += missing
        counts.reasoning = missing
    elif reasoning > counts.output:
        counts.output += reasoning


def _add_compactions(counts: _Counts, iterations: list[Any]) -> None:
    """Add what it took to sum up a conversation, which Anthropic bills and leaves out of its counts; relays may not.

    https://platform.claude.com/docs/en/build-with-claude/compaction. Advisors are other models, priced otherwise.
    """
    own = [each for each in iterations if isinstance(each, dict) and each.get("type") != "advisor_message"]
    parts = [(each.get("type"), _counts(each, {}, {})) for each in own]
    for _, part in parts:
        _repair_input(part, exclusive=True)
    if counts.input + counts.output >= sum(part.input + part.output for _, part in parts):
        return
    for kind, part in parts:
        if kind == "compaction":
            counts.input += part.input
            counts.output += part.output
            counts.cached = (counts.cached or 0) + (part.cached or 0)
            counts.written = (counts.written or 0) + (part.written or 0)


def _details(raw: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    details: dict[str, Any] = {}
    for name in names:
        value = raw.get(name)
        if isinstance(value, dict):
            details.update((each, count) for each, count in value.items() if count or each not in details)
    return details


def _put(details: dict[str, Any], name: str, count: int | None) -> None:
    if count is not None:
        details[name] = count


def _either(details: Mapping[str, Any], beside: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    if not (details or beside):
        return None
    one, other = _first(details, names), _first(beside, names)
    return one or other or (0 if one is not None or other is not None else None)


def _first(raw: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first count by these names; a zero, which relays put where they know nothing, only if there is no other."""
    found = None
    for name in names:
        if name in raw and (count := _count(raw[name])) is not None:
            if count:
                return count
            found = 0
    return found


def _count(value: Any) -> int | None:
    """Read a count; some relays write them as strings or floats (litellm core_helpers coerces them too)."""
    if type(value) is int:
        return value if 0 <= value <= _MOST else None
    if isinstance(value, (float, str)):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return None
        if number.is_finite() and 0 <= number <= _MOST:
            return int(number)
    return None


def usage_of(tidy: Mapping[str, Any]) -> Usage:
    """Return the :class:`Usage` of a mapping in OpenAI's shape."""
    ins, outs = _details(tidy, _INPUT_DETAILS), _details(tidy, _OUTPUT_DETAILS)
    alone = not (_count(tidy.get("prompt_tokens")) or _count(tidy.get("completion_tokens")))
    return (TotalAlone if alone else Usage)(
        input_tokens=_count(tidy.get("total_tokens" if alone else "prompt_tokens")) or 0,
        cached_input_tokens=_count(ins.get("cached_tokens")) or 0,
        cache_write_tokens=_count(ins.get("cache_write_tokens")) or 0,
        output_tokens=_count(tidy.get("completion_tokens")) or 0,
        reasoning_tokens=_count(outs.get("reasoning_tokens")) or 0,
        cost=nano_of(tidy.get("cost")),
        apart=tokens_apart(tidy, ins, outs),
    )


def openai_usage(usage: Usage) -> dict[str, Any]:
    """Return `usage` as OpenAI writes it, with ``cost`` in USD if it is known."""
    ins: dict[str, Any] = {"cached_tokens": usage.cached_input_tokens}
    if usage.cache_write_tokens:
        ins["cache_write_tokens"] = usage.cache_write_tokens
    answer: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": ins,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.cost is not None:
        answer["cost"] = float(Decimal(usage.cost) / NANO_PER_USD)
    return answer
