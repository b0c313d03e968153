"""Live streams that several processes share: each runs in one, and its copy in Redis can be read from all.

A Redis that is away costs the sharing, not the answer; only an ``Idempotency-Key`` cannot be honoured without it.
Extra ``[redis]``.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from sseproxy.redis_driver import connect_redis
from sseproxy.streams.live import LiveStream
from sseproxy.streams.memory import KeyReused, MemoryStreams
from sseproxy.streams.protocol import Busy, Claim, Head, Stream, Writer
from sseproxy.streams.remote import END_ID, RemoteStream, item_id, key_of

log = logging.getLogger("sseproxy.streams")
T = TypeVar("T")

TIMEOUT: Final = 3.0
"""Seconds for Redis to answer; more than any read blocks."""
LEASE: Final = 10
"""Seconds after which a stream counts as dead whose process has not been heard of."""
ROUND: Final = 0.3
"""Seconds between two looks at what readers elsewhere want."""
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
# ARGV: new value, seconds, the value that may be replaced.
_CLAIM: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false"""


class RedisStreams:
    """See :class:`~sseproxy.streams.protocol.Streams`; parameters as for :class:`MemoryStreams`.

    :param url: ``redis://``, ``rediss://`` or ``redis+unix://``.
    :raises RuntimeError: the driver is not installed; says what to install.
    """

    def __init__(self, url: str, *, keep: float, keep_alone: float, buffer: int) -> None:
        self._redis, self._error = connect_redis(url, timeout=TIMEOUT, wanted_by="Streams")
        self._take_claim = self._redis.register_script(_CLAIM)
        self._local = MemoryStreams(keep=keep, keep_alone=keep_alone, buffer=buffer)
        self._keep = max(1, int(keep))
        self._mirrors: dict[str, _Mirror] = {}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process = 0
        self._watcher: threading.Thread | None = None

    def open(self, user: str, claim: Claim | None) -> tuple[Stream, Writer | None]:
        """See the protocol; so for the others."""
        held, found = b"", None
        if claim is not None:
            held, found = self._ask(lambda: self._held(claim))
        if found is not None:
            return found, None
        live = self._local.create(user, secrets.token_hex(16))
        mirror = _Mirror(live, self._redis, self._keep, self._mirrors.pop, self._error)
        self._mirrors[live.id] = mirror
        self._keep_watching()
        if claim is not None:
            taken = False
            try:
                taken = self._take(claim, live.id, held)
            finally:
                if not taken:
                    mirror.end()
            if not taken:
                return self.open(user, claim)
            mirror.claim = claim
        return live, mirror

    def find(self, stream_id: str) -> Stream | None:
        local = self._local.find(stream_id)
        if local is not None or not _ID.match(stream_id):
            return local
        return self._ask(lambda: self._remote(stream_id))

    def counts(self) -> tuple[int, int]:
        return self._local.counts()

    def ping(self) -> None:
        self._ask(self._redis.ping)

    def close(self) -> None:
        self._local.close()
        self._stopping.set()
        if self._watcher is not None and self._process == os.getpid():
            self._watcher.join(TIMEOUT)
        self._redis.close()

    def _held(self, claim: Claim) -> tuple[bytes, Stream | None]:
        """What a claim stands for already, and its stream; none if the process that generated it died.

        :raises KeyReused: it stands for another request.
        """
        held: bytes = self._redis.get(claim_key(claim)) or b""
        body, _, stream_id = held.decode().partition(":")
        if held and body != claim.body:
            raise KeyReused
        return held, self._local.find(stream_id) or self._remote(stream_id)

    def _take(self, claim: Claim, stream_id: str, held: bytes) -> bool:
        """Make the claim stand for this stream, unless it stands for another than was ``held`` meanwhile."""
        ours = f"{claim.body}:{stream_id}"
        return self._ask(lambda: self._take_claim([claim_key(claim)], [ours, self._keep + LEASE, held])) is None

    def _remote(self, stream_id: str) -> RemoteStream | None:
        meta = key_of(stream_id, "meta")
        alive = self._redis.exists(key_of(stream_id, "alive"))
        # In this order: one that ends meanwhile has the one or the other.
        user, ended = self._redis.hmget(meta, "user", "ended")
        if user is None or (ended is None and not alive):
            return None
        return RemoteStream(self._redis, self._ask, stream_id, user.decode())

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except self._error as error:
            log.warning("the Redis of live streams does not answer: %s", type(error).__name__)
            raise Busy("Streams cannot be looked up at present. Try again later.") from error

    def _keep_watching(self) -> None:
        """One daemon thread a process, begun with its first stream: after a fork too."""
        with self._lock:
            if self._process != os.getpid():
                self._process = os.getpid()
                self._watcher = threading.Thread(target=self._watch, name="sseproxy-streams", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        rounds = 0
        while not self._stopping.wait(ROUND):
            rounds += 1
            mirrors = list(self._mirrors.values())
            if not mirrors:
                continue
            try:
                if rounds % 10 == 0:
                    self._renew(mirrors)
                self._listen(mirrors)
            except (self._error, RuntimeError) as error:  # the latter where no thread can be started
                log.warning("running streams could not be looked after: %s", type(error).__name__)

    def _renew(self, mirrors: Sequence[_Mirror]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for mirror in mirrors:
            mirror.renew(pipe)
        pipe.execute()

    def _listen(self, mirrors: Sequence[_Mirror]) -> None:
        """What readers in other processes say: how far they are, or that it shall stop."""
        names = [key_of(mirror.id, part) for mirror in mirrors for part in ("read", "stop")]
        answers = self._redis.mget(names)
        for mirror, read, stop in zip(mirrors, answers[::2], answers[1::2], strict=True):
            if read is not None:
                mirror.live.read_elsewhere(int(read))
            if stop is not None:
                # The end of an answer may take its time, for its exact usage.
                threading.Thread(target=mirror.live.stop, daemon=True).start()


class _Mirror:
    """Writes a local stream, and its copy in Redis as long as that answers."""

    def __init__(
        self,
        live: LiveStream,
        redis: Any,
        keep: int,
        ended: Callable[[str, None], object],
        error: type[Exception],
    ) -> None:
        self.id = live.id
        self.live = live
        self.unwanted = live.unwanted
        self.on_stop = live.on_stop
        self._redis = redis
        self.claim: Claim | None = None
        self._keep = keep
        self._tell_ended = ended
        self._error = error
        self._copying = True
        self._dropped = 0
        self._copy(self._announce)

    def begin(self, head: Head) -> None:
        self._copy(lambda pipe: pipe.hset(key_of(self.id, "meta"), "head", msgspec.msgpack.encode(head)))
        self.live.begin(head)

    def write(self, entries: Sequence[bytes]) -> None:
        # The copy comes second: a reader of it that re-joins here must find its place. It does not wait for readers.
        self.live.append(entries)
        self._copy(lambda pipe: self._add(pipe, entries))
        self.live.wait_for_room()

    def end(self, last: Sequence[bytes] = (), *, broken: bool = False) -> None:
        if self.live.ended_at is None:
            self.live.append(last)
            self._copy(lambda pipe: self._finish(pipe, last, broken))
            self.live.end(broken=broken)
            self._tell_ended(self.id, None)

    def renew(self, pipe: Any) -> None:
        """Hold on to all that is this stream's in Redis; a copy that is no longer written shall not be waited for."""
        if not self._copying:
            return
        pipe.set(key_of(self.id, "alive"), 1, ex=LEASE)
        for name in (key_of(self.id, "meta"), key_of(self.id, "entries"), *self._claim_keys()):
            pipe.expire(name, self._keep + LEASE)

    def _announce(self, pipe: Any) -> None:
        pipe.hset(key_of(self.id, "meta"), "user", self.live.user)
        self.renew(pipe)

    def _add(self, pipe: Any, entries: Sequence[bytes]) -> None:
        number = self.live.last
        pipe.xadd(key_of(self.id, "entries"), {"e": msgspec.msgpack.encode(list(entries))}, id=item_id(number))
        if number == len(entries):
            pipe.expire(key_of(self.id, "entries"), self._keep + LEASE)
        if self.live.dropped > self._dropped:
            self._dropped = self.live.dropped
            pipe.xtrim(key_of(self.id, "entries"), minid=item_id(self._dropped + 1), approximate=False)

    def _finish(self, pipe: Any, last: Sequence[bytes], broken: bool) -> None:
        if last:
            self._add(pipe, last)
        fields = {"ended": self.live.last} | ({"broken": 1} if broken else {})
        pipe.hset(key_of(self.id, "meta"), mapping=fields)
        pipe.xadd(key_of(self.id, "entries"), {"end": 1}, id=END_ID)
        for part in ("meta", "entries"):
            pipe.expire(key_of(self.id, part), self._keep)
        pipe.delete(key_of(self.id, "alive"))
        if self.live.was_refused():
            pipe.delete(key_of(self.id, "read"), *self._claim_keys())

    def _claim_keys(self) -> list[str]:
        return [claim_key(self.claim)] if self.claim is not None else []

    def _copy(self, write: Callable[[Any], object]) -> None:
        if not self._copying:
            return
        pipe = self._redis.pipeline(transaction=False)
        try:
            write(pipe)
            pipe.execute()
        except self._error as error:
            self._copying = False
            log.warning("a stream can be re-joined in this process only: Redis failed (%s)", type(error).__name__)


def claim_key(claim: Claim) -> str:
    """Where it is kept which stream a claim opened."""
    return f"sseproxy:claim:{claim.key}"
