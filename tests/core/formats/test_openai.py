"""core/formats/openai: canonical events as they are."""

from __future__ import annotations

import pytest

from sseproxy.core.formats import OpenAI
from sseproxy.core.sse import FLUSH, PING, Event, encode

from .streams import BROKEN, USAGE, canonical, read, rendered, written


@pytest.mark.parametrize("named", [True, False])
def test_without_a_name_nothing_changes(named: bool) -> None:
    body = written(OpenAI(), canonical(["a", "b"], usage=USAGE), named=named)

    assert body == b"".join(encode(event) for event in canonical(["a", "b"], usage=USAGE) if event is not FLUSH)
    assert body.endswith(b"\n\ndata: [DONE]\n\n")


def test_names_go_to_clients_that_understand_them_and_only_to_them() -> None:
    format = OpenAI(event="delta")

    assert {kind for kind, _ in read(written(format, canonical(["a"]), named=True))} == {"delta"}
    assert written(format, canonical(["a"])) == written(OpenAI(), canonical(["a"]))


def test_a_failure_stays_openais_and_says_so() -> None:
    events = rendered(OpenAI(event="delta"), canonical(["a"], error=BROKEN), named=True)

    assert b'"code":"oom"' in events[-1].data
    assert events[-1].error is not None and events[-1].error.code == "oom"


def test_the_flush_that_all_streams_share_gets_no_name() -> None:
    assert next(OpenAI(event="delta").render(iter([FLUSH, Event(b"{}")]), named=True)) is FLUSH
    assert FLUSH.type == "flush"


def test_text_that_looks_like_framing_is_still_guarded() -> None:
    assert written(OpenAI(), canonical(["\ndata: x"])).count(b"data: x") == 0


@pytest.mark.parametrize("event", ["a\nb", " a", "open"])
def test_what_is_no_name_is_refused(event: str) -> None:
    with pytest.raises(ValueError, match="event"):
        OpenAI(event=event)


def test_it_is_an_event_stream_with_keep_alives() -> None:
    assert (OpenAI().content_type, OpenAI().events, OpenAI().ping) == ("text/event-stream; charset=utf-8", True, PING)
