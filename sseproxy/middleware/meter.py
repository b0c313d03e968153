"""The tokens of one exchange: what the upstream reported, and what a tokenizer counts where it did not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import msgspec
from msgspec.structs import asdict

from sseproxy.core.chat import Request
from sseproxy.core.chunk import ByChoice
from sseproxy.core.tokens import texts_of
from sseproxy.core.usage import TotalAlone, Usage
from sseproxy.core.usage_of_choices import UsageOfChoices, sum_of, tells_part
from sseproxy.core.usage_so_far import TotalOfBeginning, UsageOfBeginning
from sseproxy.middleware.growing_text import COUNT_AT, GrowingText


class Counter(Protocol):
    """Counts the tokens of a text, offline."""

    def count(self, text: str, model: str) -> int:
        """Tokens of ``text`` in the vocabulary of ``model``, or of the nearest one known."""


class Meter:
    """Meters one answer as it passes. Tokens are counted only once that is known to be needed: it takes time.

    :ivar finishes: how many finish reasons have passed, one a choice.
    :ivar model: whose vocabulary tokens are counted with.
    """

    finishes = 0
    _reported: Usage | None = None
    _produced = _premature = False
    _covered, _is_last = True, False  # the report covers all output; it came with the end
    _input_tokens: int | None = None
    _before = 0  # output tokens, as counted, that came before a report of a total alone

    def __init__(self, request: Request | None, counter: Counter) -> None:
        self._request = request
        self.model = request.model if request is not None else ""
        self._counter = counter
        self._first = GrowingText()
        self._texts = {0: self._first}  # by choice

    def add(self, content: str, hidden: str, by_choice: ByChoice = ()) -> None:
        """Note output that has passed.

        :param by_choice: the same by choice, unless all of it belongs to the first one.
        """
        self._produced = True
        self._covered = self._is_last
        if by_choice:
            self._add_by_choice(by_choice)
            return
        kept = self._first.kept
        kept.write(content + hidden)
        if kept.tell() >= COUNT_AT:
            self._first.count_whole_words(self._count)

    def room(self) -> int:
        """Characters that may be added, all to the first choice, before some are counted, which takes a while."""
        return self._first.room()

    def report(self, usage: Usage) -> None:
        """Note usage that the upstream reported; the last report counts.

        :param usage: an identical object is the same report, which the transforms pass on again at the end.
        """
        # A repeated report says nothing about the output since, unless it is the final one.
        is_beginning = isinstance(usage, UsageOfBeginning | TotalOfBeginning)
        if usage is not self._reported and (usage != self._reported or (self.finishes and not is_beginning)):
            self._reported = usage
            if isinstance(usage, TotalAlone) and self._produced:
                self._before = self._count_so_far()
            self._covered = not is_beginning
            self._is_last = self._has_ended and self._produced and not is_beginning
            self._premature = isinstance(usage, UsageOfBeginning) or not self._produced

    def total(self) -> tuple[Usage, str]:
        """The usage to bill, and where it comes from: ``reported``, ``counted``, ``mixed`` or ``none``.

        Input tokens that a report lacks are counted; a vendor's own cost is kept. Reports of single choices are summed;
        if only one choice was reported, the others are counted. If only the total is known, it is kept, and the counted
        output is taken from it. A report followed by more output is only a beginning (Anthropic's ``output_tokens:
        1``), unless it came with the end, after which LiteLLM sends the text it had held back.
        """
        reported = self._reported
        if self._request is not None and reported is not None and self._covered and reported.output_tokens:
            return self._with_input(*self._of_all_choices(self._request, reported))
        return self._known(self._count_output)

    @property
    def stated_cost(self) -> int:
        """The vendor's own cost so far, in nano-USD: further counted tokens may add to it, never lower it."""
        return (self._reported.cost or 0) if self._reported is not None else 0

    @property
    def is_silent(self) -> bool:
        """Whether there has been neither output nor reported usage."""
        return not self._produced and self._reported is None

    @property
    def awaits_usage(self) -> bool:
        """Whether only the upstream's usage report is missing from the answer."""
        return self.finishes > 0 and self._reported is None

    def so_far(self) -> tuple[Usage, str]:
        """As :meth:`total` for a running answer, from another thread; counts only what is new since the last call."""
        return self._known(self._count_so_far)

    def output_so_far(self) -> int:
        """The output tokens of :meth:`so_far`."""
        stated = self._reported.output_tokens if self._reported is not None else 0
        return stated if self._request is None or self._is_current else max(stated, self._count_so_far())

    @property
    def _has_ended(self) -> bool:
        """Whether every requested choice has its finish reason."""
        return self._request is None or self.finishes >= self._request.choices

    @property
    def _is_current(self) -> bool:
        """Whether the report covers all output so far. For reports by choice only the texts can tell."""
        reported = self._reported
        return (
            self._covered
            and reported is not None
            and reported.output_tokens > 0
            and not isinstance(reported, UsageOfChoices)
        )

    def _known(self, count_output: Callable[[], int]) -> tuple[Usage, str]:
        reported = self._reported
        if self._request is None:
            return reported or Usage(), "reported" if reported else "none"
        if reported is not None and self._is_current:
            return self._with_input(reported, "reported")
        output = count_output()
        if reported is None:
            return Usage(input_tokens=self._count_input(), output_tokens=output), "counted"
        if isinstance(reported, TotalAlone) and self._covered:
            return self._divided(reported, output)
        if isinstance(reported, TotalAlone) and not self._premature:
            return self._beyond(reported, output)
        if output <= reported.output_tokens:
            return self._with_input(reported, "reported")
        return self._with_input(msgspec.structs.replace(reported, output_tokens=output, cost=None), "mixed")

    def prefix_tokens(self) -> int:
        """Tokens of the proxy's own prefix, summed over all prompts of the request."""
        if self._request is None or not self._request.prefix:
            return 0
        return self._request.prompts * _count_prefix(self._counter.count, self._request.prefix, self.model)

    def _add_by_choice(self, texts: ByChoice) -> None:
        for choice, piece in texts:
            text = self._texts.get(choice) or self._texts.setdefault(choice, GrowingText())
            text.kept.write(piece)
            if text.room() <= 0:
                text.count_whole_words(self._count)

    def _of_all_choices(self, request: Request, reported: Usage) -> tuple[Usage, str]:
        summed = isinstance(reported, UsageOfChoices)
        if len(self._texts) < 2 or reported.cost is not None or not (summed or not request.stream):
            return reported, "reported"
        counted = {choice: text.tokens(self._count) for choice, text in self._texts.items()}
        if not tells_part(reported, counted):
            return reported, "reported"
        if isinstance(reported, UsageOfChoices):
            told = sum_of(reported, request.choices // request.prompts)
            if untold := sum(tokens for choice, tokens in counted.items() if choice not in reported.each):
                return msgspec.structs.replace(told, output_tokens=told.output_tokens + untold), "mixed"
            return told, "reported"
        given = reported.input_tokens if request.prompts == 1 else 0  # the first prompt's
        return msgspec.structs.replace(reported, input_tokens=given, output_tokens=sum(counted.values())), "mixed"

    def _divided(self, reported: TotalAlone, output: int) -> tuple[Usage, str]:
        total = reported.input_tokens
        output = min(output, total)
        counts = {**asdict(reported), "input_tokens": total - output, "output_tokens": output}
        return Usage(**counts), "mixed" if output else "reported"

    def _beyond(self, reported: TotalAlone, output: int) -> tuple[Usage, str]:
        """The usage when a reported total covers the prompt and only a part of the output."""
        given = max(reported.input_tokens - self._before, 0)
        counts = {**asdict(reported), "input_tokens": given, "output_tokens": output, "cost": None}
        return self._with_input(Usage(**counts), "mixed")

    def _with_input(self, usage: Usage, source: str) -> tuple[Usage, str]:
        if usage.input_tokens or not (counted := self._count_input()):
            return usage, source
        return msgspec.structs.replace(usage, input_tokens=counted), "mixed"

    def _count_input(self) -> int:
        if self._input_tokens is None:
            assert self._request is not None
            texts = texts_of(self._request.api, self._request.fields)
            self._input_tokens = texts.count(self._count)
        return self._input_tokens

    def _count_output(self) -> int:
        return sum(text.tokens(self._count) for text in self._texts.values())

    def _count_so_far(self) -> int:
        texts = list(self._texts.values())  # another thread may begin one
        return sum(text.tokens_so_far(self._count) for text in texts)

    def _count(self, text: str) -> int:
        return self._counter.count(text, self.model)


@lru_cache(256)
def _count_prefix(count: Callable[[str, str], int], prefix: str, model: str) -> int:
    return count(prefix, model)
