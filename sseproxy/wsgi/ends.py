"""The two ends of a stream that is not iterated: where it is read, and where it is written bypassing the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """An upstream's body; non-blocking while a ride reads it."""

    def fileno(self) -> int:
        """The socket's descriptor."""

    def is_drained(self) -> bool:
        """Whether nothing is buffered: the next bytes come from :meth:`receive`, later ones from the socket."""

    def set_waiting(self, waiting: bool) -> None:
        """Whether the iterator blocks for bytes; off for :meth:`receive`."""

    def receive(self) -> bytes | None:
        """What has arrived, unprocessed, may be empty; None: the end or a failure, which the iterator will report."""

    def read(self) -> bytes | None:
        """Wait one tick for bytes, without their transfer framing, may be empty; None as above."""

    def is_framed(self) -> bool:
        """Whether the next byte begins an HTTP chunk (RFC 9112 section 7.1)."""

    def is_bare(self) -> bool:
        """Whether HTTP chunks can be read from the socket itself: no TLS, and nothing was read ahead."""

    def unwrap(self, data: bytes) -> bytes | None:
        """Decode the transfer framing of received bytes; None as above, after the :meth:`rest`. Not needed for whole
        chunks.
        """

    def heard(self, at: float) -> None:
        """Record when the last byte came (monotonic seconds)."""

    def fail(self, error: OSError) -> None:
        """Make the iterator end with this read failure."""

    def put(self, data: bytes, later: bytes = b"") -> None:
        """Make the iterator return this next, and then ``later``, unless :meth:`rest` takes that first."""

    def rest(self) -> bytes:
        """Take what was put for later, if it is next: without transfer framing, may be empty."""

    def put_silence(self) -> None:
        """Make the iterator return an idle tick next."""


class Writer(Protocol):
    """A client's connection, bypassing the server that owns it."""

    @property
    def chunked(self) -> bool:
        """Whether pieces are sent as HTTP chunks (RFC 9112 section 7.1)."""

    def is_ready(self) -> bool:
        """Whether the server has sent all that it was given, so that it can be bypassed."""

    def fileno(self) -> int:
        """The socket's descriptor."""

    def send(self, data: bytes) -> int:
        """Write without blocking; returns how many bytes were taken.

        :raises OSError: the client has left.
        """

    def duplicate(self) -> int:
        """A duplicate of the socket's descriptor to write to, which the caller closes and whose writes it reports to
        :meth:`note_sent`.

        :raises OSError: the client has left, or no descriptor is left.
        """

    def note_sent(self, count: int) -> None:
        """Record that so many bytes were written through a duplicate."""

    def send_all(self, data: bytes) -> None:
        """Write through the server, blocking as it does.

        :raises OSError: the client has left.
        """

    def when_closed(self, callback: Callable[[], object] | None) -> None:
        """Call this when the server itself closes the connection."""
