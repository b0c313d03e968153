"""One running answer in this process: written once, read by any number, bounded.

What no reader has been handed is never dropped: when that fills the buffer the writer waits, and with it the upstream.
Of several readers the fastest decides, so that a slow one does not hold up the others; it loses its place instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic
from typing import Final

from sseproxy.streams.protocol import Broken, Head, Lost, Stopped

OVERHEAD: Final = 64
"""Bytes that an entry takes besides its own."""
TICK: Final = 1.0
FIRST_READER: Final = 10.0
"""Seconds that the first reader may take to come, however short a stream is kept alone afterwards."""


class LiveStream:
    """A stream's buffer, and both its sides.

    :param buffer: bytes that are kept of it.
    :param keep_alone: seconds for which it may go on with nobody reading.
    :param ended: called once, when it has ended.
    """

    def __init__(
        self,
        stream_id: str,
        user: str,
        *,
        buffer: int,
        keep_alone: float,
        ended: Callable[[LiveStream], object] = lambda stream: None,
    ) -> None:
        self.id = stream_id
        self.user = user
        self.size = 0
        self.ended_at: float | None = None
        self._limit = buffer
        self._keep_alone = keep_alone
        self._tell_ended = ended
        self._head: Head | None = None
        self._entries: list[bytes] = []
        self._dropped = 0
        self._handed = 0
        self._broken = False
        self._stopped = False
        self._readers: set[LiveReader] = set()
        # When nobody listens any more, until when the stream goes on even so.
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
        with self._changed:
            self._append(entries)
            while self.size > self._limit and not self._make_room():
                if self.unwanted():
                    raise Stopped
                self._changed.wait(TICK)
            if self._stopped:
                raise Stopped

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        with self._changed:
            if self.ended_at is not None:
                return
            self._append(last)
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

    def _append(self, entries: Sequence[bytes]) -> None:
        self._entries += entries
        self.size += sum(map(len, entries)) + OVERHEAD * len(entries)
        self._changed.notify_all()

    def _make_room(self) -> bool:
        """Drop the oldest of what the readers have; whether that was enough."""
        passed = max((reader.position for reader in self._readers), default=self._handed)
        count = 0
        for entry in islice(self._entries, passed - self._dropped):
            if self.size <= self._limit:
                break
            self.size -= len(entry) + OVERHEAD
            count += 1
        del self._entries[:count]
        self._dropped += count
        return self.size <= self._limit

    # The readers' side.

    def join(self, after: int = 0) -> LiveReader:
        reader = LiveReader(self, after)
        with self._changed:
            if not self._dropped <= after <= self.last:
                raise Lost
            self._readers.add(reader)
        return reader

    def has_ended_at(self, position: int) -> bool:
        with self._changed:
            return self.ended_at is not None and position == self.last

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
        """Somebody reads a copy of the stream, and has come that far."""
        with self._changed:
            self._alone_until = monotonic() + self._keep_alone
            self._handed = max(self._handed, position)
            self._changed.notify_all()

    @property
    def dropped(self) -> int:
        """How many of the first entries are gone."""
        return self._dropped

    @property
    def last(self) -> int:
        """The number of the last entry."""
        return self._dropped + len(self._entries)

    def was_refused(self) -> bool:
        """Whether there is no answer but a refusal, or none at all."""
        return self._head is None or self._head.code >= 400

    def _wait_for_head(self, timeout: float) -> Head | None:
        with self._changed:
            self._changed.wait_for(lambda: self._head is not None or self.ended_at is not None, timeout)
            return self._head

    def _read_after(self, position: int, timeout: float) -> list[bytes] | None:
        with self._changed:
            if position >= self.last and self.ended_at is None:
                self._changed.wait(timeout)
            if position < self._dropped:
                raise Lost
            entries = self._entries[position - self._dropped :]
            if entries:
                if self.size > self._limit:
                    self._changed.notify_all()
                self._handed = max(self._handed, position + len(entries))
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
        entries = self._stream._read_after(self.position, timeout)
        if entries:
            self.position += len(entries)
        return entries

    def close(self) -> None:
        self._stream._leave(self)
