"""What is known of a usage that is told more than once in a stream. No zero erases a count, no null anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import astuple

from sseproxy.core.usage import TotalAlone, Usage

__all__ = ["TotalOfBeginning", "UsageOfBeginning", "beginning_of", "merge_fields", "merge_usage"]

_COUNTS: Final = ("prompt_tokens", "completion_tokens")


class UsageOfBeginning(Usage, frozen=True):
    """The last report of a stream in which output came behind it."""


class TotalOfBeginning(TotalAlone, frozen=True):
    """The total of a stream by then, of which some output had come, and more came behind it."""


def beginning_of(usage: Usage, *, said_before: bool) -> Usage:
    """Return `usage` as a statement that was followed by output.

    :param said_before: some output came before it; of a total that is told before any, all is the prompt's.
    """
    if type(usage) is TotalAlone and said_before:
        return TotalOfBeginning(*astuple(usage))
    return UsageOfBeginning(*astuple(usage)) if type(usage) in (Usage, TotalAlone) else usage


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
