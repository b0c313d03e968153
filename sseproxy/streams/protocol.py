"""The interface of live streams: answers that are generated once, independently of the connections that read them.

A stream is written by one generation and read by any number of readers, each at its own position. Its content is
opaque here: entries, numbered from 1, each the bytes of one event as its client will see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sseproxy.core.failure import Failure


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer: ``"200 OK"`` and header fields as in WSGI.

    :ivar refusal: for an error status, OpenAI's JSON error body. The entries say the same in the client's format, for
        a reader whose head was sent already.
    :ivar optional_names: the events' names come from the format, and only clients that accept event streams get them.
    """

    status: str
    headers: list[tuple[str, str]]
    refusal: bytes = b""
    optional_names: bool = False

    @property
    def code(self) -> int:
        """The status as a number."""
        return int(self.status[:3])


@dataclass(frozen=True, slots=True)
class Claim:
    """A use of an ``Idempotency-Key``.

    :ivar key: a digest of the key and its user.
    :ivar body: a digest of the request.
    """

    key: str
    body: str


class Stopped(Exception):
    """The rest of this stream is not wanted: its generation has to end."""


class Lost(Failure):
    """A reader asked for entries that the bounded buffer no longer has."""

    def __init__(self) -> None:
        super().__init__(
            "This part of the answer is no longer kept; what follows it cannot be delivered without a gap.",
            status=410,
            type="invalid_request_error",
            code="stream_position_lost",
        )


class Broken(Exception):
    """The stream broke off: the reader's connection has to be aborted, not closed."""


class Busy(Failure):
    """No further stream can be kept at present."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=503, type="server_error", code="streams_unavailable", retry_after=5)


class Reader(Protocol):
    """A position in a stream. Closing a reader does not end the stream."""

    @property
    def position(self) -> int:
        """The number of the last entry that was read."""

    def head(self, timeout: float) -> Head | None:
        """The answer's head; None if it does not come within ``timeout`` seconds.

        :raises Lost: the first position to read is gone already.
        :raises Broken: there will be none.
        """

    def read(self, timeout: float) -> list[bytes] | None:
        """The entries that have come since; empty after ``timeout`` seconds of silence, None at the end.

        :raises Lost: they were dropped before they were read.
        :raises Broken: the stream broke off.
        """

    def close(self) -> None:
        """Stop reading. Idempotent."""


class Stream(Protocol):
    """A stream that runs, or has ended recently."""

    @property
    def id(self) -> str:
        """128 random bits in hexadecimal: whoever knows it may read."""

    @property
    def user(self) -> str:
        """The user who is billed."""

    def join(self, after: int = 0) -> Reader:
        """A reader of what follows that entry.

        :raises Lost: there is no such position, or no longer.
        """

    def has_ended_at(self, position: int) -> bool:
        """Whether the stream is complete and that was its last entry."""

    def is_unheard(self) -> bool:
        """Whether it runs and has no reader, nor had one that read anything."""

    def stop(self) -> None:
        """End the generation now. No effect if it has ended."""


class Writer(Protocol):
    """The generation's side of a stream."""

    @property
    def id(self) -> str:
        """The stream's ID."""

    def begin(self, head: Head) -> None:
        """Set the answer's head. A refusal frees the ``Idempotency-Key``: the next request may try again."""

    def write(self, entries: Sequence[bytes]) -> None:
        """Append entries; waits while the buffer is full of unread ones.

        :raises Stopped: the rest is not wanted.
        """

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        """Append the last entries and end. ``broken``: the answer is incomplete, and its format cannot express that."""

    def unwanted(self) -> bool:
        """Whether the stream was stopped, or has had no reader for too long. Cheap: called at every write."""

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call this when :meth:`Stream.stop` is called, in that thread; at once if it was called already."""


class Streams(Protocol):
    """All live streams of a process, or of all processes that share a store."""

    def open(self, user: str, claim: Claim | None) -> tuple[Stream, Writer | None]:
        """A new stream and its writer; or the stream that the same claim opened before, and None.

        :raises Failure: the key was used for another request (422), or there is no room (503).
        """

    def find(self, stream_id: str) -> Stream | None:
        """The stream with that ID, as long as it is kept."""

    def find_claimed(self, key: str) -> Stream | None:
        """The stream of a claim with that key, whatever the request was."""

    def counts(self) -> tuple[int, int]:
        """How many streams run in this process, and how many ended ones it still keeps."""

    def ping(self) -> None:
        """:raises Failure: the store is unreachable."""

    def close(self) -> None:
        """Stop running streams, and wait a few seconds until they have ended."""
