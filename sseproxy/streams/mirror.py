"""A live stream that this process generates, and its copy in Redis, which other processes read; keys: see ``remote``.

The copy is written after the stream and may fall behind: after a failure the writer does not try Redis again. Once
Redis answers, the watching thread rebuilds the copy from all that is still kept, whether Redis was unreachable or has
lost its data. If Redis is slow, the writer does not copy each write: the next copy takes the entries in between.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

import msgspec

from sseproxy.streams.live import LiveStream, one_read
from sseproxy.streams.protocol import Claim, Head
from sseproxy.streams.remote import END_ID, item_id, key_of

log = logging.getLogger("sseproxy.streams")

LEASE: Final = 10
"""Seconds without a sign of its process after which a stream counts as dead."""
SLOW: Final = 0.05
"""Seconds that a copy may take before the next one is postponed, for as long as it took."""
SILENCE: Final = 0.3
"""Seconds after that without a write, after which postponed entries are copied all the same."""
# ARGV: our own value.
_FREE_CLAIM: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1"""
Part = Callable[[Any], object]
"""Adds commands to a pipeline."""


class Mirror:
    """See :class:`~sseproxy.streams.protocol.Writer`.

    :param keep: seconds for which an ended stream can be read again.
    :param ended: called with the ID when the copy is complete.
    :param error: the exception that the Redis client raises.
    :ivar claim: what the stream was opened for.
    """

    def __init__(
        self, live: LiveStream, redis: Any, keep: int, ended: Callable[[str, None], object], error: type[Exception]
    ) -> None:
        self.id = live.id
        self.live = live
        self.unwanted = live.unwanted
        self.on_stop = live.on_stop
        self.claim: Claim | None = None
        self._redis = redis
        self._keep = keep
        self._tell_ended = ended
        self._error = error
        self._head: Head | None = None
        self._end: dict[str, int] = {}
        # The number of the last entry that was copied, and of the last that was dropped from the copy.
        self._copied = 0
        self._dropped = 0
        self._put_off_until = 0.0
        self._behind = False
        self._lock = threading.RLock()
        self._copy(self._describe, self.renew)

    def begin(self, head: Head) -> None:
        self._head = head
        self._copy(self._describe, self.renew)
        self.live.begin(head)

    def write(self, entries: Sequence[bytes]) -> None:
        # The copy comes second: one of its readers that re-joins here must find its place. Copying waits for no reader.
        self.live.append(entries)
        began = monotonic()
        # Without room, the writer may wait for a reader of the copy, who may wait for postponed entries.
        if began >= self._put_off_until or not self.live.has_room():
            self._copy(self._add)
            if (took := monotonic() - began) > SLOW:
                self._put_off_until = began + 2 * took
        self.live.wait_for_room()

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        if self.live.ended_at is None:
            self.live.append(last)
            with self._lock:
                self._end = {"ended": self.live.last} | ({"broken": 1} if broken else {})
                self._copy(self._describe, self._add, self._finish)
            self.live.end(broken=broken)

    def renew(self, pipe: Any) -> None:
        """Extend the lifetime of all of this stream's keys, even if the copy is behind: its process is alive."""
        pipe.expire(key_of(self.id, "alive"), LEASE)
        for part in ("meta", "entries"):
            pipe.expire(key_of(self.id, part), self._keep + LEASE)
        if self.claim is not None:
            pipe.expire(claim_key(self.claim.key), self._keep + LEASE)

    def note_forgotten(self) -> None:
        """Note that Redis has lost this stream's ``alive`` key."""
        with self._lock:
            self._behind = self._behind or not self._end

    def catch_up(self) -> None:
        """Rebuild the copy if it is behind; else add postponed entries."""
        with self._lock:
            if self._behind:
                finish = [self._finish] if self._end else []
                parts = [self._describe, self._claim_again, self.renew, self._start_over, self._add, *finish]
                self._behind = not self._send(*parts)
            elif self._copied < self.live.last and monotonic() >= self._put_off_until + SILENCE:
                self._copy(self._add)

    def _copy(self, *parts: Part) -> None:
        with self._lock:
            if self._behind:
                return
            try:
                self._behind = not self._send(*parts)
            except self._error as error:
                self._behind = True
                log.warning("until Redis answers, a stream can be re-joined here only: %s", type(error).__name__)

    def _send(self, *parts: Part) -> bool:
        """Whether the copy is up to date; not if Redis has lost the stream that it was to be added to."""
        pipe = self._redis.pipeline(transaction=len(parts) > 1)
        for part in parts:
            part(pipe)
        taken = None not in pipe.execute()
        if taken and self._end:
            self._tell_ended(self.id, None)
        return taken

    def _describe(self, pipe: Any) -> None:
        head = {"head": msgspec.msgpack.encode(self._head)} if self._head is not None else {}
        pipe.hset(key_of(self.id, "meta"), mapping={"user": self.live.user, **head, **self._end})
        pipe.set(key_of(self.id, "alive"), 1, ex=LEASE)

    def _claim_again(self, pipe: Any) -> None:
        if self.claim is not None:
            pipe.setnx(claim_key(self.claim.key), claim_value(self.claim, self.id))

    def _start_over(self, pipe: Any) -> None:
        pipe.delete(key_of(self.id, "entries"))
        self._copied, self._dropped = 0, self.live.dropped

    def _add(self, pipe: Any) -> None:
        name = key_of(self.id, "entries")
        is_first = not self._copied
        number, entries = self.live.kept_after(self._copied)
        while entries:
            batch = one_read(entries)
            del entries[: len(batch)]
            number += len(batch)
            pipe.xadd(name, {"e": msgspec.msgpack.encode(batch)}, id=item_id(number), nomkstream=self._copied > 0)
            self._copied = number
        if is_first:
            pipe.expire(name, self._keep + LEASE)
        if self.live.dropped > self._dropped:
            self._dropped = self.live.dropped
            pipe.xtrim(name, minid=item_id(self._dropped + 1), approximate=False)

    def _finish(self, pipe: Any) -> None:
        pipe.xadd(key_of(self.id, "entries"), {"end": 1}, id=END_ID, nomkstream=self._copied > 0)
        for part in ("meta", "entries"):
            pipe.expire(key_of(self.id, part), self._keep)
        pipe.delete(key_of(self.id, "alive"))
        if self.live.was_refused():
            pipe.delete(key_of(self.id, "read"))
            if self.claim is not None:
                pipe.eval(_FREE_CLAIM, 1, claim_key(self.claim.key), claim_value(self.claim, self.id))


def claim_key(key: str) -> str:
    """The Redis key that maps a claim to its stream."""
    return f"sseproxy:claim:{key}"


def claim_value(claim: Claim, stream_id: str) -> str:
    """The value under that key."""
    return f"{claim.body}:{stream_id}"
