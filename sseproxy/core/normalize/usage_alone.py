"""The chunk that canonical streams end with: ``choices: []`` and usage, read once for all that ask what it says."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sseproxy.core.chunk import UsageEvent, write_json
from sseproxy.core.plain_usage import plain_usage
from sseproxy.core.usage import tidy_usage, usage_of

__all__ = ["read_usage_alone"]

_FIELDS: Final = frozenset(
    (
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "service_tier",
        "obfuscation",
        "choices",
        "usage",
    )
)
"""Those in which no transform looks for more than is looked for here."""
_decode: Final = msgspec.json.Decoder().decode


def read_usage_alone(data: bytes, identity: tuple[str, int, str] | None, *, fold: bool) -> UsageEvent | None:
    """Return what becomes of a chunk with usage and nothing else, None for any other.

    :param identity: ``id``, ``created`` and ``model`` of the answer.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    """
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not _is_canonical(body, identity):
        return None
    body.pop("obfuscation", None)
    given = body.pop("usage")
    usage = plain_usage(given)
    if usage is None:
        tidy = tidy_usage(given, fold=fold)
        if tidy is None:
            return None
        usage, given = usage_of(tidy), tidy
    told = write_json(given)
    body["usage"] = msgspec.Raw(told)  # the last field, wherever it stood
    return UsageEvent(write_json(body), "", None, None, True, "", "", usage, None, None, told)


def _is_canonical(body: Any, identity: tuple[str, int, str] | None) -> bool:
    return (
        type(body) is dict
        and body.keys() <= _FIELDS
        and (body.get("id"), body.get("created"), body.get("model")) == identity
        and type(body["created"]) is int  # 1.0 is equal to it
        and body.get("object") == "chat.completion.chunk"
        and body.get("choices") == []
        and type(body.get("usage")) is dict
    )
