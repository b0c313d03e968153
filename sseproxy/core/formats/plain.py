"""The format ``plain``: the answer's text and nothing else, as ``text/plain``, for ``fetch`` and ``getReader()``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sseproxy.core.formats.reading import MESSAGE, one_line, read_chunk, whole
from sseproxy.core.sse import DONE, FLUSH, Event


@dataclass(frozen=True)
class Plain:
    """Raw text. Nothing marks the end but the end of the body.

    :param error: written where the answer fails, ``{message}`` in it replaced by the reason; empty: the body is broken
        off, so that ``fetch`` rejects.
    :raises ValueError: the mark is no text.
    """

    content_type: ClassVar[str] = "text/plain; charset=utf-8"
    events: ClassVar[bool] = False
    ping: ClassVar[bytes] = b""
    shows_cost: ClassVar[bool] = False

    error: str = ""

    def __post_init__(self) -> None:
        if whole(self.error) != self.error:
            raise ValueError("error holds half a character (a surrogate)")

    def render(self, events: Iterator[Event], *, named: bool) -> Iterator[Event]:
        """See :class:`~sseproxy.core.formats.Format`; names do not exist here."""
        for event in events:
            if event is FLUSH:
                yield event
            elif event.error is not None:
                if not self.error:
                    raise event.error
                yield FLUSH  # a write of its own: clients compare the chunk that they read with the token
                said = self.error.replace(MESSAGE, one_line(event.error.message))
                yield Event(said.encode(), read=True, usage=event.usage, error=event.error)
            elif event.data != DONE and (text := read_chunk(event.data).text):
                yield Event(text.encode(), read=True, content=text)

    def encode(self, event: Event) -> bytes:
        """The text itself."""
        return event.data
