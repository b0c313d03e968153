"""A connection to Redis, for whatever several processes share. The one file that imports redis; extra ``[redis]``.

No key and no command may come in here: those belong to what is kept. https://redis.readthedocs.io
"""

from __future__ import annotations

from typing import Any


def connect_redis(url: str, *, timeout: float, wanted_by: str) -> tuple[Any, type[Exception]]:
    """A client, which connects when it is first used, and what it raises when Redis is away or refuses.

    :param url: ``redis://``, ``rediss://`` or ``redis+unix://``.
    :param timeout: seconds for Redis to answer.
    :param wanted_by: what needs it, for the message.
    :raises RuntimeError: the driver is not installed; says what to install.
    """
    try:
        import redis
    except ImportError as error:
        raise RuntimeError(f"{wanted_by} in Redis need the package redis: pip install 'sseproxy[redis]'") from error
    # The name of the scheme that the package limits has for a socket.
    url = url.replace("redis+unix://", "unix://")
    client = redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    return client, redis.RedisError
