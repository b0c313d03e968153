"""Live streams that several processes share: each runs in one process, and all can read its copy in Redis.

While Redis is unreachable, answers go on and only sharing fails; an ``Idempotency-Key`` that is new to the process is
refused. Extra ``[redis]``.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Final, TypeVar

from sseproxy.redis_driver import check_redis, connect_redis
from sseproxy.streams.memory import KeyReused, MemoryStreams
from sseproxy.streams.mirror import LEASE, Mirror, claim_key, claim_value
from sseproxy.streams.protocol import Busy, Claim, Stream, Writer
from sseproxy.streams.remote import GRACE, HEAD_POLL, RemoteStream, is_left, key_of

log = logging.getLogger("sseproxy.streams")
T = TypeVar("T")

TIMEOUT: Final = 3.0
"""Seconds for Redis to answer; longer than any read blocks."""
ROUND: Final = 0.3
"""Seconds between two polls of what remote readers report."""
RENEW: Final = LEASE * 0.3
"""Seconds between two renewals of the keys in Redis."""
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
# ARGV: new value, seconds, the value that may be replaced.
_CLAIM: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false"""
# KEYS: exists as long as Redis has its data; exists for a moment after Redis has lost it. ARGV: whether the first is
# known to have existed, its lifetime in seconds, and the second's in milliseconds.
_HAS_FORGOTTEN: Final = """
if redis.call('EXPIRE', KEYS[1], ARGV[2]) == 0 then
  redis.call('SET', KEYS[1], 1, 'EX', ARGV[2])
  if ARGV[1] == '1' then redis.call('SET', KEYS[2], 1, 'PX', ARGV[3]) end
end
return redis.call('EXISTS', KEYS[2])"""
_MEMORY: Final = ("sseproxy:live:memory", "sseproxy:live:forgotten")
_MEMORY_EXPIRES: Final = 24 * 60 * 60


