"""The usage a client is shown, with its cost in USD: in a stream's usage chunk and in a JSON completion. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sseproxy.core.chat import Fields, decoder_of
from sseproxy.core.chunk import ENVELOPE, REPEATED, read_json, write_json
from sseproxy.core.pricing import nano_to_usd
from sseproxy.core.usage import Usage, openai_usage

# What a usage chunk has, and no other says: padding, and other vendors' names for usage, too.
_OWN: Final = frozenset((*ENVELOPE, "choices", "usage", "obfuscation", "cost", "usageMetadata"))

# What is stated of a usage, by the names of either generation of APIs.
_COUNTS: Final = (
    ("prompt_tokens", "completion_tokens", "total_tokens"),
    ("input_tokens", "output_tokens", "total_tokens"),
)


def with_cost(answer: bytes, nano: int, told: bytes = b"", *, counted: Usage | None = None) -> bytes:
    """A chunk or completion with ``usage.cost``, all else kept byte for byte.

    :param nano: nano-USD, written as a JSON number of USD.
    :param told: the usage as it stands there, if that is known.
    :param counted: what is charged, where it is not what the usage says.
    """
    if counted is not None:
        answer, told = _with_counts(answer, counted), b""
    cost = nano_to_usd(nano).encode()
    try:
        told = told or bytes(_decode_answer(answer).usage)
        if told[:2] == b'{"' and 92 not in told and told.find(b'"cost"') < 0:  # 92: a backslash
            around = answer.split(told)
            if len(around) == 2:
                return (b'%b,"cost":%b}' % (told[:-1], cost)).join(around)
        fields = decoder_of(Fields).decode(answer)
    except msgspec.DecodeError:
        return _with_cost(read_json(answer), answer, nano)
    if told[:1] != b"{":  # null, or nothing that could have a field
        return answer
    usage = decoder_of(Fields).decode(told)
    usage["cost"] = msgspec.Raw(cost)
    fields["usage"] = msgspec.Raw(msgspec.json.encode(usage))
    return msgspec.json.encode(fields)


def _with_cost(body: dict[str, Any], answer: bytes, nano: int) -> bytes:
    """The same for what only a generous reader takes, such as half an emoji, alone in a text."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return answer
    return write_json({**body, "usage": {**usage, "cost": float(nano_to_usd(nano))}})


def _with_counts(answer: bytes, counted: Usage) -> bytes:
    body = read_json(answer)
    usage = body.get("usage")
    names = next((names for names in _COUNTS if isinstance(usage, dict) and names[0] in usage), None)
    if names is None:
        return answer
    given, output = counted.input_tokens, counted.output_tokens
    if body.get("type") == "message":  # Anthropic's, which states what has to do with a cache apart
        given -= counted.cached_input_tokens + counted.cache_write_tokens
    counts = (given, output, counted.input_tokens + output)
    stated = {name: count for name, count in zip(names, counts, strict=True) if name in usage}
    return write_json({**body, "usage": {**usage, **stated}})


def usage_chunk(chunk: bytes, usage: Usage, nano: int) -> bytes:
    """The usage chunk that belongs behind ``chunk``, for a stream whose upstream reported none."""
    envelope = read_json(chunk)
    fields: dict[str, Any] = {name: envelope[name] for name in (*ENVELOPE, *REPEATED) if name in envelope}
    return with_cost(write_json({**fields, "choices": [], "usage": openai_usage(usage)}), nano)


def beside_usage(chunk: bytes, last: bytes, api: str) -> bytes:
    """What a usage chunk says beside its usage, in a chunk that is of the first choice and says nothing else; empty if
    that is nothing, or nothing that ``last``, the chunk before it, has not said too.

    :param api: ``chat`` or ``completions``.
    """
    known, given = read_json(last), read_json(chunk)
    news = {
        name: value
        for name, value in given.items()
        if name not in _OWN and value not in (None, "", [], {}) and known.get(name) != value
    }
    if not news:
        return b""
    envelope = {name: known[name] for name in ENVELOPE if name in known}
    said: dict[str, Any] = {"delta": {}} if api == "chat" else {"text": "", "logprobs": None}
    return write_json({**envelope, "choices": [{"index": 0, **said, "finish_reason": None}], **news})


def usage_in(chunk: bytes) -> bytes:
    """The usage as it stands in a chunk that carries nothing else (``choices: []``); empty for any other."""
    try:
        read: _Chunk = _decode_chunk(chunk)
    except msgspec.DecodeError:  # for what only a generous reader takes, see below
        body = read_json(chunk)
        return write_json(body["usage"]) if body.get("choices") == [] and body.get("usage") else b""
    return bytes(read.usage) if read.choices == [] else b""


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _Chunk(_Answer):
    choices: list[msgspec.Raw] | None = None


_decode_answer: Final = decoder_of(_Answer).decode
_decode_chunk: Final = decoder_of(_Chunk).decode
