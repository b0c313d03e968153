"""One chunk of a streamed answer between the transforms: its JSON, read once and written once.

Nothing here knows a vendor.
Specification: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sseproxy.core.intricate import MOST_PARTS_OF_ANSWER, is_intricate
from sseproxy.core.sse import Event

if TYPE_CHECKING:
    from sseproxy.core.failure import Failure
    from sseproxy.core.usage import Usage

__all__ = [
    "ENVELOPE",
    "REPEATED",
    "UNREADABLE",
    "ByChoice",
    "Chunk",
    "UsageEvent",
    "error_event",
    "guard",
    "plain_text",
    "read_json",
    "rewrite",
    "text_of",
    "texts_by_choice",
    "thoughts_in",
    "write_json",
]

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are no JSON, or JSON of another type."""
ENVELOPE: Final = ("id", "object", "created", "model")
"""What all chunks of an answer say alike."""
REPEATED: Final = ("service_tier", "system_fingerprint")
"""What OpenAI says in each chunk, the one with usage too: openai-python's ``.stream()`` shows what the last says."""
ByChoice = tuple[tuple[int, str], ...]
"""Texts, each with the index of the choice that it belongs to."""
_THOUGHTS: Final = (
    "reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thinking_blocks"
)  # fmt: skip
_OF_PARTS: Final = ("text", "content", "thinking", "summary")
_NO_THOUGHTS: Final = frozenset(_THOUGHTS).isdisjoint
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class Chunk(Event):
    """An event whose JSON object the transforms work on; `data` keeps the bytes it came as until it is sealed.

    :param body: the object.
    :param steady: another chunk that differs in nothing but its text would be treated alike. A transform sets it to
        False on every chunk that meets or leaves behind other state than such a chunk would.
    :param sure: a finish in it stood alone, as OpenAI sends it. One that came with text may be said of every chunk.
    :param watch: is told the text of each chunk like it that goes around the transforms; False: that one must not.
    :param reads: reads the usage of each chunk like it; None: it has none.
    """

    body: dict[str, Any] = msgspec.field(default_factory=dict)
    steady: bool = True
    sure: bool = True
    watch: Callable[[str], bool] | None = None
    reads: Callable[[Mapping[str, Any]], Usage | None] | None = None


class UsageEvent(Event):
    """A finished event whose JSON object carries usage and no choices.

    :param told: the usage as it stands in `data`.
    :param says_more: something stands beside it.
    """

    told: bytes = b""
    says_more: bool = False


def read_json(data: bytes | str) -> Any:
    """Read JSON as servers write it: lone surrogates, raw control characters and NaN (read as null) too.

    :raises ValueError: not JSON by any reading, or of more than :data:`MOST_PARTS_OF_ANSWER`.
    """
    if len(data) > MOST_PARTS_OF_ANSWER:
        document = data.encode("utf-8", "replace") if isinstance(data, str) else data
        if is_intricate(document, MOST_PARTS_OF_ANSWER):
            raise ValueError("too many parts")
    try:
        return _decode(data)
    except UNREADABLE:
        pass
    try:
        return json.loads(data, strict=False, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_json(value: Any) -> bytes:
    """Write compact JSON on one line that survives naive readers, see :func:`guard`."""
    try:
        return guard(_encode(value))
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
        return guard(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode())


def rewrite(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """Return `body` as JSON: in the bytes it came in, `raw`, if these say the same, need no generosity and one line."""
    data = write_json(body)
    if raw != data and raw[:1] == b"{" and raw[-1:] == b"}" and len(raw.splitlines()) == 1:
        try:
            same = _decode(raw)
            if same == body and write_json(same) == data:  # the bytes tell 1 from 1.0 and know the order
                return guard(raw)
        except (msgspec.DecodeError, RecursionError):
            pass
    return data


def guard(data: bytes) -> bytes:
    r"""Escape what hand-written readers split at: ``data: `` inside strings, and U+0085, U+2028, U+2029.

    Valid JSON holds neither outside of strings, so its value stays the same.
    """
    data = data.replace(b"data: ", b"data:\\u0020")
    if not data.isascii():
        data = data.replace(b"\xc2\x85", b"\\u0085").replace(b"\xe2\x80\xa8", b"\\u2028")
        data = data.replace(b"\xe2\x80\xa9", b"\\u2029")
    return data


def error_event(failure: Failure) -> Event:
    """Return the event that tells a client of `failure`."""
    return Event(data=write_json(failure.as_json()), read=True, error=failure)


def text_of(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a chunk adds to the answer: visible text, and other billed output.

    That is what the model has written: text, thoughts, a refusal, what it speaks, and calls, those of the vendor's own
    tools too. Each counts once, however often it is told. All else is metadata, or others wrote it: results, citations.
    """
    content: list[str] = []
    hidden: list[str] = []
    for choice in body["choices"]:
        if isinstance(text := choice.get("text"), str):
            content.append(text)
        delta = choice.get("delta")
        if not delta or not isinstance(delta, dict):
            hidden.append(thoughts_in(choice))  # of the legacy API
            continue
        if isinstance(text := delta.get("content"), str):
            content.append(text)
        hidden.append(thoughts_in(delta))
        if isinstance(text := delta.get("refusal"), str):
            hidden.append(text)
        audio = delta.get("audio")
        if isinstance(audio, dict) and isinstance(text := audio.get("transcript"), str):
            hidden.append(text)
        if "tool_calls" in delta or "function_call" in delta:
            hidden += _calls_texts(delta)
        if isinstance(tools := delta.get("executed_tools"), list):  # Groq
            hidden += chain.from_iterable(_call_texts({"function": tool}) for tool in tools)
    return "".join(content), "".join(hidden)


def thoughts_in(message: Mapping[str, Any]) -> str:
    """Return the reasoning in a delta, a message or a legacy choice, by the first of its names that has any text."""
    if _NO_THOUGHTS(message):
        return ""
    return next((text for name in _THOUGHTS if (text := plain_text(message.get(name)))), "")


def plain_text(value: Any) -> str:
    """Return the text in a string, a part or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(plain_text, value))
    if isinstance(value, dict):
        for name in _OF_PARTS:
            if text := plain_text(value.get(name)):
                return text
    return ""


def texts_by_choice(body: Mapping[str, Any]) -> ByChoice:
    """Return the same by choice, visible or not; nothing where all of it is of the first, as in nearly every chunk."""
    choices = body["choices"]
    if len(choices) == 1 and not choices[0].get("index"):
        return ()
    texts = ((choice.get("index"), "".join(text_of({"choices": [choice]}))) for choice in choices)
    said = [(index if isinstance(index, int) else 0, text) for index, text in texts if text]
    return tuple(said) if any(index for index, _ in said) else ()


def _calls_texts(delta: Mapping[str, Any]) -> Iterator[str]:
    given = delta.get("tool_calls")
    calls = [_call_texts(call) for call in given] if isinstance(given, list) else []
    if "function_call" in delta and (old := _call_texts({"function": delta["function_call"]})) not in calls:
        calls.append(old)
    return chain.from_iterable(calls)


def _call_texts(call: Any) -> list[str]:
    function = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return []
    return [text for name in ("name", "arguments", "input") if isinstance(text := function.get(name), str)]
