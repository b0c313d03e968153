"""A chunk read strictly: as the transforms would have it, or so near that what they would change is known.

Many servers write every chunk with a role, some with another time, with nulls, padding or fields of their own; the
finish of some has empty text, or the usage, in it, and the usage of some a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sseproxy.core.chunk import ENVELOPE, UNREADABLE, guard, thoughts_in, write_json
from sseproxy.core.normalize.finish import OF_TOKENS, Reason, halves

__all__ = [
    "Strict",
    "cleaned",
    "ended",
    "is_tidy",
    "parted",
    "read_strictly",
    "take_texts",
    "takes_role",
    "tells_usage_alone",
    "texts_in",
    "told_ahead",
]


class _Detail(msgspec.Struct, frozen=True):
    """Of reasoning; without a number it would be given one."""

    index: int


Delta = dict[str, str | int | tuple[_Detail, ...] | None]


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Of a chunk with one answer; its delta holds texts and their details.

    Fields of any type are those that no transform reads.
    """

    index: Literal[0]
    delta: Delta
    finish_reason: Reason | UnsetType | None = UNSET
    logprobs: Any = None
    token_ids: Any = None
    stop_reason: Any = None
    matched_stop: Any = None
    native_finish_reason: Any = None
    content_filter_results: Any = None
    seed: Any = None
    text: str | UnsetType = UNSET

    def says_more(self) -> bool:
        """Whether it has a text that its delta does not say."""
        return self.text is not UNSET and not isinstance(self.delta.get("content"), str)


class _Groq(msgspec.Struct):
    error: None = None
    usage: Any = UNSET


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """With every field in which no transform looks for more than is looked for here."""

    id: Annotated[str, Meta(min_length=1)]
    object: Literal["chat.completion.chunk"]
    created: Annotated[int, Meta(gt=0, lt=2**53)]
    model: Annotated[str, Meta(min_length=1)]
    choices: tuple[_Choice]
    usage: dict[str, Any] | UnsetType | None = UNSET
    system_fingerprint: Any = None
    service_tier: Any = None
    provider: Any = None
    prompt_token_ids: Any = None
    p: Any = None
    x_groq: _Groq | None = None
    timings: Any = UNSET
    obfuscation: Any = UNSET

    def says_usage(self) -> bool:
        """Whether there is usage in it, or something in its place."""
        return bool(self.usage) or self.says_usage_elsewhere()

    def says_usage_elsewhere(self) -> bool:
        """Whether there is such in another place than its own."""
        return self.timings is not UNSET or (self.x_groq is not None and self.x_groq.usage is not UNSET)

    def is_clean(self, data: bytes) -> bool:
        """Whether nothing in the bytes is to be left out, or put right, beside the delta."""
        return (
            self.obfuscation is UNSET
            and self.usage is UNSET
            and (self.x_groq is None or self.x_groq.usage is UNSET)
            and self.choices[0].finish_reason is not UNSET
            and self.choices[0].text is UNSET
            and (data[0] == 123 and data[-1] == 125 and 10 not in data and 13 not in data)  # the object alone, one line
        )


class _Ahead(msgspec.Struct, forbid_unknown_fields=True):
    """What Azure sends before the first chunk: whose it is stands in that."""

    choices: Annotated[list[Any], Meta(max_length=0)]
    prompt_filter_results: Any
    id: Literal[""] = ""
    object: Any = None
    created: Literal[0] = 0
    model: Literal[""] = ""
    usage: None = None


_read_ahead: Final = msgspec.json.Decoder(_Ahead).decode
read_strictly: Final = msgspec.json.Decoder(Strict).decode
_decode: Final = msgspec.json.Decoder().decode
_OWN: Final = frozenset((*ENVELOPE, "choices", "usage", "obfuscation"))
_THOUGHTS: Final = ("reasoning_content", "reasoning")
_OF_FIRST: Final = frozenset(("role", "content", "reasoning_details", "token_id", *_THOUGHTS))


def told_ahead(data: bytes) -> dict[str, Any] | None:
    """Return what is to be told with the first chunk, of what Azure sends before it; None if it is anything else."""
    try:
        return {"prompt_filter_results": _read_ahead(data).prompt_filter_results}
    except UNREADABLE:
        return None


def takes_role(delta: Delta) -> bool:
    """Take the role out of the first delta; False if that is not as it should be."""
    names = {name for name, value in delta.items() if value is not None}
    return names <= _OF_FIRST and isinstance(role := delta.pop("role", None), str) and role != ""


