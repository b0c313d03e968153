"""The format ``text``: the answer's text in ``data:``, for pages that print what an EventSource hands them.

Specification: https://html.spec.whatwg.org/multipage/server-sent-events.html
A page tells the marks from text by looking at one event, so no event of text may hold a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final

from sseproxy.core.formats.format import EventFormat
from sseproxy.core.formats.reading import MESSAGE, one_line, read_chunk
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import Usage

_LINE_END: Final = r"(\r\n|\r|\n)"
_NEVER: Final = r"(?!)()"
# Hand-written readers split at it (CLIENTS: `chunk.split("data: ")`); bare text has no escape for it.
_SEPARATOR: Final = "data: "


@dataclass(frozen=True)
class Text(EventFormat):
    """Bare text.

    :param newline: what a line end is sent as, in an event of its own; empty: as it is, over several ``data:`` lines.
    :param done: the last event of a whole answer.
    :param error: the last event of one that failed; ``{message}`` in it is replaced by the reason.
    :raises ValueError: the marks cannot be told apart, or from text.
    """

    shows_cost: ClassVar[bool] = False

    newline: str = ""
    done: str = "[DONE]"
    error: str = f"[ERROR] {MESSAGE}"
    _special: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        fixed = [part for each in self.error.split(MESSAGE) if len(part := each.strip()) > 1]
        _check("newline", self.newline, [self.newline or _SEPARATOR])
        _check("done", self.done, [self.done])
        _check("error", self.error, fixed)
        if len({self.newline, self.done, self.error}) < 3:
            raise ValueError("newline, done and error must differ, or the client cannot tell them apart")
        marks = [mark for mark in (self.newline, self.done, *fixed, _SEPARATOR) if mark]
        line_end = _LINE_END if self.newline else _NEVER
        object.__setattr__(self, "_special", re.compile("|".join([line_end, *map(re.escape, marks)])))

    def render(self, events: Iterator[Event], *, named: bool) -> Iterator[Event]:
        """See :class:`~sseproxy.core.formats.Format`."""
        name = self.event if named else ""
        usage: Usage | None = None
        after_cr = False
        for event in events:
            if event is FLUSH:
                yield event
                continue
            usage = event.usage or usage
            if event.error is not None:
                said = self.error.replace(MESSAGE, one_line(event.error.message))
                yield Event(said.encode(), name, read=True, usage=usage, error=event.error)
            elif event.data == DONE:
                yield Event(self.done.encode(), name, read=True, usage=usage)
            elif text := read_chunk(event.data).text:
                given, after_cr = text[1:] if after_cr and text[0] == "\n" else text, text[-1] == "\r"
                for shown, meant in self._pieces(given):
                    yield Event(shown.encode(), name, None, None, True, meant)

    def _pieces(self, text: str) -> Iterable[tuple[str, str]]:
        """What the events of one piece of text show, and what each means."""
        if self._special.search(text) is None:
            return ((text, text),) if text else ()
        return self._cut(text)

    def _cut(self, text: str) -> Iterator[tuple[str, str]]:
        """Line ends apart from text, and text cut after the first character of each mark in it."""
        start = 0
        while (found := self._special.search(text, start)) is not None:
            end = found.start() if found[1] else found.start() + 1
            if end > start:
                yield text[start:end], text[start:end]
            if found[1]:
                yield self.newline, "\n"
            start = found.end() if found[1] else end
        if start < len(text):
            yield text[start:], text[start:]


def _check(name: str, mark: str, fixed: list[str]) -> None:
    """:param fixed: what of the mark is always the same."""
    if not any(len(part) > 1 for part in fixed):
        beside = f" beside {MESSAGE}" if MESSAGE in mark else ""
        raise ValueError(f"{name} needs at least two characters{beside}, to be told from text")
    if not mark.isprintable():
        raise ValueError(f"{name} must be one line of printable characters")
