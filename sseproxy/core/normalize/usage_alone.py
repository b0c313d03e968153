"""The chunk that canonical streams end with: ``choices: []`` and usage, read once for all that ask what it says."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Final

import msgspec

from sseproxy.core.chunk import ENVELOPE, UNREADABLE, UsageEvent, write_json
from sseproxy.core.plain_usage import plain_usage
from sseproxy.core.usage import tidy_usage, usage_of

__all__ = ["read_usage_alone"]

# Beside the usage, those in which no transform looks for more than is looked for here.
_ENVELOPE: Final = frozenset((*ENVELOPE, "choices"))
_FIELDS: Final = _ENVELOPE | {"system_fingerprint", "service_tier", "provider", "timings", "obfuscation"}
_stated_in: Final = itemgetter("id", "object", "model", "choices")
_decode: Final = msgspec.json.Decoder().decode


def read_usage_alone(data: bytes, own: dict[str, Any], *, fold: bool) -> UsageEvent | None:
    """Return what becomes of a chunk with usage and nothing else, None for any other.

    :param own: ``id``, ``object``, ``created`` and ``model`` of the answer.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    """
    try:
        body: dict[str, Any] = _decode(data)
        stated, given = _stated_in(body), body.pop("usage")
    except UNREADABLE:
        return None
    except (KeyError, TypeError):  # not an object, or not one with all of these
        return None
    if stated != (own["id"], own["object"], own["model"], []) or "created" not in body:
        return None
    if type(given) is not dict or not body.keys() <= _FIELDS:
        return None
    body.pop("obfuscation", None)
    body["created"] = own["created"]
    says_more = not body.keys() <= _ENVELOPE
    usage = plain_usage(given)
    if usage is None:
        tidy = tidy_usage(given, fold=fold)
        if tidy is None:
            return None
        usage, given = usage_of(tidy), tidy
    told = write_json(given)
    body["usage"] = msgspec.Raw(told)  # the last field, wherever it stood
    return UsageEvent(write_json(body), "", None, None, True, "", "", usage, told=told, says_more=says_more)
