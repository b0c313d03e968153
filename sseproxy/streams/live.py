"""One running answer in this process: written once, read by any number of readers, with a bounded buffer.

Entries that no reader has received are never dropped, nor is the last half buffer of received ones, which may be in
transit when a connection breaks: the writer waits instead, and with it the upstream. The fastest of several readers
decides, so that a slow one does not block the others; it loses its place instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import monotonic
from typing import Final

from sseproxy.streams.protocol import Broken, Head, Lost, Stopped

OVERHEAD: Final = 64
"""Bytes of memory per entry besides its content."""
MAX_READ: Final = 64 * 1024
"""Bytes after which a read returns no further entry, so that slow readers come back now and then."""
TICK: Final = 1.0
FIRST_READER: Final = 10.0
"""Seconds that the first reader may take to join, however small ``keep_alone`` is."""
ELSEWHERE: Final = 5.0
"""Seconds for which a report of reading in another process is valid; the next one may be late."""


class LiveStream:
    """A stream's buffer, for its writer and its readers.

    :param buffer: the most bytes that are kept.
    :param keep_alone: seconds for which it may go on without a reader.
    :param is_over: whether it has to end and must not wait for readers any more.
    :param ended: called once, when it has ended.
    :ivar dropped: how many of the first entries are gone.
    """

    def __init__(
        self,
        stream_id: str,
        user: str,
        *,
        buffer: int,
        keep_alone: float,
        is_over: Callable[[], bool] = lambda: False,
        ended: Callable[[LiveStream], object] = lambda stream: None,
    ) -> None:
        self.id = stream_id
        self.user = user
        self.size = 0
        self.ended_at: float | None = None
        self._limit = buffer
        self._keep_alone = keep_alone
        self._is_over = is_over
        self._tell_ended = ended
        self._head: Head | None = None
        self._entries: list[bytes] = []
        self.dropped = 0
        # The last entry that any reader has received.
        self._received = 0
        # How many entries the readers have passed, and the size of those of them that are still kept.
        self._passed = 0
        self._passed_size = 0
        self._broken = False
        self._stopped = False
        self._readers: set[LiveReader] = set()
        # The position of a reader in another process, and until when that is valid.
        self._elsewhere = 0
        self._elsewhere_until = 0.0
        # Until when the stream goes on without a reader.
        self._alone_until = monotonic() + max(keep_alone, FIRST_READER)
        self._stop_callbacks: list[Callable[[], object]] = []
        self._changed = threading.Condition()

    # The writer's side.

    def begin(self, head: Head) -> None:
        """See :class:`~sseproxy.streams.protocol.Writer`; so for the others."""
        with self._changed:
            self._head = head
            self._changed.notify_all()

    def write(self, entries: Sequence[bytes]) -> None:
        self.append(entries)
        self.wait_for_room()

    def append(self, entries: Sequence[bytes]) -> None:
        """Make these entries available to readers, without waiting."""
        with self._changed:
            self._entries += entries
            self.size += _size(entries)
            self._changed.notify_all()

    def has_room(self) -> bool:
        """Whether the writer can go on without waiting for a reader."""
        with self._changed:
            return self._has_room()

    def wait_for_room(self) -> None:
        """Wait while the buffer is full of unread entries.

        :raises Stopped: the rest is not wanted.
        """
        with self._changed:
            while not (self._has_room() or self._is_over()):
                if self.unwanted():
                    raise Stopped
                self._changed.wait(TICK)
            if self._stopped:
                raise Stopped

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        with self._changed:
            if self.ended_at is not None:
                return
            self.append(last)
            self._broken = broken
            self.ended_at = monotonic()
            self._stop_callbacks.clear()
            self._changed.notify_all()
        self._tell_ended(self)

    def unwanted(self) -> bool:
        return self._stopped or (not self._readers and monotonic() >= self._alone_until)

    def on_stop(self, callback: Callable[[], object]) -> None:
        with self._changed:
            if not self._stopped:
                self._stop_callbacks.append(callback)
                return
        callback()

    def _has_room(self) -> bool:
        """Whether the writer may go on, after dropping the oldest entries that readers have passed."""
        if self.size <= self._limit:
            return True
        self._note_passed()
        count = 0
        for entry in islice(self._entries, self._passed - self.dropped):
            size = len(entry) + OVERHEAD
            if self.size <= self._limit or self._passed_size - size < self._limit // 2:
                break
            self.size -= size
            self._passed_size -= size
            count += 1
        del self._entries[:count]
        self.dropped += count
        return self.size <= self._limit or self.size - self._passed_size <= self._limit // 2

    def _note_passed(self) -> None:
        """Update how far the readers are; that may be less than before if the fastest has left."""
        positions = [reader.position for reader in self._readers]
        if monotonic() < self._elsewhere_until:
            positions.append(self._elsewhere)
        passed = max(max(positions, default=self._received), self.dropped)
        before = self._passed - self.dropped
        now = passed - self.dropped
        self._passed_size += _size(self._entries[before:now]) - _size(self._entries[now:before])
        self._passed = passed

    # The readers' side.

    def join(self, after: int = 0) -> LiveReader:
        reader = LiveReader(self, after)
        with self._changed:
            if not self.dropped <= after <= self.last:
                raise Lost
            self._readers.add(reader)
        return reader

    def has_ended_at(self, position: int) -> bool:
        with self._changed:
            return self.ended_at is not None and position == self.last

    def is_unheard(self) -> bool:
        with self._changed:
            return self.ended_at is None and not self._readers and not self._received and not self.unwanted()

    def stop(self) -> None:
        with self._changed:
            if self._stopped or self.ended_at is not None:
                return
            self._stopped = True
            callbacks, self._stop_callbacks = self._stop_callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            callback()

    def read_elsewhere(self, position: int) -> None:
        """Note that a reader of the stream's copy in another process has reached this position."""
        with self._changed:
            now = monotonic()
            position = min(position, self.last)
            # The fastest of several remote readers decides, too.
            self._elsewhere = max(self._elsewhere, position) if now < self._elsewhere_until else position
            self._elsewhere_until = now + ELSEWHERE
            self._alone_until = now + max(self._keep_alone, ELSEWHERE)
            self._received = max(self._received, position)
            self._changed.notify_all()

    @property
    def last(self) -> int:
        """The number of the last entry."""
        return self.dropped + len(self._entries)

    def kept_after(self, number: int) -> tuple[int, list[bytes]]:
        """The entries after that one which are still kept, preceded by the number of the entry before them."""
        with self._changed:
            before = max(number, self.dropped)
            return before, self._entries[before - self.dropped :]

    def was_refused(self) -> bool:
        """Whether the answer is a refusal, or there is none."""
        return self._head is None or self._head.code >= 400

    def _wait_for_head(self, timeout: float) -> Head | None:
        with self._changed:
            self._changed.wait_for(lambda: self._head is not None or self.ended_at is not None, timeout)
            if self._head is None and self.ended_at is not None:
                raise Broken
            return self._head

    def _read(self, reader: LiveReader, timeout: float) -> list[bytes] | None:
        with self._changed:
            if reader.position >= self.last and self.ended_at is None:
                self._changed.wait(timeout)
            if reader.position < self.dropped:
                raise Lost
            entries = one_read(self._entries, reader.position - self.dropped)
            if entries:
                reader.position += len(entries)
                self._received = max(self._received, reader.position)
                if self.size > self._limit:
                    self._changed.notify_all()
            elif self.ended_at is not None:
                if self._broken:
                    raise Broken
                return None
            return entries

    def _leave(self, reader: LiveReader) -> None:
        with self._changed:
            if reader not in self._readers:
                return
            self._readers.remove(reader)
            self._alone_until = monotonic() + self._keep_alone
            alone = not self._readers
        if alone and not self._keep_alone:
            self.stop()


class LiveReader:
    """See :class:`~sseproxy.streams.protocol.Reader`."""

    def __init__(self, stream: LiveStream, after: int) -> None:
        self.position = after
        self._stream = stream

    def head(self, timeout: float) -> Head | None:
        return self._stream._wait_for_head(timeout)

    def read(self, timeout: float) -> list[bytes] | None:
        return self._stream._read(self, timeout)

    def close(self) -> None:
        self._stream._leave(self)


def one_read(entries: Sequence[bytes], start: int = 0) -> list[bytes]:
    """The entries from ``start`` that one read returns."""
    size = 0
    for end in range(start, len(entries)):
        size += len(entries[end])
        if size >= MAX_READ:
            return list(entries[start : end + 1])
    return list(entries[start:])


def _size(entries: Iterable[bytes]) -> int:
    return sum(len(entry) + OVERHEAD for entry in entries)
