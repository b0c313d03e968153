"""A client of a Redis that may fall silent, as a host does that vanished: who asks it then waits, each time.

One that refuses connections costs nobody any time, and is asked by everybody. https://redis.readthedocs.io
"""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.connection import AbstractConnection

from sseproxy.core.outage import Outage

PAUSE: Final = 3.0
"""Seconds after which one looks again whether a silent Redis is back."""


def connect(url: str, timeout: float) -> tuple[Any, type[Exception]]:
    """See :func:`~sseproxy.redis_driver.connect_redis`."""
    # The name of the scheme that the package limits has for a socket.
    url = url.replace("redis+unix://", "unix://")
    outage = Outage(pause=PAUSE, patience=2 * timeout)
    pool = ListeningPool.from_url(url, outage=outage, socket_timeout=timeout, socket_connect_timeout=timeout)
    client = redis.Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client, redis.RedisError


class ListeningPool(redis.ConnectionPool):
    """Gives no connection to a silent Redis but to the one who looks whether it is back."""

    def __init__(self, connection_class: Any = redis.Connection, *, outage: Outage, **named: Any) -> None:
        super().__init__(type("Listening", (_Listening, connection_class), {"outage": outage}), **named)
        self._outage = outage

    def get_connection(self, *given: Any, **named: Any) -> Any:
        if self._outage.bars():
            raise redis.TimeoutError("Redis is silent, and somebody looks whether it is back")
        try:
            return super().get_connection(*given, **named)
        except redis.TimeoutError:
            self._outage.begin()
            raise
        except redis.RedisError:
            self._outage.end()
            raise


class _Listening(AbstractConnection):
    outage: Outage

    def read_response(self, *given: Any, **named: Any) -> Any:
        try:
            answer = super().read_response(*given, **named)
        except redis.TimeoutError:
            self.outage.begin()
            raise
        except redis.RedisError:
            self.outage.end()
            raise
        self.outage.end()
        return answer
