"""A chunk read strictly: as the transforms would have it, or so near that what they would change is known.

Many servers write every chunk with a role, some with another time, with nulls, padding or fields of their own; the
finish of some has empty text, or the usage, in it, and the usage of some a choice.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sseproxy.core.chunk import ENVELOPE, REPEATED, UNREADABLE, UsageEvent, guard, write_json
from sseproxy.core.normalize.finish import OF_TOKENS, Reason
from sseproxy.core.usage import find_usage, usage_of

__all__ = [
    "Strict",
    "cleaned",
    "ended",
    "read_strictly",
    "takes_role",
    "tells_usage_alone",
    "texts_in",
    "usage_beside",
]


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Of a chunk with one answer; its delta holds texts alone. Fields of any type are those that no transform reads."""

    index: Literal[0]
    delta: dict[str, str | None]
    finish_reason: Reason | UnsetType | None = UNSET
    logprobs: Any = None
    token_ids: Any = None
    stop_reason: Any = None
    matched_stop: Any = None
    native_finish_reason: Any = None
    content_filter_results: Any = None


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
    obfuscation: Any = UNSET

    def is_clean(self, data: bytes) -> bool:
        """Whether nothing in the bytes is to be left out, or put right, beside the delta."""
        return (
            self.obfuscation is UNSET
            and self.usage is UNSET
            and self.choices[0].finish_reason is not UNSET
            and (data[0] == 123 and data[-1] == 125 and 10 not in data and 13 not in data)  # the object alone, one line
        )


read_strictly: Final = msgspec.json.Decoder(Strict).decode
_decode: Final = msgspec.json.Decoder().decode
_OWN: Final = frozenset((*ENVELOPE, "choices", "usage", "obfuscation"))


def takes_role(delta: dict[str, str | None]) -> bool:
    """Take the role out of the first delta; False if that is not as it should be."""
    names = [name for name, value in delta.items() if value is not None]
    return names in (["role"], ["role", "content"]) and bool(delta.pop("role"))


def texts_in(data: bytes) -> tuple[str, str]:
    """Return what a chunk says, as :func:`~sseproxy.core.chunk.text_of` does.

    :raises msgspec.DecodeError: it is none.
    """
    return read_strictly(data).choices[0].delta.get("content") or "", ""


def cleaned(data: bytes, own: dict[str, Any], *, first: bool) -> bytes:
    """Return a chunk without padding, nulls in its delta, usage that is null, and a role that is not the first.

    :param own: the fields that say whose it is.
    """
    body = _without_padding(data, own)
    (choice,) = body["choices"]
    delta = choice["delta"].items()
    choice["delta"] = {name: value for name, value in delta if value is not None and (first or name != "role")}
    choice.setdefault("finish_reason", None)
    return write_json(body)


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


def usage_beside(data: bytes, own: dict[str, Any], *, fold: bool) -> UsageEvent | None:
    """Return a chunk with the usage that stands beside a choice; None if that says nothing.

    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    """
    body = _decode(data)
    usage = find_usage(body, fold=fold)
    if usage is None:
        return None
    told = write_json(usage)
    repeated = {name: body[name] for name in REPEATED if name in body}
    chunk = {**own, **repeated, "choices": [], "usage": msgspec.Raw(told)}
    return UsageEvent(write_json(chunk), "", None, None, True, "", "", usage_of(usage), told=told)


def _without_padding(data: bytes, own: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = _decode(data)
    body.pop("obfuscation", None)
    body.pop("usage", None)
    body.update(own)
    return body
