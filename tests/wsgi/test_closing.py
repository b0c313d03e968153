"""wsgi/closing: a body that tells when it was closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sseproxy.wsgi.closing import ClosingBody
from tests.harness import PATIENCE

from .test_call import Closing


def test_the_callback_follows_the_close_and_only_once() -> None:
    body = Closing([b"a"])
    seen: list[bool] = []
    closing = ClosingBody(body, lambda: seen.append(body.closed))

    assert list(closing) == [b"a"]
    closing.close()
    closing.close()

    assert seen == [True]


def test_what_a_middleware_drops_without_closing_it_is_closed_then() -> None:
    body = Closing([b"a", b"b"])
    ended = threading.Event()

    def forgetful() -> Iterator[bytes]:
        yield from ClosingBody(body, ended.set)

    answer = forgetful()
    assert next(answer) == b"a"
    assert not ended.is_set()
    assert list(answer) == [b"b"]
    assert ended.wait(PATIENCE)
    assert body.closed


def test_a_close_that_raises_does_not_keep_the_callback_from_running() -> None:
    class Failing(Closing):
        def close(self) -> None:
            raise ValueError("boom")

    seen: list[bool] = []

    with pytest.raises(ValueError, match="boom"):
        ClosingBody(Failing([]), lambda: seen.append(True)).close()
    assert seen == [True]


def test_callbacks_of_one_body_follow_in_order_and_none_is_kept_from_running() -> None:
    seen: list[str] = []

    def failing() -> None:
        seen.append("failing")
        raise ValueError("boom")

    body = Closing([b"a"])
    closing = ClosingBody.around(ClosingBody.around(body, failing), lambda: seen.append("second"))

    assert list(closing) == [b"a"]
    with pytest.raises(ValueError, match="boom"):
        closing.close()
    closing.close()
    assert (body.closed, seen) == (True, ["failing", "second"])
