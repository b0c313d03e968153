"""middleware/fetch: a document that somebody else serves, as slowly, as largely and as wrongly as they like."""

from __future__ import annotations

import pytest

from sseproxy.middleware.fetch import LARGEST, fetch_json
from tests.harness import Upstream, raw, refuse
from tests.harness.scripts import Script


def test_a_document_is_read(upstream: Upstream) -> None:
    upstream.script = raw([b'{"keys"', b": []}"])

    assert fetch_json(upstream.url, 60) == {"keys": []}


def test_one_that_comes_byte_by_byte_is_given_up(upstream: Upstream) -> None:
    upstream.script = raw([b" "] * 100_000, interval=0.01)

    with pytest.raises(TimeoutError):
        fetch_json(upstream.url, 0.3)


def test_one_that_does_not_end_is_given_up(upstream: Upstream) -> None:
    upstream.script = raw([b" " * 65536] * (2 * LARGEST // 65536))

    with pytest.raises(ValueError, match="too large"):
        fetch_json(upstream.url, 60)


@pytest.mark.parametrize(
    "script",
    [
        refuse(500),
        raw(b"", status=302, headers=(("Location", "/"),)),
        raw(b'{"keys": []}', end="reset"),
        raw(b'{"keys": []}', end="cut"),
        raw(b"<html>"),
        raw(b"\xff"),
        raw(b"[" * 100_000),
    ],
)
def test_what_cannot_be_read_is_no_surprise(upstream: Upstream, script: Script) -> None:
    upstream.script = script

    with pytest.raises((OSError, ValueError)):
        fetch_json(upstream.url, 60)
