"""JSON of too many parts to decode it."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from sseproxy.core.chat import BadRequest, Request
from sseproxy.core.intricate import MOST_PARTS, is_intricate

MANY = MOST_PARTS + 1


@pytest.mark.parametrize(
    "messages",
    [
        b"[" + b",".join([b"[]"] * MANY) + b"]",
        b'[{"role":"user","content":[' + b",".join([b"{}"] * MANY) + b"]}]",
        b'[{"role":"user","content":{' + b",".join(b'"%d":0' % number for number in range(MANY)) + b"}}]",
    ],
)
def test_a_request_of_more_parts_than_could_be_decoded_at_ease_is_refused(messages: bytes) -> None:
    with pytest.raises(BadRequest, match="more than 250000 objects, lists and named values"):
        Request.parse("chat", b'{"model":"m","messages":' + messages + b"}")


@pytest.mark.parametrize("text", ["{[:" * MANY, '"{' * MANY, "\\[" * MANY, '\\"{' * MANY, "\\\\:" * MANY])
def test_what_stands_in_a_text_is_no_part(text: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()

    assert Request.parse("chat", body).model == "m"


def test_as_many_numbers_as_fit_are_taken() -> None:
    assert not is_intricate(json.dumps({"model": "m", "input": [[1] * 4 * MANY]}).encode())


def test_a_text_without_an_end_is_one_to_the_end() -> None:
    assert not is_intricate(b'["' + b"{" * MANY)


@pytest.mark.parametrize("repeated", [b'"{', b'"{{', b'"a":{"b:'])
def test_that_is_told_in_a_few_times_the_document_s_own_size(repeated: bytes) -> None:
    document = repeated * (8_000_000 // len(repeated))
    tracemalloc.start()
    try:
        is_intricate(document)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 5 * len(document)


@pytest.mark.parametrize("repeated", [b'"{', b'"{{', b'{"a":', b'"{":', b'["{"],'])
@pytest.mark.parametrize("times", [MOST_PARTS - 1, MOST_PARTS, MANY, 2 * MANY, 2 * MANY + 1, 2 * MANY + 2])
def test_it_is_told_by_what_stands_outside_of_texts(repeated: bytes, times: int) -> None:
    outside = b"".join((repeated * times).split(b'"')[::2])

    assert is_intricate(repeated * times) == (sum(map(outside.count, (b"{", b"[", b":"))) > MOST_PARTS)
