"""What is known of a usage that is told more than once in a stream. No zero erases a count, no null anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sseproxy.core.usage import Usage

__all__ = ["UsageOfBeginning", "merge_fields", "merge_usage"]

_COUNTS: Final = ("prompt_tokens", "completion_tokens")


class UsageOfBeginning(Usage, frozen=True):
    """The last report of a stream whose output all came behind it, or of one that broke off and some did."""


def merge_usage(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the usage known after `new`: the last wins, none is summed (agno#6058) or erased (litellm#17136).

    A zero erases nothing either: relays of Anthropic tell the prompt first, and the completion with a prompt of 0.
    """
    if old is None or new is None:
        return new or old
    for name in _COUNTS:
        if old[name] and not new[name]:
            kept = {each: old[each] for each in (name, f"{name}_details") if each in old}
            new = {**new, **kept}
            new["total_tokens"] = sum(new[each] for each in _COUNTS)
    return {**old, **new} if all(old[name] == new[name] for name in _COUNTS) else new


def merge_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return Anthropic's usage after ``message_delta``: a field replaces the one before unless it is null or 0."""
    return {**old, **{name: value for name, value in new.items() if value is not None and (value or name not in old)}}
