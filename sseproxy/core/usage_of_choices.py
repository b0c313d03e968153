"""Usage of several choices: the last report is of all of them, but for those that have one for each choice.

llama.cpp tells such a report at the end of its choice, in a whole answer that of the first alone; vLLM one with every
chunk (``continuous_usage_stats``), and at the end that of all. Others may repeat what all have come to. Only the texts
tell which it is; nothing here counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import field
from msgspec.structs import asdict

from sseproxy.core.usage import Usage

__all__ = ["Reports", "UsageOfChoices", "sum_of", "tells_part"]

_ONE_IN: Final = 8
"""Of what is reported, this part at least is missing where reports are summed."""
_ONE_IN_WHOLE: Final = 2
"""The same where there is no sum that agrees: tokens of a vocabulary that is not known may be as many more."""


class UsageOfChoices(Usage, frozen=True):
    """The last report of a stream that had one for each choice.

    :param each: the last reports, by choice.
    """

    each: Mapping[int, Usage] = field(default_factory=dict)


class Reports:
    """The reports of one stream."""

    _choice: int | None = None
    _ended: int | None = None
    _at_end = False
    _once = True

    def __init__(self) -> None:
        self._each: dict[int, Usage] = {}
        self._told: set[int | None] = {None}  # choices whose end had its report; none has ended yet

    def see(self, choices: list[dict[str, Any]]) -> None:
        """Look at a chunk: usage in it may be of its choice alone, without any of the one that ended last. What comes
        after an end that had none, and another one's, is of all (SGLang).
        """
        ends = [choice["index"] for choice in choices if choice["finish_reason"] is not None]
        if ends:
            self._once = self._once and (self._ended in self._told or self._ended == ends[-1])
            self._ended = ends[-1]
        self._at_end = bool(ends) or not choices
        self._choice = self._ended if self._at_end else choices[-1]["index"]

    def add(self, told: Usage, known: Usage) -> Usage:
        """Return what is known by now.

        :param told: in the chunk that was seen last.
        :param known: by the rule that the last report wins.
        """
        choice = self._choice
        if self._at_end:
            self._once = self._once and bool(told.output_tokens) and choice not in self._told
            self._told.add(choice)
        if choice is not None and told.output_tokens:
            self._each[choice] = told
        if not self._once or len(self._each) < 2:
            return known
        return UsageOfChoices(**asdict(known), each=dict(self._each))


def tells_part(reported: Usage, counted: Mapping[int, int]) -> bool:
    """Whether a report is of one choice alone.

    It is if much was written that it leaves out, and each choice's report is nearer to that choice's tokens.

    :param counted: tokens of each choice.
    """
    each = reported.each if isinstance(reported, UsageOfChoices) else {}
    missing = sum(counted.values()) - reported.output_tokens
    off = sum(abs(usage.output_tokens - counted.get(choice, 0)) for choice, usage in (each or {0: reported}).items())
    return off <= missing and missing * (_ONE_IN if each else _ONE_IN_WHOLE) >= reported.output_tokens


def sum_of(reported: UsageOfChoices, answers: int) -> Usage:
    """Return the usage of all choices that were reported.

    :param answers: to each prompt, which was read once for all of them.
    """
    each = reported.each.values()
    prompts = {choice // answers: usage for choice, usage in reported.each.items()}.values()
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in prompts),
        cached_input_tokens=sum(usage.cached_input_tokens for usage in prompts),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in prompts),
        output_tokens=sum(usage.output_tokens for usage in each),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in each),
    )
