"""The format ``openai``: canonical events as they are, for OpenAI's SDKs and everything that reads like them.

Specification: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sseproxy.core.formats.format import EVENT_STREAM, check_name
from sseproxy.core.sse import FLUSH, PING, Event, encode


@dataclass(frozen=True)
class OpenAI:
    """OpenAI's own chunks.

    :param event: name of every event; empty: none.
    :raises ValueError: it cannot be one.
    """

    content_type: ClassVar[str] = EVENT_STREAM
    events: ClassVar[bool] = True
    ping: ClassVar[bytes] = PING
    shows_cost: ClassVar[bool] = False

    event: str = ""

    def __post_init__(self) -> None:
        check_name(self.event)

    def render(self, events: Iterator[Event], *, named: bool) -> Iterator[Event]:
        """See :class:`~sseproxy.core.formats.Format`."""
        return self._named(events) if named and self.event else events

    def _named(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event is not FLUSH:
                event.type = self.event
            yield event

    def encode(self, event: Event) -> bytes:
        """One event block."""
        return encode(event)
