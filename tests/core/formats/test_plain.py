"""core/formats/plain: the text and nothing else."""

from __future__ import annotations

import pytest

from sseproxy.core.failure import Failure
from sseproxy.core.formats import Plain
from sseproxy.core.sse import FLUSH

from .streams import BROKEN, USAGE, canonical, rendered, written


def test_the_body_is_the_text() -> None:
    text = ["Hel", "lo\r\n\u2028data: ", "", "[DONE] é😀"]

    assert written(Plain(), canonical(text, usage=USAGE), named=True) == "".join(text).encode()


def test_silence_stays_silent() -> None:
    assert (Plain().content_type, Plain().events, Plain().ping) == ("text/plain; charset=utf-8", False, b"")


def test_a_failure_breaks_the_body_off() -> None:
    events = Plain().render(canonical(["a"], error=BROKEN), named=False)

    assert next(event for event in events if event is not FLUSH).data == b"a"
    with pytest.raises(Failure, match="memory"):
        list(events)


def test_with_a_mark_a_failure_ends_the_body_cleanly() -> None:
    assert written(Plain(error="<ERR>"), canonical(["a"], error=BROKEN)) == b"a<ERR>"
    assert written(Plain(error="\n! {message}"), canonical(["a"], error=BROKEN)) == b"a\n! out of memory"


def test_the_mark_is_a_write_of_its_own() -> None:
    events = list(Plain(error="<ERR>").render(canonical(["a"], error=BROKEN), named=False))
    at = next(place for place, event in enumerate(events) if event.data == b"<ERR>")

    assert events[at - 1] is FLUSH


def test_events_still_say_what_they_mean() -> None:
    events = rendered(Plain(error="<ERR>"), canonical(["a"], error=BROKEN))

    assert [(event.content, event.error is not None) for event in events] == [("a", False), ("", True)]


def test_a_mark_that_no_utf_8_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="half a character"):
        Plain(error="\ud83d")
