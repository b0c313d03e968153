"""The format ``envelope``: each piece of text inside JSON of the page's own shape, and the whole answer at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sseproxy.core.formats.format import EventFormat
from sseproxy.core.formats.reading import read_chunk, whole
from sseproxy.core.formats.template import NESTED, Template
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import Usage

EACH: Final = ("text", "id", "model")
"""Placeholders of every event."""
LAST: Final = ("answer", "id", "model", "finish_reason", "cost")
"""Placeholders of the last event; ``cost`` in USD, empty where it is not known."""
FAILED: Final = ("message", "code", "answer", "id", "model")
"""Placeholders of the event that tells of a failure; ``answer`` is what came of it."""

_Json = Any


@dataclass(frozen=True)
class Envelope(EventFormat):
    """JSON after templates, see :class:`~sseproxy.core.formats.Template`.

    :param template: of each piece of text.
    :param done: of the last event of a whole answer.
    :param error: of the last event of one that failed.
    :raises ValueError: a template is none.
    """

    template: _Json = field(default_factory=lambda: {"message": "{text}", "data": None})
    done: _Json = field(
        default_factory=lambda: {"message": "[DONE]", "data": {NESTED: {"assistantContent": "{answer}"}}}
    )
    error: _Json = field(default_factory=lambda: {"message": "[ERROR]", "data": {NESTED: {"error": "{message}"}}})
    _each: Template = field(init=False, repr=False, compare=False)
    _last: Template = field(init=False, repr=False, compare=False)
    _failed: Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_each", Template(self.template, EACH))
        object.__setattr__(self, "_last", Template(self.done, LAST))
        object.__setattr__(self, "_failed", Template(self.error, FAILED))

    @property
    def shows_cost(self) -> bool:
        """See :class:`~sseproxy.core.formats.Format`."""
        return "cost" in self._last.names

    def render(self, events: Iterator[Event], *, named: bool) -> Iterator[Event]:
        """See :class:`~sseproxy.core.formats.Format`."""
        name = self.event if named else ""
        keep = "answer" in self._last.names | self._failed.names
        pieces: list[str] = []
        values = dict.fromkeys((*EACH, *LAST, *FAILED), "")
        usage: Usage | None = None
        for event in events:
            if event is FLUSH:
                yield event
                continue
            usage = event.usage or usage
            if event.error is not None:
                values["answer"] = "".join(pieces)
                values["message"] = whole(event.error.message)
                values["code"] = "" if event.error.code is None else whole(str(event.error.code))
                yield Event(self._failed.render(values), name, read=True, usage=usage, error=event.error)
            elif event.data == DONE:
                values["answer"] = "".join(pieces)
                yield Event(self._last.render(values), name, read=True, usage=usage)
            elif text := _note(event.data, values):
                values["text"] = text
                if keep:
                    pieces.append(text)
                yield Event(self._each.render(values), name, None, None, True, text)


def _note(data: bytes, values: dict[str, str]) -> str:
    """Keep what a chunk says of the answer; return its text."""
    chunk = read_chunk(data)
    values["id"] = chunk.id or values["id"]
    values["model"] = chunk.model or values["model"]
    values["finish_reason"] = chunk.finish_reason or values["finish_reason"]
    if not chunk.choices:
        values["cost"] = chunk.cost or values["cost"]
    return chunk.text
