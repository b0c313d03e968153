"""What every store of live streams does, for readers in the same process and elsewhere."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from sseproxy.core.failure import Failure
from sseproxy.streams.live import MAX_READ
from sseproxy.streams.protocol import Broken, Claim, Head, Lost, Reader, Stopped, Stream, Streams, Writer
from tests.harness import PATIENCE, wait_until

Make = Callable[..., tuple[Streams, Streams]]
HEAD = Head("200 OK", [("Content-Type", "text/event-stream")])
CLAIM = Claim("key", "body")


def begin(store: Streams, claim: Claim | None = None) -> tuple[Stream, Writer]:
    stream, writer = store.open("alice", claim)
    assert writer is not None
    writer.begin(HEAD)
    return stream, writer


def found(store: Streams, stream: Stream) -> Stream:
    other = store.find(stream.id)
    assert other is not None
    return other


def rest(reader: Reader) -> list[bytes]:
    """All that is left of a stream, waiting for it."""
    entries: list[bytes] = []
    while (more := reader.read(1.0)) is not None:
        entries += more
    return entries


def test_a_reader_gets_the_head_and_every_entry_in_order(make: Make) -> None:
    here, there = make()
    stream, writer = begin(here)
    reader = found(there, stream).join()
    assert reader.head(1.0) == HEAD
    writer.write([b"a", b"b"])
    assert reader.read(1.0) == [b"a", b"b"]
    assert reader.position == 2
    writer.write([b"c"])
    writer.end([b"d"])
    assert rest(reader) == [b"c", b"d"]


def test_silence_is_an_empty_read_and_not_the_end(make: Make) -> None:
    here, there = make()
    stream, _ = begin(here)
    assert found(there, stream).join().read(0.05) == []


@pytest.mark.parametrize("after", range(6))
def test_whoever_joins_late_gets_what_follows_its_place(make: Make, after: int) -> None:
    here, there = make()
    stream, writer = begin(here)
    writer.write([b"1", b"2", b"3"])
    writer.write([b"4", b"5"])
    writer.end()
    reader = found(there, stream).join(after)
    assert b"".join(rest(reader)) == b"12345"[after:]


def test_several_readers_each_get_everything(make: Make) -> None:
    here, there = make(buffer=1 << 20)
    stream, writer = begin(here)
    results: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: results.append(rest(found(there, stream).join()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    sent = [b"%d" % number for number in range(500)]
    for entry in sent:
        writer.write([entry])
    writer.end()
    for thread in threads:
        thread.join()
    assert results == [sent] * 5


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_or_repeated_however_often_a_reader_is_cut_off_and_wherever_it_comes_back(
    make: Make, seed: int
) -> None:
    chance = random.Random(seed)
    stores = make(buffer=20_000)
    stream, writer = begin(stores[0])
    sent = [b"%d:" % number + b"x" * chance.randrange(200) for number in range(200)]

    def write() -> None:
        done = 0
        while done < len(sent):
            size = chance.randint(1, 20)
            writer.write(sent[done : done + size])
            done += size
        writer.end()

    thread = threading.Thread(target=write)
    thread.start()
    cuts = random.Random(-seed)
    received: list[bytes] = []
    while not (len(received) == len(sent) and found(stores[0], stream).has_ended_at(len(received))):
        reader = found(cuts.choice(stores), stream).join(len(received))
        for _ in range(cuts.randint(1, 5)):
            entries = reader.read(0.05) or []
            # Half the buffer is kept of what was handed out last; on a busy machine one read may bring more than that.
            lost = cuts.randint(0, min(20, len(entries))) if cuts.random() < 0.2 else 0
            arrived = len(entries) - lost
            received += entries[:arrived]
            if arrived < len(entries):
                break
        reader.close()
    thread.join()
    assert received == sent


def test_much_is_read_in_portions(make: Make) -> None:
    here, there = make(buffer=1 << 20)
    stream, writer = begin(here)
    writer.write([b"x" * 1000] * 500)
    writer.end()
    reader = found(there, stream).join()
    portions = []
    while (entries := reader.read(1.0)) is not None:
        portions.append(len(entries))
        assert reader.position == sum(portions)
    assert sum(portions) == 500
    assert max(portions) <= MAX_READ / 1000 + 1


def test_the_end_is_known_to_whoever_has_all(make: Make) -> None:
    here, there = make()
    stream, writer = begin(here)
    writer.write([b"1", b"2"])
    assert not found(there, stream).has_ended_at(2)
    writer.end()
    assert found(there, stream).has_ended_at(2)
    assert not found(there, stream).has_ended_at(1)


def test_a_broken_stream_is_told_from_an_ended_one(make: Make) -> None:
    here, there = make()
    stream, writer = begin(here)
    writer.write([b"1"])
    writer.end(broken=True)
    reader = found(there, stream).join()
    assert reader.read(1.0) == [b"1"]
    with pytest.raises(Broken):
        reader.read(1.0)


def test_stop_reaches_the_writer(make: Make) -> None:
    here, there = make()
    stream, writer = begin(here)
    stopped = threading.Event()
    writer.on_stop(stopped.set)
    found(there, stream).stop()
    assert stopped.wait(PATIENCE)
    assert writer.unwanted()
    with pytest.raises(Stopped):
        writer.write([b"more"])


@pytest.mark.parametrize("keep_alone", [0.0, 1.0])
def test_a_stream_that_nobody_reads_is_unwanted_after_its_time_and_not_while_somebody_does(
    make: Make, monkeypatch: pytest.MonkeyPatch, keep_alone: float
) -> None:
    monkeypatch.setattr("sseproxy.streams.live.FIRST_READER", 1.0)
    monkeypatch.setattr("sseproxy.streams.remote.READ_EXPIRES", 1)
    here, there = make(keep_alone=keep_alone)
    stream, writer = begin(here)
    reader = found(there, stream).join()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        reader.read(0.1)
        assert not writer.unwanted()
    reader.close()
    wait_until(writer.unwanted)


def test_what_nobody_has_read_is_not_dropped_and_the_writer_waits(make: Make) -> None:
    here, there = make(buffer=2000)
    stream, writer = begin(here)
    sent = [b"%04d" % number + b"x" * 96 for number in range(60)]
    written = threading.Event()

    def write() -> None:
        for entry in sent:
            writer.write([entry])
        written.set()
        writer.end()

    thread = threading.Thread(target=write)
    thread.start()
    assert not written.wait(0.3)
    assert rest(found(there, stream).join()) == sent
    thread.join()


def test_a_place_that_is_no_longer_kept_is_lost_and_not_skipped(make: Make) -> None:
    here, there = make(buffer=2000)
    stream, writer = begin(here)
    reader = found(there, stream).join()
    thread = threading.Thread(target=lambda: [writer.write([b"x" * 96]) for _ in range(30)])
    thread.start()
    while reader.position < 30:
        reader.read(0.1)
    thread.join()
    # Another process learns a moment later how far its readers are.
    wait_until(lambda: not _can_join(there, stream, 1))


def _can_join(store: Streams, stream: Stream, after: int) -> bool:
    try:
        found(store, stream).join(after).close()
    except Lost:
        return False
    return True


def test_a_place_beyond_the_end_is_lost(make: Make) -> None:
    here, there = make()
    stream, writer = begin(here)
    writer.write([b"1", b"2"])
    writer.end()
    assert rest(found(there, stream).join(2)) == []
    with pytest.raises(Lost):
        found(there, stream).join(3)


def test_a_stream_that_ended_without_a_head_is_broken_for_whoever_waits_for_one(make: Make) -> None:
    here, there = make()
    stream, writer = here.open("alice", CLAIM)
    assert writer is not None
    writer.end()
    with pytest.raises(Broken):
        found(there, stream).join().head(1.0)
    assert there.open("alice", CLAIM)[1] is not None


def test_the_same_claim_finds_the_same_stream(make: Make) -> None:
    here, there = make()
    stream, _ = begin(here, CLAIM)
    again, writer = there.open("alice", CLAIM)
    assert writer is None
    assert again.id == stream.id


def test_the_key_of_a_claim_finds_its_stream_whatever_was_asked(make: Make) -> None:
    here, there = make()
    stream, writer = begin(here, CLAIM)
    claimed = there.find_claimed(CLAIM.key)
    assert claimed is not None
    assert (claimed.id, claimed.user) == (stream.id, "alice")
    claimed.stop()
    wait_until(writer.unwanted)
    assert there.find_claimed("another key") is None


def test_a_claim_on_something_else_is_refused(make: Make) -> None:
    here, there = make()
    begin(here, CLAIM)
    with pytest.raises(Failure) as caught:
        there.open("alice", Claim("key", "another body"))
    assert caught.value.status == 422


def test_one_of_many_that_claim_at_once_may_write(make: Make) -> None:
    here, there = make()
    opened: list[tuple[Stream, Writer | None]] = []
    barrier = threading.Barrier(8)

    def claim(store: Streams) -> None:
        barrier.wait()
        opened.append(store.open("alice", CLAIM))

    threads = [threading.Thread(target=claim, args=([here, there][number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stream.id for stream, _ in opened}) == 1
    assert sum(writer is not None for _, writer in opened) == 1


def test_a_refusal_frees_its_claim_and_can_be_read(make: Make) -> None:
    here, there = make()
    stream, writer = here.open("alice", CLAIM)
    assert writer is not None
    writer.begin(Head("503 SERVICE UNAVAILABLE", [], b'{"error":{}}'))
    writer.end([b"data: error\n\n"])
    head = found(there, stream).join().head(1.0)
    assert head is not None
    assert head.refusal == b'{"error":{}}'
    assert there.open("alice", CLAIM)[1] is not None


def test_an_unknown_id_is_none(make: Make) -> None:
    _, there = make()
    assert there.find("0" * 32) is None
    assert there.find("no id:*\n") is None


def test_ids_are_128_bits_of_chance(make: Make) -> None:
    here, _ = make()
    ids = {begin(here)[0].id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)


def test_an_ended_stream_is_forgotten_after_its_time(make: Make) -> None:
    here, there = make(keep=1.0)
    stream, writer = begin(here, CLAIM)
    writer.end([b"1"])
    assert there.find(stream.id) is not None
    wait_until(lambda: there.find(stream.id) is None)


def test_closing_the_store_stops_what_runs(make: Make) -> None:
    here, _ = make()
    _, writer = begin(here)
    writer.on_stop(lambda: threading.Thread(target=writer.end).start())
    here.close()
    with pytest.raises(Stopped):
        writer.write([b"1"])
