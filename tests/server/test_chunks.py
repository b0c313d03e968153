"""Bodies in chunks have one end, in whatever pieces they come (RFC 9112 section 7.1)."""

from __future__ import annotations

import random

import pytest
from waitress.utilities import BadRequest

from sseproxy.server.chunks import LONGEST_LINE
from sseproxy.server.parser import Parser
from tests.server.test_parser import CHAT, CHUNKED, CHUNKING, CHUNKS, read


@pytest.mark.parametrize("line", [b"1", b"1;a=", b"0\r\nX-A: ", b"0\r\nX-A: b\r\nX-B: "])
@pytest.mark.parametrize("end", [b"", b"\r\n1\r\n"])
def test_a_long_line_amid_chunks_is_refused_before_the_body_is_too_long(line: bytes, end: bytes) -> None:
    request = CHUNKED.replace(CHUNKS, line)
    long = b"a" * LONGEST_LINE + end

    for pieces in ([request, long], [request + long], [request, *[bytes([each]) for each in long]]):
        assert read(Parser, pieces)["error"] == (BadRequest, "A line of the chunked body is too long")


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (CHUNKS.replace(b"5\r", b""), "size"),
        (CHUNKS.replace(b"5\r", b"5\n\r"), "size"),
        (CHUNKS.replace(b"0\r", b"0\n\r"), "size"),
        (CHUNKS.replace(b"0", b"\r\n0"), "size"),
        (CHUNKS.replace(b"5", b"5 "), "size"),
        (CHUNKS.replace(b"5", b"0x5"), "size"),
        (CHUNKS.replace(b"5", b"+5"), "size"),
        (CHUNKS.replace(b"5", b""), "size"),
        (CHUNKS.replace(b"5", b";a"), "size"),
        (CHUNKS.replace(b"5", b"5;a\n"), "extension"),
        (CHUNKS.replace(b"5", b"5;a\rb"), "extension"),
        (CHUNKS.replace(b"5", b"5;"), "extension"),
        (CHUNKS.replace(b"5", b"4"), "end"),
        (CHUNKS.replace(b"5", b"6"), "end"),
        (CHUNKS.replace(b"hello\r", b"hello"), "end"),
        (CHUNKS.replace(b"hello\r\n", b"hello\rX"), "end"),
        (CHUNKS.replace(b"0\r\n", b"0\r\n\n"), "trailer"),
        (CHUNKS.replace(b"0\r\n", b"0\r\nGET / HTTP/1.1\r\n"), "trailer"),
        (CHUNKS.replace(b"0\r\n", b"0\r\nX-A: b\nX-B: c\r\n"), "trailer"),
        (CHUNKS.replace(b"0\r\n", b"0\r\nX-A: b\r\n c\r\n"), "trailer"),
        (CHUNKS.replace(b"0\r\n", b"0\r\nX-A : b\r\n"), "trailer"),
        (CHUNKS.replace(b"0\r\n", b"0\r\n: b\r\n"), "trailer"),
    ],
)
def test_chunks_in_which_another_server_may_see_another_end_are_refused(chunks: bytes, reason: str) -> None:
    request = CHUNKED.replace(CHUNKS, chunks) + CHAT

    for pieces in ([request], [bytes([each]) for each in request]):
        assert read(Parser, pieces)["error"] == (BadRequest, CHUNKING[reason])


@pytest.mark.parametrize(
    "chunks",
    [
        CHUNKS,
        CHUNKS.replace(b"5", b"00005"),
        CHUNKS.replace(b"0\r", b"000\r"),
        CHUNKS.replace(b"5", b'5;a;b=c;d="e;f"'),
        CHUNKS.replace(b"hello", b"he\r\n3\r\nllo").replace(b"5", b"2"),
        CHUNKS.replace(b"0\r\n", b"0\r\nX-A: b\r\nX-B:\r\nX-C: \xe4\t\r\n"),
    ],
)
def test_a_body_in_chunks_is_read_in_whatever_pieces_it_comes_and_no_further(chunks: bytes) -> None:
    request = CHUNKED.replace(CHUNKS, chunks)

    for pieces in ([request, CHAT], [request + CHAT], [bytes([each]) for each in request]):
        said = read(Parser, pieces)
        assert (said["error"], said["body"], said["taken"]) == (None, b"hello", len(request))
        assert said["headers"]["CONTENT_LENGTH"] == "5"


def test_chunks_of_any_size_are_read_from_pieces_of_any_size() -> None:
    chance = random.Random(1)
    for _ in range(200):
        body = chance.randbytes(chance.randrange(2000))
        chunks, left = b"", body
        while left:
            size = chance.randint(1, len(left))
            chunks += b"%X\r\n%b\r\n" % (size, left[:size])
            left = left[size:]
        pieces, request = [], CHUNKED.replace(CHUNKS, chunks + b"0\r\n\r\n")
        while request:
            size = chance.randint(1, len(request))
            pieces.append(request[:size])
            request = request[size:]
        assert read(Parser, pieces)["body"] == body
