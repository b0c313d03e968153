"""A connection to Redis, for whatever several processes share. The one part that imports redis; extra ``[redis]``.

No key and no command may come in here: those belong to what is kept. https://redis.readthedocs.io
"""

from __future__ import annotations

from typing import Any


def connect_redis(url: str, *, timeout: float, wanted_by: str) -> tuple[Any, type[Exception]]:
    """A client, which connects when it is first used, and what it raises when Redis is away or refuses.

    :param url: ``redis://``, ``rediss://`` or ``redis+unix://``.
    :param timeout: seconds for Redis to answer. One that did not is left alone for a while by all but one at a time:
        to them it is away at once.
    :param wanted_by: what needs it, for the message.
    :raises RuntimeError: the driver is not installed; says what to install.
    """
    try:
        from sseproxy.redis_driver.client import connect
    except ImportError as error:
        raise RuntimeError(f"{wanted_by} in Redis need the package redis: pip install 'sseproxy[redis]'") from error
    return connect(url, timeout)
