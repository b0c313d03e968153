"""A connection to Redis, for whatever several processes share. The one part that imports redis; extra ``[redis]``.

No key and no command of what is kept may come in here. https://redis.readthedocs.io
"""

from __future__ import annotations

from typing import Any, Final

PROBES: Final = [f"sseproxy:ping:{number}" for number in range(8)]
"""Keys that a cluster spreads over its nodes: one node alone refuses some of them."""
PROBED: Final = 1000
"""Milliseconds for which they stay."""


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


def check_redis(client: Any) -> None:
    """Return if this Redis takes what is written: a replica, or one that is full, answers a PING all the same.

    :raises Exception: it does not, or is away; of the class that came with the client.
    """
    pipe = client.pipeline(transaction=False)
    for key in PROBES:
        pipe.set(key, b"", px=PROBED)
    pipe.execute()
