"""The failing network: whole until it is cut, cut at the very byte, and leading elsewhere when told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.harness import Cutter, RawClient, Upstream, raw, stream

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@contextlib.contextmanager
def answer(cutter: Cutter) -> Iterator[RawClient]:
    with RawClient(cutter.url) as client:
        yield client.post("/v1/chat/completions", ASK)


def test_without_a_cut_everything_passes_and_the_ends_are_passed_on(upstream: Upstream) -> None:
    with Cutter(upstream.port) as cutter:
        with answer(cutter) as client:
            assert client.read_body() == b"".join(upstream.last.sent)
            assert client.ending == "clean"
        upstream.script = stream(fault="hang", after=2)
        with answer(cutter) as client:
            client.read_event()
        upstream.last.wait_for_peer_close()

        assert (cutter.connections, cutter.cuts) == (2, 0)


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_ends_every_connection_on_both_sides(upstream: Upstream, reset: bool) -> None:
    upstream.script = stream(fault="hang", after=2)
    with Cutter(upstream.port, reset=reset) as cutter, answer(cutter) as one, answer(cutter) as two:
        cutter.cut()
        one.read_body()
        two.read_body()

        assert (one.ending, two.ending) == ("cut", "cut")
        for exchange in upstream.exchanges:
            exchange.wait_for_peer_close()
        assert cutter.cuts == 1


def test_a_planned_cut_hits_the_byte(upstream: Upstream) -> None:
    with Cutter(upstream.port) as cutter, answer(cutter) as client:
        client.read_body()
        head = cutter.passed - sum(len(piece) + len(b"%x\r\n\r\n" % len(piece)) for piece in upstream.last.sent) - 5
    upstream.script = raw([b"0123456789", b"abcdef"], interval=0.01)
    with Cutter(upstream.port) as cutter:
        cutter.plan([head + 3 + 4])
        with answer(cutter) as client:
            assert b"0123456789".startswith(client.read_body())
            assert client.ending == "cut"
        assert (cutter.cuts, cutter.passed) == (1, head + 3 + 4)
        with answer(cutter) as client:
            assert client.read_body() == b"0123456789abcdef"


def test_after_a_cut_connections_lead_to_the_other_server(upstream: Upstream) -> None:
    upstream.script = stream(fault="hang", after=2)
    with Upstream() as other:
        cutter = Cutter(upstream.port, when_cut=lambda: setattr(cutter, "target", other.port))
        with cutter, answer(cutter) as client:
            cutter.cut()
            client.read_body()
            with answer(cutter) as again:
                again.read_body()

                assert again.ending == "clean"
        assert (len(upstream.exchanges), len(other.exchanges)) == (1, 1)


def test_nobody_at_the_target_is_a_connection_that_ends(upstream: Upstream) -> None:
    upstream.close()
    with Cutter(upstream.port) as cutter, RawClient(cutter.url) as client, pytest.raises(AssertionError):
        client.get("/")
