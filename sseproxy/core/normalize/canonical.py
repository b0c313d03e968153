"""Recognises a whole answer that needs no repair: one typed look at its bytes, nothing written.

What is not recognised may still be canonical; repairing it then changes no byte of it (see ``completion``).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sseproxy.core.chunk import UNREADABLE, ByChoice, write_json
from sseproxy.core.normalize.finish import Reason
from sseproxy.core.plain_usage import plain_usage
from sseproxy.core.sse import Event
from sseproxy.core.usage import Usage, tidy_usage, usage_of

__all__ = ["OBJECTS", "Completion", "read_canonical"]

OBJECTS: Final = {"chat": "chat.completion", "completions": "text_completion"}

_Name = Annotated[str, Meta(min_length=1)]
_Created = Annotated[int, Meta(gt=0, lt=2**53)]


class Completion(msgspec.Struct, frozen=True):
    """A whole answer and what the meter needs of it; the fields are those of :class:`Event`.

    :param body: what the client gets.
    :param told: the usage as it stands there; empty: nobody has looked.
    :param course: of one that came as a stream, the events that said so, in their order, without their bytes.
    """

    body: bytes
    content: str = ""
    hidden: str = ""
    usage: Usage | None = None
    finish: str | None = None
    told: bytes = b""
    by_choice: ByChoice = ()
    course: tuple[Event, ...] = ()


class _Audio(msgspec.Struct):
    transcript: str | None = None


class _Thoughts(msgspec.Struct):
    """Without reasoning by another name, which would have to be counted once, or is mirrored."""

    reasoning: UnsetType = UNSET
    thinking: UnsetType = UNSET
    reasoning_text: UnsetType = UNSET
    reasoning_details: UnsetType = UNSET
    thinking_blocks: UnsetType = UNSET


class _Message(_Thoughts, kw_only=True):
    role: _Name
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    audio: _Audio | None = None
    # Fields that are rewritten, or hold calls.
    tool_calls: UnsetType = UNSET
    function_call: UnsetType = UNSET
    executed_tools: UnsetType = UNSET
    # What belongs to the choice.
    finish_reason: UnsetType = UNSET
    usage: UnsetType = UNSET


class _Choice(_Thoughts, kw_only=True):
    index: int
    finish_reason: Reason
    error: None = None
    usage: UnsetType = UNSET
    delta: UnsetType = UNSET
    reasoning_content: UnsetType = UNSET


class _ChatChoice(_Choice, kw_only=True):
    message: _Message
    text: UnsetType = UNSET


class _TextChoice(_Choice, kw_only=True):
    text: str
    message: UnsetType = UNSET


class _Groq(msgspec.Struct):
    error: None = None


class _Answer(msgspec.Struct):
    id: _Name
    created: _Created
    model: _Name
    usage: msgspec.Raw
    error: None = None
    base_resp: UnsetType = UNSET
    x_groq: _Groq | None = None
    cost: UnsetType = UNSET


class _Chat(_Answer, kw_only=True):
    object: Literal["chat.completion"]
    choices: Annotated[list[_ChatChoice], Meta(min_length=1)]


class _Text(_Answer, kw_only=True):
    object: Literal["text_completion"]
    choices: Annotated[list[_TextChoice], Meta(min_length=1)]


_decode_chat: Final = msgspec.json.Decoder(_Chat).decode
_decode_text: Final = msgspec.json.Decoder(_Text).decode
_decode_usage: Final = msgspec.json.Decoder(dict[str, Any]).decode


def read_canonical(api: str, body: bytes) -> Completion | None:
    """Return the answer in `body` if it is just as a client expects it, byte for byte; None if it may not be.

    :param api: that was asked.
    """
    if api not in OBJECTS:
        return None
    try:
        text = body.decode()  # all of it, since fields that are not named above are skipped unread
        answer = _decode_chat(text) if api == "chat" else _decode_text(text)
        told = bytes(answer.usage)
        given = _decode_usage(told)
    except UNREADABLE:
        return None
    usage = plain_usage(given)
    if usage is None:
        tidy = tidy_usage(given)
        if tidy is None or write_json(tidy) != write_json(given):
            return None
        usage = usage_of(tidy)
    texts = [*map(_texts_of, answer.choices)]
    content, hidden = map("".join, zip(*texts, strict=True))
    by_choice = tuple(enumerate(map("".join, texts))) if len(texts) > 1 else ()
    return Completion(body, content, hidden, usage, answer.choices[0].finish_reason, told, by_choice)


def _texts_of(choice: _ChatChoice | _TextChoice) -> tuple[str, str]:
    """The visible text, and the other billed output."""
    if isinstance(choice, _TextChoice):
        return choice.text, ""
    message = choice.message
    spoken = message.audio.transcript if message.audio is not None else None
    return message.content or "", (message.reasoning_content or "") + (message.refusal or "") + (spoken or "")
