"""One process's live stream: who is waited for, who loses its place, and when nobody is left."""

from __future__ import annotations

import threading
import weakref

import pytest

from sseproxy.streams.live import OVERHEAD, LiveStream
from sseproxy.streams.memory import KEPT_BUFFERS, MemoryStreams
from sseproxy.streams.protocol import Busy, Head, Lost, Stopped
from tests.harness import PATIENCE, wait_until


def live(**settings: float) -> LiveStream:
    return LiveStream("id", "alice", **{"buffer": 2000, "keep_alone": 30.0, **settings})  # type: ignore[arg-type]


def test_a_slow_reader_does_not_hold_up_a_fast_one_and_loses_its_place() -> None:
    stream = live()
    fast, slow = stream.join(), stream.join()
    for _ in range(50):
        stream.write([b"x" * 100])
        assert fast.read(0) == [b"x" * 100]
    with pytest.raises(Lost):
        slow.read(0)


def test_a_slow_reader_that_is_the_only_one_is_waited_for() -> None:
    stream = live()
    slow = stream.join()
    thread = threading.Thread(target=lambda: [stream.write([b"x" * 100]) for _ in range(50)])
    thread.start()
    read: list[bytes] = []
    while len(read) < 50:
        read += slow.read(1.0) or []
    thread.join()
    assert read == [b"x" * 100] * 50


def test_the_buffer_is_bounded() -> None:
    stream = live()
    reader = stream.join()
    for _ in range(500):
        stream.write([b"x" * 100])
        reader.read(0)
        assert stream.size <= 2000 + 164


def test_what_was_handed_to_a_reader_that_left_is_kept_as_far_as_the_buffer_goes() -> None:
    stream = live()
    reader = stream.join()
    stream.write([b"1", b"2", b"3"])
    reader.read(0)
    reader.close()
    assert stream.join(1).read(0) == [b"2", b"3"]


def test_half_the_buffer_is_kept_for_a_reader_whose_connection_lost_what_it_was_handed() -> None:
    stream = live(buffer=20 * (100 + OVERHEAD))
    reader = stream.join()
    stream.write([b"x" * 100] * 20)
    reader.read(0)
    stream.write([b"x" * 100] * 10)
    thread = threading.Thread(target=stream.write, args=([b"x" * 100],))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    assert len(stream.join(10).read(0) or []) == 21
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(Lost):
        stream.join(9)


def test_a_reader_that_lost_its_place_and_is_left_alone_does_not_break_the_stream() -> None:
    stream = live()
    fast, slow = stream.join(), stream.join()
    for _ in range(50):
        stream.write([b"x" * 100])
        fast.read(0)
    fast.close()
    thread = threading.Thread(target=stream.write, args=([b"x" * 100],))
    thread.start()
    thread.join(0.1)
    with pytest.raises(Lost):
        slow.read(0)
    slow.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_what_is_larger_than_the_buffer_can_be_read_again() -> None:
    stream = live()
    thread = threading.Thread(target=stream.write, args=([b"x" * 5000],))
    thread.start()
    assert stream.join().read(1.0) == [b"x" * 5000]
    thread.join()
    assert stream.join().read(1.0) == [b"x" * 5000]


def test_a_place_beyond_the_end_is_none() -> None:
    stream = live()
    stream.write([b"1"])
    with pytest.raises(Lost):
        stream.join(2)


def test_a_writer_that_waits_for_readers_ends_when_the_stream_is_stopped() -> None:
    stream = live()
    ended = threading.Event()

    def write() -> None:
        try:
            stream.write([b"x" * 5000])
        except Stopped:
            ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    stream.stop()
    assert ended.wait(PATIENCE)
    thread.join()


def test_with_no_time_alone_the_last_reader_stops_the_stream() -> None:
    stream = live(keep_alone=0.0)
    first, second = stream.join(), stream.join()
    first.close()
    first.close()
    assert not stream.unwanted()
    second.close()
    assert stream.unwanted()


