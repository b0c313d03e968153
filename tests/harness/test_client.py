"""The raw client: what it reports about framing and about the moment of each event."""

from __future__ import annotations

import pytest

from tests.harness import RawClient, Upstream, raw


def body_of(upstream: Upstream, *pieces: bytes, **options: str) -> RawClient:
    upstream.script = raw(list(pieces), **options)  # type: ignore[arg-type]
    return RawClient(upstream.url).post("/v1/chat/completions", {})


def test_an_event_may_come_in_any_pieces(upstream: Upstream) -> None:
    with body_of(upstream, b"da", b"ta: a\nda", b"ta: b\n", b"\ndata: c\n\n") as client:
        assert [event.data for event in client.events()] == [b"a\nb", b"c"]


def test_fields_and_comments_are_told_apart(upstream: Upstream) -> None:
    with body_of(upstream, b": ping\n", b"id: 7\nevent: x\ndata: {}\n\n", b": only a comment\n\n") as client:
        event = client.read_event()

        assert event is not None
        assert (event.id, event.type, event.json) == ("7", "x", {})
        assert client.read_event() is None
        assert client.comments == [b": ping", b": only a comment"]


def test_the_chunks_are_kept_as_they_were_written(upstream: Upstream) -> None:
    with body_of(upstream, b"one", b"two") as client:
        assert client.read_body() == b"onetwo"
        assert client.chunks == [b"one", b"two"]


@pytest.mark.parametrize(
    ("framing", "end", "ending"),
    [
        ("chunked", "clean", "clean"),
        ("chunked", "cut", "cut"),
        ("chunked", "reset", "cut"),
        ("length", "clean", "clean"),
        ("length", "cut", "cut"),
        ("close", "cut", "clean"),
    ],
)
def test_a_cut_differs_from_an_end_where_the_framing_shows_it(
    upstream: Upstream, framing: str, end: str, ending: str
) -> None:
    with body_of(upstream, b"data: x\n\n", framing=framing, end=end) as client:
        client.read_body()

        assert client.ending == ending


def test_waiting_for_what_does_not_come_ends_in_a_time_out(upstream: Upstream) -> None:
    with body_of(upstream, b"data: x\n", end="hang") as client, pytest.raises(TimeoutError):
        client.read_event(timeout=0.05)


def test_a_keep_alive_can_be_waited_for(upstream: Upstream) -> None:
    with body_of(upstream, b"data: x\n\n", b": ping\n", end="hang") as client:
        client.read_event()
        client.wait_for_bytes(b": ping\n")
