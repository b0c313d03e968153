"""core/formats/envelope: JSON of the page's own shape, and the whole answer at the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.formats import Envelope
from sseproxy.core.sse import FLUSH, PING, Event

from .streams import BROKEN, USAGE, canonical, read, rendered, shown, written


def documents(format: Envelope, *texts: str, **what: Any) -> list[Any]:
    return [json.loads(data) for data in shown(format, canonical(texts, **what))]


def test_by_default_each_piece_is_a_message_and_the_last_event_holds_the_answer() -> None:
    assert written(Envelope(), canonical(["Hel", 'lo "\n'])) == (
        b'data: {"message":"Hel","data":null}\n\n'
        b'data: {"message":"lo \\"\\n","data":null}\n\n'
        b'data: {"message":"[DONE]","data":"{\\"assistantContent\\":\\"Hello \\\\\\"\\\\n\\"}"}\n\n'
    )


def test_by_default_a_failure_is_a_message_too() -> None:
    *_, last = documents(Envelope(), "a", error=BROKEN)

    assert last["message"] == "[ERROR]"
    assert json.loads(last["data"]) == {"error": "out of\nmemory"}


def test_templates_of_ones_own() -> None:
    format = Envelope(
        template={"t": "{text}", "id": "{id}", "m": "{model}"},
        done={"all": "{answer}", "why": "{finish_reason}", "usd": "{cost}", "id": "{id}"},
    )

    assert documents(format, "a", "b", usage=USAGE) == [
        {"t": "a", "id": "chatcmpl-1", "m": "m-1"},
        {"t": "b", "id": "chatcmpl-1", "m": "m-1"},
        {"all": "ab", "why": "stop", "usd": "0.00012", "id": "chatcmpl-1"},
    ]


def test_a_failure_tells_its_code_and_what_came_of_the_answer() -> None:
    format = Envelope(error=["{code}", "{message}", "{answer}"])

    assert documents(format, "a", "b", error=BROKEN)[-1] == ["oom", "out of\nmemory", "ab"]


def test_a_cost_that_nobody_told_is_empty() -> None:
    assert documents(Envelope(done="{cost}"), "a")[-1] == ""
    assert documents(Envelope(done="{cost}"), "a", usage={"prompt_tokens": 1, "completion_tokens": 2})[-1] == ""


def test_only_a_template_with_the_cost_asks_for_it() -> None:
    assert Envelope(done="{cost}").shows_cost
    assert not Envelope().shows_cost


def test_role_finish_and_usage_are_no_events() -> None:
    assert len(documents(Envelope(), "", "a", usage=USAGE)) == 2


def test_names_go_to_clients_that_understand_them_and_only_to_them() -> None:
    format = Envelope(event="delta")

    assert [kind for kind, _ in read(written(format, canonical(["a"]), named=True))] == ["delta", "delta"]
    assert b"event:" not in written(format, canonical(["a"]))


def test_events_still_say_what_they_mean() -> None:
    events = rendered(Envelope(), canonical(["a"], usage=USAGE))

    assert [event.content for event in events] == ["a", ""]
    assert events[-1].usage is not None
    assert rendered(Envelope(), canonical(["a"], error=BROKEN))[-1].error is not None


def test_flushes_pass_at_once() -> None:
    events = Envelope().render(iter([FLUSH, Event(b'{"choices":[{"delta":{"content":"a"}}]}')]), named=False)

    assert next(events) is FLUSH


@pytest.mark.parametrize("size", [1_000_000])
def test_a_long_answer_is_whole_at_the_end(size: int) -> None:
    pieces = ['"\n\\é'] * (size // 4)
    template = b'{"choices":[{"index":0,"delta":{"content":%b}}]}' % json.dumps(pieces[0]).encode()
    events = [*(Event(template) for _ in pieces), *canonical([])]
    last = json.loads(rendered(Envelope(), events)[-1].data)

    assert json.loads(last["data"]) == {"assistantContent": "".join(pieces)}


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({"template": "{answer}"}, r"unknown placeholder \{answer\}; known here: \{text\}, \{id\}, \{model\}"),
        ({"done": "{text}"}, r"unknown placeholder \{text\}; known here: \{answer\}"),
        ({"error": {"a": "{text}"}}, r"unknown placeholder \{text\}; known here: \{message\}"),
        ({"event": "open"}, "EventSource's own"),
    ],
)
def test_what_does_not_work_is_refused_at_construction(templates: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Envelope(**templates)


def test_it_is_an_event_stream_with_keep_alives() -> None:
    assert (Envelope().content_type, Envelope().events, Envelope().ping) == (
        "text/event-stream; charset=utf-8", True, PING)  # fmt: skip