def test_the_first_reader_may_take_a_moment_to_come() -> None:
    assert not live(keep_alone=0.0).unwanted()


def test_whoever_reads_elsewhere_is_not_alone_between_two_words_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproxy.streams.live.FIRST_READER", 0.0)
    stream = live(keep_alone=0.0)
    assert stream.unwanted()
    stream.read_elsewhere(0)
    assert not stream.unwanted()


def test_a_slow_reader_does_not_hold_up_a_fast_one_elsewhere() -> None:
    stream = live()
    slow = stream.join()

    def write() -> None:
        for number in range(50):
            stream.read_elsewhere(number)
            stream.write([b"x" * 100])

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(Lost):
        slow.read(0)


def test_the_fastest_of_those_who_read_elsewhere_decides_whoever_spoke_last() -> None:
    stream = live()
    for number in range(50):
        stream.write([b"x" * 100])
        stream.read_elsewhere(number + 1)
        stream.read_elsewhere(0)
    assert stream.dropped


def test_a_reader_elsewhere_that_is_no_longer_heard_of_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproxy.streams.live.ELSEWHERE", 0.0)
    stream = live()
    slow = stream.join()
    stream.write([b"x" * 100] * 10)
    stream.read_elsewhere(10)
    thread = threading.Thread(target=stream.write, args=([b"x" * 100] * 10,))
    thread.start()
    thread.join(0.1)
    assert slow.read(0) == [b"x" * 100] * 20
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_word_of_a_place_that_was_never_written_is_not_believed() -> None:
    stream = live()
    stream.read_elsewhere(1000)
    thread = threading.Thread(target=lambda: [stream.write([b"x" * 100]) for _ in range(50)])
    thread.start()
    read: list[bytes] = []
    reader = stream.join()
    while len(read) < 50:
        read += reader.read(1.0) or []
    thread.join()


def test_a_callback_that_comes_after_the_stop_is_called_at_once() -> None:
    stream = live()
    stream.stop()
    called = threading.Event()
    stream.on_stop(called.set)
    assert called.is_set()


def test_ended_streams_are_dropped_oldest_first_when_they_are_too_many() -> None:
    store = MemoryStreams(buffer=1000)
    ids = []
    for _ in range(2 * KEPT_BUFFERS):
        stream, writer = store.open("alice", None)
        assert writer is not None
        writer.begin(Head("200 OK", []))
        writer.end([b"x" * (1000 - OVERHEAD)])
        ids.append(stream.id)
    assert store.find(ids[0]) is None
    assert store.find(ids[-1]) is not None
    assert sum(store.find(each) is not None for each in ids) == KEPT_BUFFERS


def test_running_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproxy.streams.memory.MOST_RUNNING", 2)
    store = MemoryStreams()
    streams = [store.create("alice", str(number)) for number in range(2)]
    with pytest.raises(Busy):
        store.open("alice", None)
    for stream in streams:
        stream.end()


def test_an_ended_stream_is_let_go_when_it_is_due_though_nobody_asks_for_any() -> None:
    store = MemoryStreams(keep=0.05)
    ended = []
    for _ in range(2):
        stream, writer = store.open("alice", None)
        assert writer is not None
        writer.begin(Head("200 OK", []))
        writer.end([b"the text"])
        ended.append(weakref.ref(stream))
        del stream, writer
        wait_until(lambda: ended[-1]() is None)
    store.close()


def test_one_thread_lets_all_of_them_go_and_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (begun.append(thread), start(thread)))
    store = MemoryStreams(keep=3600)
    streams = []
    for _ in range(3):
        stream, writer = store.open("alice", None)
        assert isinstance(stream, LiveStream) and writer is not None
        writer.begin(Head("200 OK", []))
        writer.end()
        streams.append(stream)
    with store._lock:
        for number, stream in enumerate(streams):
            assert stream.ended_at is not None
            stream.ended_at -= 3600 - number / 20
        store._closing.notify_all()

    wait_until(lambda: store.counts() == (0, 0) and not any(thread.is_alive() for thread in begun))
    assert len(begun) == 1
