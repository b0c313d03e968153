"""What the rest knows of live streams: answers that run once, apart from the connections that read them.

A stream is written by one generation and read by any number of readers, each at its own place. What it says is bytes
here: entries, numbered from 1, each one event as its client will see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sseproxy.core.failure import Failure


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer begins with: ``"200 OK"`` and header fields as in WSGI.

    :ivar refusal: where the status is one: OpenAI's JSON error body. The entries tell the same as the stream's client
        understands it, for a reader whose head was sent already.
    :ivar optional_names: the events' names are the format's own, for clients that read event streams and no others.
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
    """What an ``Idempotency-Key`` stands for.

    :ivar key: names the key and whose it is; not the key itself.
    :ivar body: names what was asked under it.
    """

    key: str
    body: str


class Stopped(Exception):
    """Nobody wants the rest of this stream: its generation is to end."""


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
    """The stream ended without its end: the reader's connection is to be aborted, not closed."""


class Busy(Failure):
    """No further stream can be kept at present."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=503, type="server_error", code="streams_unavailable", retry_after=5)


class Reader(Protocol):
    """One place in a stream. Closing it leaves the stream to itself, or to the others who read it."""

    @property
    def position(self) -> int:
        """The number of the last entry that was read."""

    def head(self, timeout: float) -> Head | None:
        """The answer's head; None if it is not there within ``timeout`` seconds.

        :raises Lost: the place that is to be read first is gone already.
        :raises Broken: there will be none.
        """

    def read(self, timeout: float) -> list[bytes] | None:
        """All entries that have come since; empty after ``timeout`` seconds of silence, None at the end.

        :raises Lost: they have come and gone.
        :raises Broken: the stream broke off.
        """

    def close(self) -> None:
        """Read no more. Idempotent."""


class Stream(Protocol):
    """A stream that runs, or has ended not long ago."""

    @property
    def id(self) -> str:
        """128 random bits in hexadecimal: who has it may read."""

    @property
    def user(self) -> str:
        """Who asked and is billed."""

    def join(self, after: int = 0) -> Reader:
        """Read on after that entry.

        :raises Lost: there is no such place, or no longer.
        """

    def has_ended_at(self, position: int) -> bool:
        """Whether the stream is complete and that was its last entry."""

    def is_unheard(self) -> bool:
        """Whether it runs, nobody reads it, and nobody has read anything of it."""

    def stop(self) -> None:
        """End the generation now. Nothing happens if it has ended."""


class Writer(Protocol):
    """The generation's side of a stream."""

    @property
    def id(self) -> str:
        """The stream's ID."""

    def begin(self, head: Head) -> None:
        """Tell the answer's head. A refusal frees the ``Idempotency-Key``: the next request may try again."""

    def write(self, entries: Sequence[bytes]) -> None:
        """Append entries; waits while nobody has read what fills the buffer.

        :raises Stopped: the rest is not wanted.
        """

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        """The last entries. ``broken``: the answer has not come to its own end and cannot say so."""

    def unwanted(self) -> bool:
        """Whether the stream was stopped, or has had no reader for too long. Cheap: asked at every write."""

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call this when :meth:`Stream.stop` is called, in that thread; at once if it was already."""


class Streams(Protocol):
    """All live streams of a process, or of all processes that share a store."""

    def open(self, user: str, claim: Claim | None) -> tuple[Stream, Writer | None]:
        """A new stream and its writer; or the one that the same claim opened before, without.

        :raises Failure: the claim's key stands for another request (422), or there is no room (503).
        """

    def find(self, stream_id: str) -> Stream | None:
        """The stream of that ID, as long as it is kept."""

    def find_claimed(self, key: str) -> Stream | None:
        """The stream that a claim of that key stands for, whatever was asked."""

    def counts(self) -> tuple[int, int]:
        """How many streams run in this process, and how many that have ended it still keeps."""

    def ping(self) -> None:
        """:raises Failure: the store is away."""

    def close(self) -> None:
        """Stop what runs, and wait a little until it has ended."""
