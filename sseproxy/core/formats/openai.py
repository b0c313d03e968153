"""The format ``openai``: canonical events as they are, for OpenAI's SDKs and everything that reads like them.

Specification: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sseproxy.core.formats.format import EventFormat
from sseproxy.core.sse import FLUSH, Event


@dataclass(frozen=True)
class OpenAI(EventFormat):
    """OpenAI's own chunks."""

    shows_cost: ClassVar[bool] = False

    def render(self, events: Iterator[Event], *, named: bool) -> Iterator[Event]:
        """See :class:`~sseproxy.core.formats.Format`."""
        return self._named(events) if named and self.event else events

    def _named(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event is not FLUSH:
                event.type = self.event
            yield event
