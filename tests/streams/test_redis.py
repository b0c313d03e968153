"""Live streams in Redis when something is away: the Redis, or the process that generates."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sseproxy.core.failure import Failure
from sseproxy.streams.protocol import Broken, Busy, Claim, Head
from sseproxy.streams.redis import RedisStreams
from sseproxy.streams.remote import key_of
from tests.harness import RedisServer, wait_until

HEAD = Head("200 OK", [])


Open = Callable[[], RedisStreams]


@pytest.fixture
def open_store(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A function that opens a store as another process would."""
    monkeypatch.setattr("sseproxy.streams.memory.END_SECONDS", 0.1)
    stores: list[RedisStreams] = []

    def open_one() -> RedisStreams:
        stores.append(RedisStreams(redis.url, keep=60, keep_alone=30, buffer=1 << 20))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def test_a_running_stream_goes_on_in_its_process_when_redis_dies(redis: RedisServer, open_store: Open) -> None:
    store = open_store()
    stream, writer = store.open("alice", None)
    assert writer is not None
    writer.begin(HEAD)
    writer.write([b"1"])
    redis.stop()
    writer.write([b"2"])
    writer.end()
    assert stream.join().read(0) == [b"1", b"2"]
    found = store.find(stream.id)
    assert found is not None


def test_without_redis_a_claim_is_refused_and_readiness_says_so(redis: RedisServer, open_store: Open) -> None:
    store = open_store()
    redis.stop()
    with pytest.raises(Failure) as claimed:
        store.open("alice", Claim("key", "body"))
    with pytest.raises(Failure) as found:
        store.find("0" * 32)
    with pytest.raises(Failure) as ready:
        store.ping()
    assert {claimed.value.status, found.value.status, ready.value.status} == {503}


def test_a_stream_whose_process_died_is_not_waited_for_and_its_claim_is_free(open_store: Open) -> None:
    dying, other = open_store(), open_store()
    claim = Claim("key", "body")
    stream, writer = dying.open("alice", claim)
    assert writer is not None
    writer.begin(HEAD)
    writer.write([b"1"])
    remote = other.find(stream.id)
    assert remote is not None
    reader = remote.join()
    assert reader.read(1.0) == [b"1"]
    dying._stopping.set()  # as a killed process: nothing is renewed any more
    other._redis.delete(key_of(stream.id, "alive"))
    with pytest.raises(Broken):
        reader.read(0.1)
    assert other.find(stream.id) is None
    assert other.open("alice", claim)[1] is not None


def test_nothing_is_kept_for_ever(open_store: Open) -> None:
    store = open_store()
    _, ended = store.open("alice", Claim("key", "body"))
    _, running = store.open("alice", None)
    for writer in (ended, running):
        assert writer is not None
        writer.begin(HEAD)
        writer.write([b"1"])
    ended.end()  # type: ignore[union-attr]
    keys = store._redis.keys("*")
    assert keys
    assert all(store._redis.ttl(key) > 0 for key in keys)
    running.end()  # type: ignore[union-attr]


def test_leases_of_running_streams_are_renewed(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproxy.streams.redis.ROUND", 0.01)
    store = open_store()
    stream, _ = store.open("alice", None)
    store._redis.delete(key_of(stream.id, "alive"))
    wait_until(lambda: store._redis.exists(key_of(stream.id, "alive")))


def test_a_claim_that_redis_does_not_take_leaves_no_stream_running(open_store: Open) -> None:
    store = open_store()
    store._redis.config_set("maxmemory", 1)  # it answers, and takes nothing more
    try:
        with pytest.raises(Busy):
            store.open("alice", Claim("key", "body"))
    finally:
        store._redis.config_set("maxmemory", 0)
    assert store._local.running() == []
    assert store._mirrors == {}


def test_a_copy_that_is_no_longer_written_is_not_waited_for(redis: RedisServer, open_store: Open) -> None:
    store = open_store()
    stream, writer = store.open("alice", None)
    assert writer is not None
    redis.stop()
    writer.begin(HEAD)
    redis.start()
    store._renew(list(store._mirrors.values()))
    assert not store._redis.exists(key_of(stream.id, "alive"))
    writer.end()
