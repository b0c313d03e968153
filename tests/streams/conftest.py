"""Each store that live streams can have, so that one suite of tests holds for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sseproxy.streams.memory import MemoryStreams
from sseproxy.streams.protocol import Streams
from sseproxy.streams.redis import RedisStreams
from tests.harness import RedisServer

Make = Callable[..., Streams]
DEFAULTS = {"keep": 60.0, "keep_alone": 30.0, "buffer": 4096}


@pytest.fixture(params=["memory", "redis", "another process"])
def make(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Streams, Streams]]]:
    """A function that gives the store that writes and the one that reads: the same, or another on the same Redis."""
    monkeypatch.setattr("sseproxy.streams.memory.END_SECONDS", 0.1)
    stores: list[Streams] = []

    def make(**settings: float) -> tuple[Streams, Streams]:
        if request.param == "memory":
            stores.append(MemoryStreams(**{**DEFAULTS, **settings}))  # type: ignore[arg-type]
            return stores[0], stores[0]
        redis: RedisServer = request.getfixturevalue("redis")
        stores.extend(RedisStreams(redis.url, **{**DEFAULTS, **settings}) for _ in range(2))  # type: ignore[arg-type]
        return stores[0], stores[1 if request.param == "another process" else 0]

    yield make
    for store in stores:
        store.close()
