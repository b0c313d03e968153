"""An upstream's body: how what came with the head is handed out."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.body import BEGINNING, MUCH, UpstreamBody
from sseproxy.upstream.connection import Connection
from sseproxy.upstream.head import ResponseHead
from sseproxy.upstream.kept import Connections

EVENT = b"data: " + b"x" * 300 + b"\n\n"
LONG = b"data: " + b"x" * MUCH + b"\n\n"


@pytest.fixture
def body_of() -> Iterator[Callable[[bytes], UpstreamBody]]:
    theirs, ours = socket.socketpair()

    def make(rest: bytes) -> UpstreamBody:
        head = ResponseHead(200, [], len(rest), False, False)
        return UpstreamBody(Connection(ours), head, rest, Connections(lambda: ours, 0), idle=5, deadline=float("inf"))

    yield make
    theirs.close()
    ours.close()


def test_of_many_events_the_first_are_handed_out_first(body_of: Callable[[bytes], UpstreamBody]) -> None:
    pieces = list(body_of(EVENT * 20))

    assert pieces == [EVENT * BEGINNING, EVENT * (20 - BEGINNING)]


@pytest.mark.parametrize(
    "rest",
    [EVENT, EVENT * (MUCH // len(EVENT)), b"x" * 4 * MUCH, EVENT * (BEGINNING - 1) + b"x" * MUCH, LONG * BEGINNING],
)
def test_what_is_short_or_no_event_is_handed_out_whole(body_of: Callable[[bytes], UpstreamBody], rest: bytes) -> None:
    assert list(body_of(rest)) == [rest]


def test_a_body_is_over_when_its_last_piece_is_handed_out(body_of: Callable[[bytes], UpstreamBody]) -> None:
    body = body_of(EVENT * 20)
    told = [body.is_over, *(body.is_over for _ in body)]

    assert told == [False, False, True]


def test_what_is_put_back_is_not_over(body_of: Callable[[bytes], UpstreamBody]) -> None:
    body = body_of(EVENT)
    next(body)
    body.put(b"a", b"b")
    told = [body.is_over, *(body.is_over for _ in body)]

    assert told == [False, False, True]


def test_what_came_while_the_process_stood_still_is_no_silence() -> None:
    theirs, ours = socket.socketpair()
    head = ResponseHead(200, [], 3, False, False)
    with theirs, ours:
        body = UpstreamBody(Connection(ours), head, b"", Connections(lambda: ours, 0), idle=0, deadline=float("inf"))
        theirs.sendall(b"ab")
        body.put_silence()

        assert [next(body), next(body)] == [b"", b"ab"]
        with pytest.raises(UpstreamFailure, match="nothing came"):
            next(body)


def test_framing_alone_is_as_good_as_silence() -> None:
    theirs, ours = socket.socketpair()
    head = ResponseHead(200, [], None, True, False)
    with theirs, ours:
        body = UpstreamBody(Connection(ours), head, b"", Connections(lambda: ours, 0), idle=0, deadline=float("inf"))
        theirs.sendall(b"5;extension")

        assert next(body) == b""
