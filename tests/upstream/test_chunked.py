"""upstream/chunked: RFC 9112 section 7.1 at every cut position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.chunked import MAX_LINE, ChunkedDecoder

CODED = b'5\r\nhello\r\n6 ; note="a"\r\n world\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n'
PAYLOAD = b"hello world0123456789"


def test_every_cut_gives_the_same_payload() -> None:
    for cut in range(len(CODED) + 1):
        decoder = ChunkedDecoder()

        assert decoder.feed(CODED[:cut]) + decoder.feed(CODED[cut:]) == PAYLOAD, cut
        assert decoder.done


def test_single_bytes_give_the_same_payload() -> None:
    decoder = ChunkedDecoder()

    assert b"".join(decoder.feed(CODED[i : i + 1]) for i in range(len(CODED))) == PAYLOAD
    assert decoder.done


def test_a_body_without_its_last_chunk_is_not_done() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5\r\nhello\r\n")

    assert not decoder.done


def test_bytes_after_the_end_are_no_part_of_the_body() -> None:
    decoder = ChunkedDecoder()

    assert decoder.feed(b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK") == b"a"
    assert decoder.done and decoder.surplus


def test_at_its_end_a_body_has_no_surplus() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(CODED)

    assert decoder.done and not decoder.surplus


CHUNKS = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(["{:x}", "{:X}", "00{:x}", "{:x} ", "{:x};a=b"])),
    max_size=6,
)
ENDS = st.sampled_from(
    [b"0\r\n\r\n", b"000\r\n\r\n", b"0;a\r\nTrailer: x\r\n\r\n", b"", b"g\r\n", b"\r\n", b"3\r\nabcde0\r\n\r\n"]
)


def decode(pieces: list[bytes]) -> tuple[bytes, bool, bool]:
    """The payload, whether it has ended, and whether the framing broke."""
    decoder = ChunkedDecoder()
    payload = b""
    try:
        for piece in pieces:
            payload += decoder.feed(piece)
    except UpstreamFailure:
        return payload, decoder.done, True
    return payload, decoder.done, decoder.failure is not None


@given(CHUNKS, ENDS, st.lists(st.integers(1, 60), max_size=8))
def test_whole_chunks_and_single_bytes_say_the_same(
    chunks: list[tuple[bytes, str]], end: bytes, sizes: list[int]
) -> None:
    """What is read quickly, because it is whole, is read as the rest is."""
    coded = b"".join(b"%b\r\n%b\r\n" % (form.format(len(data)).encode(), data) for data, form in chunks) + end
    pieces, position = [], 0
    for size in sizes:
        pieces.append(coded[position : position + size])
        position += size

    assert decode([*pieces, coded[position:]]) == decode([coded[i : i + 1] for i in range(len(coded))])


@pytest.mark.parametrize(
    "coded",
    [
        b"x\r\n",
        b"-1\r\na\r\n",
        b"\r\n",
        b"1\r\nab\r\n",
        b"+5\r\nhello",
        b"0x5\r\nhello",
        b"f" * 20 + b"\r\n",
        b"1" * (MAX_LINE + 1),
        b"0\r\n" + b"x: y\r\n" * MAX_LINE,
    ],
)
def test_broken_framing_is_an_error(coded: bytes) -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(UpstreamFailure, match="malformed"):
        assert decoder.feed(coded) == b"a"  # what came before the fault
        decoder.feed(b"")
