"""What running requests hold, in Redis, for all processes that use it; extra ``[redis]``.

A user's places are members of a sorted set, scored with the time their lease ends (by Redis's clock), and so are held
tokens, until their window ends. A process renews its leases; when those of a killed process have run out, its places
are free, and its tokens are reported to the next caller.
https://redis.io/docs/latest/develop/data-types/sorted-sets/
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Final, TypeVar

from sseproxy.middleware.slots import StoreUnavailable
from sseproxy.redis_driver import check_redis, connect_redis
from sseproxy.wsgi.per_process import PerProcess

log = logging.getLogger("sseproxy.limits")
T = TypeVar("T")

TIMEOUT: Final = 2.0
"""Seconds for Redis to answer; requests wait for it."""
LEASE: Final = 15.0
"""Seconds for which a place is held without being renewed."""
RENEWALS: Final = 3
"""In the time of a lease."""
_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
_ACQUIRE: Final = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1"""
_HELD: Final = f"{_NOW} return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')"
# XX: a place that was given back meanwhile stays given back. The key may outlive the lease, for the tokens' window.
_RENEW: Final = f"""{_NOW}
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end"""
# A member is an id, its tokens, and when their window ends. ARGV: lease, milliseconds of the window, id, tokens.
_HOLD: Final = f"""{_NOW}
local left = math.max(ARGV[1], ARGV[2])
local member = string.format('%s:%d:%.0f', ARGV[3], ARGV[4], now + ARGV[2])
redis.call('ZADD', KEYS[1], now + ARGV[1], member)
if redis.call('PTTL', KEYS[1]) < left then redis.call('PEXPIRE', KEYS[1], left) end
return member"""
_TOKENS: Final = f"""{_NOW}
local sums = {{0, 0}}
for i, range in ipairs({{{{'(' .. now, '+inf'}}, {{'-inf', now}}}}) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], range[1], range[2])) do
    local tokens, ends = string.match(member, ':(%d+):(%d+)')
    if tonumber(ends) > now then sums[i] = sums[i] + tokens end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return sums"""


class RedisSlots:
    """Counts what the requests of all processes that use this Redis hold.

    :param url: ``redis://``, ``rediss://`` or ``redis+unix://``.
    :param lease: seconds after which the places of a killed process are free.
    :raises RuntimeError: the driver is not installed; says what to install.
    :ivar connections: to this Redis; the counters there share them.
    """

    def __init__(self, url: str, *, lease: float = LEASE) -> None:
        self._redis, self._error = connect_redis(url, timeout=TIMEOUT, wanted_by="Limits")
        self.connections = self._redis.connection_pool
        self._acquire = self._redis.register_script(_ACQUIRE)
        self._held = self._redis.register_script(_HELD)
        self._renew = self._redis.register_script(_RENEW)
        self._hold = self._redis.register_script(_HOLD)
        self._tokens = self._redis.register_script(_TOKENS)
        self._lease = lease
        self._mine = PerProcess(_Mine, self._begin_to_renew)

    def acquire(self, user: str, limit: int) -> str | None:
        mine = self._renewed()
        place = uuid.uuid4().hex
        if not self._ask(lambda: self._acquire([_key(user)], [limit, self._milliseconds, place])):
            return None
        mine.places[place] = _key(user)
        return place

    def release(self, user: str, place: str) -> None:
        if (mine := self._mine.known()) is not None:
            mine.places.pop(place, None)
        try:
            self._ask(lambda: self._redis.zrem(_key(user), place))
        except StoreUnavailable as error:
            log.warning("a place was not given back; its lease will run out: %s", error)

    def held(self, user: str) -> int:
        return int(self._ask(lambda: self._held([_key(user)])))

    def hold(self, whose: str, tokens: int, seconds: float) -> str:
        mine = self._renewed()
        key, window = _tokens_key(whose), int(seconds * 1000)
        hold: bytes = self._ask(lambda: self._hold([key], [self._milliseconds, window, uuid.uuid4().hex, tokens]))
        mine.holds[hold.decode()] = key
        return hold.decode()

    def let_go(self, whose: str, hold: str) -> bool:
        if (mine := self._mine.known()) is not None:
            mine.holds.pop(hold, None)
        return bool(self._ask(lambda: self._redis.zrem(_tokens_key(whose), hold)))

    def tokens(self, whose: str) -> tuple[int, int]:
        held, lost = self._ask(lambda: self._tokens([_tokens_key(whose)]))
        return int(held), int(lost)

    def ping(self) -> None:
        self._ask(lambda: check_redis(self._redis))

    def close(self) -> None:
        if (mine := self._mine.known()) is not None:
            mine.stopping.set()
            if mine.renewing is not None:
                mine.renewing.join()  # before the connections are closed under it
            self._release_all(mine)
        self._redis.close()

    def _release_all(self, mine: _Mine) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for place, key in list(mine.places.items()):
            pipe.zrem(key, place)
        try:
            self._ask(pipe.execute)
        except StoreUnavailable as error:
            log.warning("places were not given back; their leases will run out: %s", error)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except self._error as error:
            raise StoreUnavailable(f"the Redis of limits fails ({type(error).__name__})") from error

    @property
    def _milliseconds(self) -> int:
        return int(self._lease * 1000)

    def _renewed(self) -> _Mine:
        """What this process holds, renewed by a daemon thread from its first stream on.

        :raises StoreUnavailable: the process can start no more threads.
        """
        try:
            return self._mine.get()
        except RuntimeError as error:
            raise StoreUnavailable("there is no thread left to keep places with") from error

    def _begin_to_renew(self, mine: _Mine) -> None:
        thread = threading.Thread(target=self._renew_all, args=(mine,), name="sseproxy-slots", daemon=True)
        thread.start()
        mine.renewing = thread

    def _renew_all(self, mine: _Mine) -> None:
        while not mine.stopping.wait(self._lease / RENEWALS):
            by_key: dict[str, list[str]] = {}
            for place, key in [*mine.places.items(), *mine.holds.items()]:
                by_key.setdefault(key, []).append(place)
            try:
                for key, places in by_key.items():
                    self._ask(lambda k=key, p=places: self._renew([k], [self._milliseconds, *p]))  # type: ignore[misc]
            except StoreUnavailable as error:
                log.warning("leases of what runs could not be renewed: %s", error)


class _Mine:
    """What one process holds; a forked child neither renews nor frees what its parent holds."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self.holds: dict[str, str] = {}
        self.stopping = threading.Event()
        self.renewing: threading.Thread | None = None


def _key(user: str) -> str:
    return f"sseproxy:streams:{user}"


def _tokens_key(whose: str) -> str:
    return f"sseproxy:held:{whose}"
