"""The finish: one reason per choice, out of OpenAI's set, in a chunk of its own with an empty delta.

What the upstream called it is kept as ``native_finish_reason`` where it had to be renamed (OpenRouter's name for it).
Names: https://github.com/BerriAI/litellm core_helpers, Portkey providers/*/types.ts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args

from sseproxy.core.chunk import Chunk
from sseproxy.core.sse import Event

__all__ = ["OF_TOKENS", "REASONS", "Reason", "fails", "finish_of", "halves", "tidy_finish"]

Reason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
REASONS: Final = frozenset(get_args(Reason))
_RENAMED: Final = {
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "end", "complete", "completed", "done"), "stop"),
    **dict.fromkeys(("max_tokens", "model_length", "max_length", "max_output_tokens", "token_limit", "error_limit",
                     "insufficient_system_resource", "incomplete", "context_length", "context_length_exceeded",
                     "model_context_window_exceeded", "truncated", "timeout", "time_limit"), "length"),
    **dict.fromkeys(("tool_use", "tool_call", "function_calls", "tool"), "tool_calls"),
    **dict.fromkeys(("content_filtered", "safety", "recitation", "sensitive", "refusal", "blocklist",
                     "prohibited_content", "spii", "content-filter", "guardrail_intervened", "error_toxic",
                     "image_safety", "image_prohibited_content", "image_recitation"), "content_filter"),
}  # fmt: skip
# Of answers that are not whole: OpenRouter's and Cohere's; vLLM's and SGLang's; z.ai's; Gemini's.
_FAILED: Final = frozenset(("error", "abort", "cancelled", "network_error", "malformed_function_call",
                            "unexpected_tool_call", "malformed_response"))  # fmt: skip
_NONE: Final = frozenset(("", "null", "none", "unspecified"))
OF_TOKENS: Final = ("logprobs", "token_ids")
"""What a choice says of the tokens of its text: OpenAI's, vLLM's."""
_PAYLOAD: Final = frozenset(("index", "delta", "text", *OF_TOKENS))


def finish_of(reason: Any, *, calls: bool) -> str | None:
    """Return OpenAI's name for a finish reason; None if it is none yet.

    :param calls: the choice has made tool calls, so ``stop`` cannot be meant (Gemini).
    """
    name = _plain(reason)
    if name is None or name in _NONE:
        return None
    finish = name if name in REASONS else _RENAMED.get(name, "stop")
    return "tool_calls" if calls and finish in ("stop", "function_call") else finish


def fails(reason: Any) -> bool:
    """Whether a finish reason says that the answer is not whole."""
    return _plain(reason) in _FAILED


def _plain(reason: Any) -> str | None:
    """A reason in small letters, without the name of its enumeration (``FinishReason.MAX_TOKENS``); of Gemini's
    ``content_filter: RECITATION`` the kind, or what failed.
    """
    if not isinstance(reason, str):
        return None
    kind, _, detail = reason.lower().partition(": ")
    return detail if detail in _FAILED else kind.rpartition(".")[2].removeprefix("finish_reason_")


def tidy_finish(events: Iterator[Event]) -> Iterator[Event]:
    """Name every finish reason and give it a chunk of its own."""
    calling: set[int] = set()
    for event in events:
        if type(event) is not Chunk or not event.body["choices"]:
            yield event
            continue
        finished: list[dict[str, Any]] = []
        for choice in event.body["choices"]:
            delta = choice.get("delta")
            if delta and "tool_calls" in delta:
                calling.add(choice["index"])
            given = choice.get("finish_reason")
            finish = finish_of(given, calls=choice["index"] in calling)
            if finish != given or "finish_reason" not in choice:
                choice["finish_reason"] = finish
            if finish is not None:
                if given != finish:
                    choice.setdefault("native_finish_reason", given)
                finished.append(choice)
        if finished:
            event.steady = False
            yield from _part(event, finished)
        else:
            yield event


def halves(choice: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a choice with its finish as one that goes on, and what it says of its end."""
    said = {name: value for name, value in choice.items() if name in _PAYLOAD}
    end = {name: value for name, value in choice.items() if name not in _PAYLOAD}
    return {**said, "finish_reason": None}, end


def _part(event: Chunk, finished: list[dict[str, Any]]) -> Iterator[Event]:
    """Yield what the chunk carries beside its finishes, then one chunk per finish."""
    envelope = {name: value for name, value in event.body.items() if name not in ("choices", "usage")}
    rest = []
    for choice in event.body["choices"]:
        if choice not in finished:
            rest.append(choice)
        elif _carries(choice):
            rest.append(halves(choice)[0])
    ends = []
    for choice in finished:
        _, end = halves(choice)
        if not _carries(choice):
            end = {name: choice[name] for name in OF_TOKENS if name in choice} | end
        if "text" in choice:
            ends.append({"text": "", "index": choice["index"], "logprobs": None, **end})
        else:
            ends.append({"index": choice["index"], "delta": {}, **end})
    usage = {"usage": event.body["usage"]} if "usage" in event.body else {}
    if not rest and len(ends) == 1:
        event.body["choices"] = ends
        yield event
        return
    if rest:
        yield Chunk(body={**envelope, "choices": rest}, steady=False)
    for position, end in enumerate(ends):
        body = {**envelope, "choices": [end], **(usage if position == 0 else {})}
        yield Chunk(body=body, steady=False, sure=event.sure and not rest)


def _carries(choice: dict[str, Any]) -> bool:
    if choice.get("text") or choice.get("logprobs"):
        return True
    return any(value != "" for value in (choice.get("delta") or {}).values())
