"""The two ends of a stream that is not iterated: where it is read, and where it is written past the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """An upstream's body, read without waiting while a stream is here."""

    def fileno(self) -> int:
        """The socket's."""

    def is_drained(self) -> bool:
        """Whether only :meth:`receive` can tell how it goes on, and after that only the socket."""

    def set_waiting(self, waiting: bool) -> None:
        """Whether the iterator waits for bytes; :meth:`receive` wants it not to."""

    def receive(self) -> bytes | None:
        """What has arrived, as it came, maybe nothing; None: the end or a failure, which the iterator will tell."""

    def read(self) -> bytes | None:
        """Wait a while for what comes, without its transfer framing, maybe nothing; None as above."""

    def is_framed(self) -> bool:
        """Whether what comes next is an HTTP chunk from its beginning (RFC 9112 section 7.1)."""

    def is_bare(self) -> bool:
        """Whether HTTP chunks come, and stand on the socket as they are: no TLS, and nothing was read ahead."""

    def unwrap(self, data: bytes) -> bytes | None:
        """Take the transfer framing off what was received; None as above, after the :meth:`rest`. Not needed of whole
        chunks.
        """

    def heard(self, at: float) -> None:
        """The last byte came at this moment (monotonic seconds)."""

    def fail(self, error: OSError) -> None:
        """Let the iterator end with this failure of a read."""

    def put(self, data: bytes, later: bytes = b"") -> None:
        """Let the iterator go on with this, and then with what is for later, unless :meth:`rest` takes it first."""

    def rest(self) -> bytes:
        """Take what is at hand for later, if it is its turn: without its transfer framing, maybe nothing."""

    def put_silence(self) -> None:
        """Let the iterator go on with an idle tick."""


class Writer(Protocol):
    """A client's connection, past the server that it belongs to."""

    @property
    def chunked(self) -> bool:
        """Whether pieces are framed (RFC 9112 section 7.1)."""

    def is_ready(self) -> bool:
        """Whether all that the server was given is sent, so that something may be written past it."""

    def fileno(self) -> int:
        """The socket's."""

    def send(self, data: bytes) -> int:
        """Write without waiting; how many bytes were taken.

        :raises OSError: the client has left.
        """

    def duplicate(self) -> int:
        """Another number for the socket, to write by, and to be closed by whoever asked; what is written is told to
        :meth:`note_sent`.

        :raises OSError: the client has left, or there are no more files.
        """

    def note_sent(self, count: int) -> None:
        """So many bytes were written by a duplicate."""

    def send_all(self, data: bytes) -> None:
        """Write by the server, and wait as it does.

        :raises OSError: the client has left.
        """

    def when_closed(self, callback: Callable[[], object] | None) -> None:
        """Call this when the server closes the connection by itself."""
