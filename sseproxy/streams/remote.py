"""A live stream that another process generates, read from its copy in Redis.

Keys, all under ``sseproxy:live:ID:``: ``meta`` (hash: user, head, number of the last entry once it has ended),
``entries`` (a stream; an item holds what one read brought, its ID ``2-N`` the number of its last entry, ``3-0`` the
end), ``alive`` (the generating process's lease), ``read`` (how far somebody elsewhere has read), ``stop``.
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
"""Seconds for which a word of somebody's reading holds."""
END_ID: Final = "3-0"
BEFORE_ENTRIES: Final = "2-0"
TELL: Final = 0.3
"""Seconds between two words of how far somebody has read."""
HEAD_POLL: Final = 0.05
MOST_ITEMS: Final = 64
"""Items that are fetched at once."""
T = TypeVar("T")
_head = msgspec.msgpack.Decoder(Head)
_entries = msgspec.msgpack.Decoder(list[bytes])


def key_of(stream_id: str, part: str) -> str:
    """Where a part of a stream is kept."""
    return f"sseproxy:live:{stream_id}:{part}"


def item_id(number: int) -> str:
    """The ID of the item whose last entry has that number."""
    return f"2-{number}"


class Ask(Protocol):
    """Asks Redis, and makes what it raises a :class:`~sseproxy.core.failure.Failure`."""

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
        entries = key_of(self.id, "entries")
        first = self._ask(lambda: self._redis.xrange(entries, min=BEFORE_ENTRIES, count=1))
        if first and first[0][0].decode() != END_ID and _span(first[0])[0] > after:
            raise Lost
        return RemoteReader(self._redis, self._ask, self.id, after)

    def has_ended_at(self, position: int) -> bool:
        ended = self._ask(lambda: self._redis.hget(key_of(self.id, "meta"), "ended"))
        return ended is not None and int(ended) == position

    def is_unheard(self) -> bool:
        return False  # nobody asks here for what another process began

    def stop(self) -> None:
        self._ask(lambda: self._redis.set(key_of(self.id, "stop"), 1, ex=READ_EXPIRES))


class RemoteReader:
    """See :class:`~sseproxy.streams.protocol.Reader`."""

    def __init__(self, redis: Any, ask: Ask, stream_id: str, after: int) -> None:
        self.position = after
        self._redis = redis
        self._ask = ask
        self._id = stream_id
        self._told = 0.0
        self._ended = False
        self._fetched: list[bytes] = []

    def head(self, timeout: float) -> Head | None:
        until = monotonic() + timeout
        while (raw := self._ask(lambda: self._redis.hget(key_of(self._id, "meta"), "head"))) is None:
            self._ask(self._tell)
            self._ask(self._check_alive)
            if monotonic() >= until:
                return None
            sleep(HEAD_POLL)
        return _head.decode(raw)

    def read(self, timeout: float) -> list[bytes] | None:
        return self._ask(lambda: self._read(timeout))

    def close(self) -> None:
        """Nothing is held; the word of this reading expires."""

    def _read(self, timeout: float) -> list[bytes] | None:
        self._tell()
        if not self._fetched and not self._ended:
            self._fetch(timeout)
        if self._fetched:
            entries = one_read(self._fetched)
            del self._fetched[: len(entries)]
            self.position += len(entries)
            return entries
        if not self._ended:
            self._check_alive()
            return []
        if self._redis.hexists(key_of(self._id, "meta"), "broken"):
            raise Broken
        return None

    def _fetch(self, timeout: float) -> None:
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
        """Let the generating process know that somebody listens."""
        now = monotonic()
        if now - self._told >= TELL:
            self._told = now
            self._redis.set(key_of(self._id, "read"), self.position, ex=READ_EXPIRES)

    def _check_alive(self) -> None:
        """:raises Broken: the process that generated this is gone."""
        alive, entries = self._redis.exists(key_of(self._id, "alive")), key_of(self._id, "entries")
        if not alive and not self._redis.xrange(entries, min=END_ID, count=1):
            raise Broken


def _span(item: tuple[bytes, dict[bytes, bytes]]) -> tuple[int, list[bytes]]:
    """How many entries come before an item, and its own."""
    entries = _entries.decode(item[1][b"e"])
    return int(item[0].decode().partition("-")[2]) - len(entries), entries