def take_texts(delta: Delta, *, ends: bool = False) -> tuple[str, str] | None:
    """Take the visible text or the reasoning out of a delta; None if there is both, or anything else.

    :param ends: beside a finish nothing else may stand that can stand beside a text.
    """
    details = None
    if isinstance(delta.get("token_id"), int):
        del delta["token_id"]
    if not ends:
        delta.pop("channel", None)
        details = delta.pop("reasoning_details", None)
    content = delta.pop("content", None)
    said = {value for name in _THOUGHTS if (value := delta.pop(name, None)) not in (None, "")}
    if (details and not said) or len(said) + bool(content) > 1 or any(value is not None for value in delta.values()):
        return None
    reasoning = said.pop() if said else ""
    return (content or "", reasoning) if isinstance(reasoning, str) and isinstance(content, str | None) else None


def is_tidy(delta: Delta) -> bool:
    """Whether a delta has no nulls, and its reasoning, if any, by the name that all send it under."""
    return None not in delta.values() and bool(delta.get("reasoning_content") or not delta.get("reasoning"))


def texts_in(data: bytes) -> tuple[str, str]:
    """Return what a chunk says, as :func:`~sseproxy.core.chunk.text_of` does.

    :raises msgspec.DecodeError: it is none.
    """
    delta = read_strictly(data).choices[0].delta
    content = delta.get("content")
    return content if isinstance(content, str) else "", thoughts_in(delta)


def cleaned(data: bytes, own: dict[str, Any], *, first: bool, told: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    """Return a chunk without padding, nulls in its delta, usage that is null, and a role that is not the first.

    :param own: the fields that say whose it is.
    :param told: more fields, of a chunk before the first.
    """
    body = _without_padding(data, own)
    (choice,) = body["choices"]
    role = choice["delta"].pop("role", None)
    delta = _without_nulls(choice["delta"])
    choice["delta"] = {"role": role, **delta} if first else delta
    choice.setdefault("finish_reason", None)
    return write_json({**body, **told})


def ended(data: bytes, own: dict[str, Any], *, is_clean: bool) -> bytes:
    """Return the chunk with the finish with nothing in its delta.

    :param own: as of :func:`cleaned`.
    :param is_clean: the chunk needs no generosity, and :func:`cleaned` would leave nothing out of it.
    """
    body = _without_padding(data, own)
    (choice,) = body["choices"]
    begin = {"index": 0, "delta": {}, **{name: choice[name] for name in OF_TOKENS if name in choice}}
    is_ordered = list(choice)[: len(begin)] == list(begin)
    if is_clean and is_ordered and not choice["delta"]:
        return guard(data)
    body["choices"] = [{**begin, **choice, "delta": {}}]
    return write_json(body)


def parted(data: bytes, own: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return two chunks for one with a text and the finish.

    :param own: as of :func:`cleaned`.
    """
    body = _without_padding(data, own)
    (choice,) = body.pop("choices")
    choice["delta"].pop("role", None)
    choice["delta"] = _without_nulls(choice["delta"])
    said, end = halves(choice)
    return (
        write_json({**body, "choices": [said]}),
        write_json({**body, "choices": [{"index": 0, "delta": {}, **end}]}),
    )


def tells_usage_alone(data: bytes, end: bytes) -> bool:
    """Whether a chunk has a choice beside its usage that says nothing, as OpenRouter's has.

    :param end: the chunk with the finish, before it.
    """
    try:
        read = read_strictly(data)
    except UNREADABLE:
        return False
    body, known = _decode(data), _decode(end)
    (choice,) = body["choices"]
    said = [value for name, value in {**choice, **choice["delta"]}.items() if name not in ("index", "delta", "role")]
    is_known = all((name, value) in known.items() for name, value in body.items() if name not in _OWN)
    return bool(read.usage) and is_known and all(value in (None, "", [], {}) for value in said)


def _without_nulls(delta: dict[str, Any]) -> dict[str, Any]:
    """A delta as it is passed on, with its reasoning by the name that all send it under."""
    tidy = {name: value for name, value in delta.items() if value is not None}
    if reasoning := thoughts_in(tidy):
        tidy["reasoning_content"] = reasoning
    return tidy


def _without_padding(data: bytes, own: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = _decode(data)
    body.pop("obfuscation", None)
    body.pop("usage", None)
    body["choices"][0].pop("text", None)
    groq = body.get("x_groq")
    if groq and "usage" in groq:
        del groq["usage"]
    body.update(own)
    return body
