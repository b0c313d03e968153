"""A live stream that another process generates, read from its copy in Redis.

Keys, all under ``sseproxy:live:ID:``: ``meta`` (hash: user, head, number of the last entry once it has ended),
``entries`` (a stream; an item holds what one read brought, its ID ``2-N`` the number of its last entry, ``3-0`` the
end), ``alive`` (the generating process's lease), ``read`` (a remote reader's position), ``stop``.
https://redis.io/docs/latest/develop/data-types/streams/
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, Final, Protocol, TypeVar

import msgspec

from sseproxy.streams.live import one_read
from sseproxy.streams.protocol import Broken, Head, Lost

READ_EXPIRES: Final = 5
"""Seconds for which a reader's report is valid."""
END_ID: Final = "3-0"
BEFORE_ENTRIES: Final = "2-0"
TELL: Final = 0.3
"""Seconds between two reports of a reader's position."""
HEAD_POLL: Final = 0.05
GRACE: Final = 1.0
"""Seconds within which a process renews its lease after Redis was unreachable or has lost its data."""
MOST_ITEMS: Final = 64
"""Items that are fetched at once."""
T = TypeVar("T")
_head = msgspec.msgpack.Decoder(Head)
_entries = msgspec.msgpack.Decoder(list[bytes])


def key_of(stream_id: str, part: str) -> str:
    """The Redis key of a part of a stream."""
    return f"sseproxy:live:{stream_id}:{part}"


def item_id(number: int) -> str:
    """The ID of the item whose last entry has that number."""
    return f"2-{number}"


class Ask(Protocol):
    """Queries Redis, and turns its errors into a :class:`~sseproxy.core.failure.Failure`."""

    def __call__(self, question: Callable[[], T], /) -> T: ...


class RemoteStream:
    """See :class:`~sseproxy.streams.protocol.Stream`.

    :param redis: a client that returns bytes.
    """

    def __init__(self, redis: Any, ask: Ask, stream_id: str, user: str) -> None:
        self.id = stream_id
        self.user = user
        self._redis = redis
        self._ask = ask

    def join(self, after: int = 0) -> RemoteReader:
        ended = self._ask(lambda: self._redis.hget(key_of(self.id, "meta"), "ended"))
        if ended is not None and after > int(ended):
            raise Lost
        entries = key_of(self.id, "entries")
        first = self._ask(lambda: self._redis.xrange(entries, min=BEFORE_ENTRIES, count=1))
        if first and first[0][0].decode() != END_ID and _span(first[0])[0] > after:
            raise Lost
        return RemoteReader(self._redis, self._ask, self.id, after)

    def has_ended_at(self, position: int) -> bool:
        ended = self._ask(lambda: self._redis.hget(key_of(self.id, "meta"), "ended"))
        return ended is not None and int(ended) == position

    def is_unheard(self) -> bool:
        return False  # only asked for streams of the same process

    def stop(self) -> None:
        self._ask(lambda: self._redis.set(key_of(self.id, "stop"), 1, ex=READ_EXPIRES))


class RemoteReader:
    """See :class:`~sseproxy.streams.protocol.Reader`."""

    def __init__(self, redis: Any, ask: Ask, stream_id: str, after: int) -> None:
        self.position = after
        self._redis = redis
        self._ask = ask
        self._id = stream_id
        self._told = 0
        self._told_at = 0.0
        self._is_heard = True
        self._ended = False
        self._fetched: list[bytes] = []

    def head(self, timeout: float) -> Head | None:
        return self._ask(lambda: self._wait_for_head(timeout))

    def read(self, timeout: float) -> list[bytes] | None:
        return self._ask(lambda: self._read(timeout))

    def close(self) -> None:
        """Nothing to release; this reader's report expires."""

    def _wait_for_head(self, timeout: float) -> Head | None:
        until = monotonic() + timeout
        while True:
            raw, ended = self._redis.hmget(key_of(self._id, "meta"), "head", "ended")
            self._is_heard = ended is None
            self._tell()  # a Redis that refuses writes is noticed while an error status can still be sent
            if raw is not None:
                self._fetch(0)  # and so is a lost position
                return _head.decode(raw)
            if ended is not None or is_left(self._redis, self._id):
                raise Broken
            if monotonic() >= until:
                return None
            sleep(HEAD_POLL)

    def _read(self, timeout: float) -> list[bytes] | None:
        self._tell()
        if self.position > self._told:
            # The writer may have no room until this is reported.
            self._fetch(min(timeout, TELL))
            self._tell()
        self._fetch(timeout)
        if self._fetched:
            entries = one_read(self._fetched)
            del self._fetched[: len(entries)]
            self.position += len(entries)
            self._tell()
            return entries
        if not self._ended:
            if is_left(self._redis, self._id):
                raise Broken
            return []
        ended, broken = self._redis.hmget(key_of(self._id, "meta"), "ended", "broken")
        if ended is not None and self.position > int(ended):
            raise Lost
        if broken is not None:
            raise Broken
        return None

    def _fetch(self, timeout: float) -> None:
        if self._fetched or self._ended:
            return
        after = {key_of(self._id, "entries"): item_id(self.position)}
        found = self._redis.xread(after, count=MOST_ITEMS, block=max(1, int(timeout * 1000)))
        for item in found[0][1] if found else ():
            if item[0].decode() == END_ID:
                self._ended = True
                return
            first, new = _span(item)
            fetched = self.position + len(self._fetched)
            if first > fetched:
                raise Lost
            self._fetched += new[fetched - first :]

    def _tell(self) -> None:
        """Report this reader's position to the generating process, unless the stream had ended when reading began."""
        now = monotonic()
        if self._is_heard and now - self._told_at >= TELL:
            self._told, self._told_at = self.position, now
            self._redis.set(key_of(self._id, "read"), self.position, ex=READ_EXPIRES)


def is_left(redis: Any, stream_id: str) -> bool:
    """Whether the process that generated a stream is gone, and the stream has no end."""
    until = monotonic() + GRACE
    # In this order: a stream that ends meanwhile has one or the other.
    while not redis.exists(key_of(stream_id, "alive")) and not _has_end(redis, stream_id):
        if monotonic() >= until:
            return True
        sleep(HEAD_POLL)
    return False


def _has_end(redis: Any, stream_id: str) -> bool:
    return bool(redis.xrange(key_of(stream_id, "entries"), min=END_ID, count=1))


def _span(item: tuple[bytes, dict[bytes, bytes]]) -> tuple[int, list[bytes]]:
    """How many entries precede an item, and the item's entries."""
    entries = _entries.decode(item[1][b"e"])
    return int(item[0].decode().partition("-")[2]) - len(entries), entries
