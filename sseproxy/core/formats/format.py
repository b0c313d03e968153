"""What every format is: canonical OpenAI events in, the client's events and bytes out, with the format's own marks.

Specification of events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from sseproxy.core.sse import PING, Event, encode

# EventSource fires these itself: an event of that name would look like a lost or a new connection.
_TAKEN: Final = ("error", "open")


class Format(Protocol):
    """An immutable description, shared by all streams; the state of one stream lives in :meth:`render`."""

    @property
    def content_type(self) -> str:
        """The answer's ``Content-Type``."""

    @property
    def events(self) -> bool:
        """Whether the answer is an event stream, whose events may carry names, ids and ``retry``."""

    @property
    def ping(self) -> bytes:
        """What is written in silences; empty if the format has nothing that its client would not take for text."""

    @property
    def shows_cost(self) -> bool:
        """Whether it needs the usage chunk, although the client did not ask for it."""

    def render(self, events: Iterator[Event], *, named: bool) -> Iterator[Event]:
        """The transform from canonical chat events to this format's, with :data:`~sseproxy.core.sse.FLUSH` passed on.

        What it yields says of itself what the canonical event said (``content``, ``usage``, ``error``).

        :param named: whether the client understands ``event:`` fields (it said ``Accept: text/event-stream``).
        :raises Failure: the answer failed, and this format has no way to say so but to break off.
        """

    def encode(self, event: Event) -> bytes:
        """One rendered event on the wire."""


@dataclass(frozen=True)
class EventFormat:
    """What the formats that are event streams have in common.

    :param event: name of every event; empty: none.
    :raises ValueError: it cannot be one; with words for the person who wrote it.
    """

    content_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    events: ClassVar[bool] = True
    ping: ClassVar[bytes] = PING

    event: str = ""

    def __post_init__(self) -> None:
        if self.event and (not self.event.isprintable() or self.event != self.event.strip()):
            raise ValueError("the name of an event is one line of printable characters without blanks around it")
        if self.event in _TAKEN:
            raise ValueError(f"an event named {self.event} would be taken for EventSource's own")

    def encode(self, event: Event) -> bytes:
        """One event block, with a ``data:`` line per line."""
        return encode(event)