class RedisStreams:
    """See :class:`~sseproxy.streams.protocol.Streams`; parameters as for :class:`MemoryStreams`.

    :param url: ``redis://``, ``rediss://`` or ``redis+unix://``.
    :raises RuntimeError: the driver is not installed; says what to install.
    """

    def __init__(
        self, url: str, *, keep: float, keep_alone: float, buffer: int, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self._redis, self._error = connect_redis(url, timeout=TIMEOUT, wanted_by="Streams")
        self._take_claim = self._redis.register_script(_CLAIM)
        self._ask_memory = self._redis.register_script(_HAS_FORGOTTEN)
        self._memory_until = 0.0
        self._local = MemoryStreams(keep=keep, keep_alone=keep_alone, buffer=buffer, is_over=is_over)
        self._keep = max(1, int(keep))
        self._mirrors: dict[str, Mirror] = {}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process = 0
        self._watcher: threading.Thread | None = None

    def open(self, user: str, claim: Claim | None) -> tuple[Stream, Writer | None]:
        """See the protocol; so for the others."""
        held = b""
        found: Stream | None = None
        if claim is not None:
            # What began in this process is known here, even if Redis has lost it.
            found = self._local.claimed(claim)
            if found is None:
                held, found = self._ask(lambda: self._held(claim))
        if found is not None:
            return found, None
        self._keep_watching()
        live = self._local.create(user, secrets.token_hex(16))
        mirror = Mirror(live, self._redis, self._keep, self._mirrors.pop, self._error)
        self._mirrors[live.id] = mirror
        if claim is not None:
            taken = False
            try:
                taken = self._take(claim, live.id, held)
            finally:
                if not taken:
                    mirror.end()
                    self._mirrors.pop(live.id, None)
            if not taken:
                return self.open(user, claim)
            mirror.claim = claim
            self._local.keep_claim(claim, live.id)
        return live, mirror

    def find(self, stream_id: str) -> Stream | None:
        local = self._local.find(stream_id)
        if local is not None or not _ID.match(stream_id):
            return local
        return self._ask(lambda: self._recalled(lambda: self._remote(stream_id)))

    def find_claimed(self, key: str) -> Stream | None:
        local = self._local.find_claimed(key)
        if local is not None:
            return local
        return self.find(self._ask(lambda: self._claim_on(key)).decode().partition(":")[2])

    def counts(self) -> tuple[int, int]:
        return self._local.counts()

    def ping(self) -> None:
        self._ask(lambda: check_redis(self._redis))

    def close(self) -> None:
        self._local.close()
        self._stopping.set()
        if self._watcher is not None and self._process == os.getpid():
            self._watcher.join(TIMEOUT)
        self._redis.close()

    def _held(self, claim: Claim) -> tuple[bytes, Stream | None]:
        """The value stored for a claim, and its stream; None if the process that generated it died.

        :raises KeyReused: the key was used for another request.
        """
        held = self._claim_on(claim.key)
        if not held:
            return held, None
        body, _, stream_id = held.decode().partition(":")
        if body != claim.body:
            raise KeyReused
        return held, self._local.find(stream_id) or self._remote(stream_id)

    def _take(self, claim: Claim, stream_id: str, held: bytes) -> bool:
        """Map the claim to this stream, unless its value is no longer ``held``."""
        ours = [claim_value(claim, stream_id), self._keep + LEASE, held]
        return self._ask(lambda: self._take_claim([claim_key(claim.key)], ours)) is None

    def _remote(self, stream_id: str) -> RemoteStream | None:
        user = self._redis.hget(key_of(stream_id, "meta"), "user")
        if user is None or is_left(self._redis, stream_id):
            return None
        return RemoteStream(self._redis, self._ask, stream_id, user.decode())

    def _claim_on(self, key: str) -> bytes:
        return self._recalled(lambda: self._redis.get(claim_key(key))) or b""

    def _recalled(self, look: Callable[[], T | None]) -> T | None:
        """The result of ``look``, repeated for a moment if Redis has just lost its data."""
        if not self._memory_until:
            self._has_forgotten()
        found = look()
        if found is None and self._has_forgotten():
            until = monotonic() + GRACE
            while found is None and monotonic() < until:
                sleep(HEAD_POLL)
                found = look()
        return found

    def _has_forgotten(self) -> bool:
        """Whether Redis lost its data a moment ago, so that not all processes have restored their streams yet."""
        now = monotonic()
        lasts = now < self._memory_until
        has_forgotten = self._ask_memory(_MEMORY, [int(lasts), _MEMORY_EXPIRES, int(GRACE * 1000)])
        self._memory_until = now + _MEMORY_EXPIRES
        return bool(has_forgotten)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except self._error as error:
            log.warning("the Redis of live streams fails: %s: %s", type(error).__name__, error)
            raise Busy("Streams cannot be looked up at present. Try again later.") from error

    def _keep_watching(self) -> None:
        """Start the process's watching thread with its first stream, also after a fork.

        :raises Busy: no thread could be started.
        """
        with self._lock:
            if self._process != os.getpid():
                watcher = threading.Thread(target=self._watch, name="sseproxy-streams", daemon=True)
                try:
                    watcher.start()
                except RuntimeError as error:
                    raise Busy("There is no thread left to keep an answer with. Try again later.") from error
                self._process, self._watcher = os.getpid(), watcher

    def _watch(self) -> None:
        due = 0.0
        away = False
        while not self._stopping.wait(ROUND):
            mirrors = self._watched()
            if not mirrors:
                away = False
                continue
            try:
                if monotonic() >= due:
                    self._has_forgotten()
                    self._renew(mirrors)
                    due = monotonic() + RENEW
                self._listen(mirrors)
                for mirror in mirrors:
                    mirror.catch_up()
                if away:
                    log.warning("running streams are looked after again")
                away = False
            except (self._error, RuntimeError) as error:  # the latter where no thread can be started
                if not away:
                    log.warning("running streams cannot be looked after: %s", type(error).__name__)
                away = True

    def _watched(self) -> list[Mirror]:
        """Streams that run, and those that ended while Redis was unreachable, as long as they are kept."""
        for mirror in list(self._mirrors.values()):
            if mirror.live.ended_at is not None and self._local.find(mirror.id) is None:
                self._mirrors.pop(mirror.id, None)
        return list(self._mirrors.values())

    def _renew(self, mirrors: Sequence[Mirror]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for mirror in mirrors:
            mirror.renew(pipe)
        pipe.execute()

    def _listen(self, mirrors: Sequence[Mirror]) -> None:
        """Act on what remote readers report, their position or a stop, and on streams that Redis has lost."""
        names = [key_of(mirror.id, part) for mirror in mirrors for part in ("read", "stop", "alive")]
        answers = self._redis.mget(names)
        for mirror, read, stop, alive in zip(mirrors, answers[::3], answers[1::3], answers[2::3], strict=True):
            if read is not None:
                mirror.live.read_elsewhere(int(read))
            if stop is not None:
                # Ending an answer may take a while, to get its exact usage.
                threading.Thread(target=mirror.live.stop, daemon=True).start()
            if alive is None:
                mirror.note_forgotten()
