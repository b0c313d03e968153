"""The lane: around a stream's iterator, for plain chunks.

A stream is a row of generators. A read passes each of them twice, with what it brought and with the mark of its end,
which is most of what a plain chunk costs. Transforms that hand on plain events unchanged say what else they do with
them when they are piped; if all do, plain chunks at the beginning of a read are not iterated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sseproxy.wsgi.ends import Source

TURN = 0.25
"""Seconds after which the iterator has a turn where there is no relay, which ends: some transforms look at a clock."""
Seen = Callable[[str, str, Sequence[float]], object]
"""What a transform does with plain events that it hands on unchanged: with the visible text in them, with the other
billed output, and with the moments (monotonic seconds) at which the reads came that brought them."""


def unlimited() -> int:
    """The room of who never waits."""
    return sys.maxsize


class Reader(Protocol):
    """Reads plain events, as the transforms do that were piped before.

    :ivar room: the most tokens of output that may still be read.
    """

    room: int

    def is_ready(self) -> bool:
        """Whether what comes next may be plain, which only the iterator's next step can change."""

    def listen(self) -> Callable[[bytes], bool] | None:
        """What reads some bytes, if they are a plain event and all of an HTTP chunk and may leave as they came."""

    def surroundings(self) -> tuple[bytes, bytes, bytes]:
        """What stands before and behind the text of such an event, and what the next must not begin with, in JSON; only
        where there is one.
        """

    def hear(self, texts: bytes) -> None:
        """Read these texts of such events, in JSON, each with a comma behind it."""

    def passes(self, data: bytes, *, framed: bool) -> int:
        """How many bytes, from the first, may leave as they came; these have been read then."""

    def read(self, data: bytes) -> tuple[bytes, int]:
        """What the plain events become that some bytes begin with, and how many bytes these are."""

    def said(self) -> tuple[str, str]:
        """The text that was read since this was asked last: the visible, and the other billed output."""


def unseen(content: str, hidden: str, times: Sequence[float]) -> None:
    """Of a transform that does nothing with plain events."""


class Lane:
    """One stream's, which it does not know.

    Between two steps of the iterator, and only if it could :meth:`open`, it may be given what comes; before the next
    step :meth:`tell` is to be called, if :meth:`read` has not done it.

    :ivar room: the most tokens of output that may pass before something is done that may have to wait.
    :ivar passed_at: says when something has passed that a function read which :meth:`listen` has given.
    """

    def __init__(self, reader: Reader) -> None:
        self.room = unlimited
        self._reader = reader
        self._seen: list[Seen] = []
        self._times: list[float] = []
        self.passed_at = self._times.append

    def add(self, seen: Seen) -> None:
        """Another transform."""
        if seen is not unseen:
            self._seen.append(seen)

    def open(self) -> bool:
        """Whether what comes next may be plain."""
        if not self._reader.is_ready():
            return False
        self.renew()
        return True

    def renew(self) -> int:
        """How many tokens may pass from now on; to be called after :meth:`tell`."""
        self._reader.room = self.room()
        return self._reader.room

    def listen(self) -> Callable[[bytes], bool] | None:
        """What reads one event that is all of an HTTP chunk (RFC 9112 section 7.1), if it is plain and may leave with
        it; None if none may. Good until the next step of the iterator.
        """
        return self._reader.listen()

    def surroundings(self) -> tuple[bytes, bytes, bytes, int]:
        """What stands before and behind the text of such an event in its chunk, for who finds them otherwise; what the
        next text, in JSON with its first quote, must not begin with, if anything; and how many bytes of text, of which
        a token has one at least, may pass until :meth:`pass_by`. Only where :meth:`listen` gives something.
        """
        return (*self._reader.surroundings(), self._reader.room)

    def pass_by(self, texts: bytes, times: Sequence[float]) -> None:
        """These have passed, in JSON, each with a comma behind it, at these moments."""
        self._reader.hear(texts)
        self._times += times

    def passes(self, data: bytes, at: float) -> int:
        """How many bytes of the HTTP chunks (RFC 9112 section 7.1) that came at this moment may leave as they are."""
        passed = self._reader.passes(data, framed=True)
        if passed:
            self._times.append(at)
        return passed

    def take(self, data: bytes, at: float) -> tuple[bytes, int]:
        """The write that what came at this moment becomes, as far as it is plain, and how many bytes these are; the
        others are to be iterated.
        """
        piece, taken = self._reader.read(data)
        if taken:
            self._times.append(at)
        return piece, taken

    def read(self, source: Source) -> bytes:
        """Wait for the next write, if it is plain; nothing if the iterator is to go on."""
        if not (self._times or self.open()):
            return b""
        data = source.read()
        now = monotonic()
        is_turn = bool(self._times) and now - self._times[0] >= TURN
        piece, taken = self.take(data, now) if data and not is_turn else (b"", 0)
        if data and taken == len(data):
            return piece
        self.tell()
        if data:
            self.put(data[taken:], source)
        elif data is not None:
            source.put_silence()
        return piece

    def put(self, data: bytes, source: Source) -> None:
        """Let the iterator go on with this; with its first event alone, if there may be no room but by waiting for it.

        To be called after :meth:`tell`.
        """
        first, end, later = data.partition(b"\n\n") if self.room() < len(data) else (data, b"", b"")
        source.put(first + end, later)

    def tell(self) -> None:
        """Let the transforms know of all that has passed them by: cheaper for several reads at a time."""
        if self._times:
            times = self._times.copy()
            self._times.clear()
            content, hidden = self._reader.said()
            for seen in self._seen:
                seen(content, hidden, times)
