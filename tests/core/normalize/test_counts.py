"""Usage in a stream comes in chunks of its own."""

from __future__ import annotations

from typing import Any

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.counts import separate_usage
from sseproxy.core.usage import Usage
from tests.core.normalize.making import assert_passes_flush_at_once, bodies, chunk, through

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def usages(*events: Chunk) -> list[dict[str, Any]]:
    return [body["usage"] for body in bodies(through(separate_usage, *events)) if not body["choices"]]


def test_usage_beside_text_never_eats_the_text() -> None:
    text, usage = through(separate_usage, chunk({"content": "x"}, usage=USAGE))
    assert isinstance(text, Chunk) and "usage" not in text.body
    assert text.usage == usage.usage == Usage(5, 0, 0, 2)


def test_every_later_usage_replaces_the_one_before() -> None:
    events = [chunk({"content": "x"}, usage={"prompt_tokens": 5, "completion_tokens": count}) for count in (1, 2)]
    assert [usage["completion_tokens"] for usage in usages(*events)] == [1, 2]


def test_null_and_zero_are_removed_and_erase_nothing() -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    out = bodies(through(separate_usage, chunk(usage=USAGE), chunk(usage=None), chunk(usage=zero)))
    assert [body.get("usage") for body in out] == [None, USAGE, None, None]


def test_usage_inside_a_choice_or_a_vendors_field_is_moved() -> None:
    event = chunk(x_groq={"id": "r", "usage": USAGE})
    event.body["choices"][0]["usage"] = USAGE
    text, usage = bodies(through(separate_usage, event))
    assert text == {"choices": [{"index": 0, "delta": {}, "finish_reason": None}], "x_groq": {"id": "r"}}
    assert usage == {"choices": [], "usage": USAGE}


def test_timings_stay_where_they_are() -> None:
    timings = {"prompt_n": 5, "predicted_n": 2}
    text, usage = bodies(through(separate_usage, chunk(timings=timings)))
    assert text["timings"] == timings and usage["usage"] == USAGE


def test_a_bill_by_itself_is_added_to_the_usage_known() -> None:
    bill = Chunk(body={"choices": [], "cost": "0.5"})
    assert usages(Chunk(body={"choices": [], "usage": USAGE}), bill)[-1] == {**USAGE, "cost": 0.5}
    assert usages(bill) == []


def test_other_fields_of_a_usage_chunk_stay_with_it() -> None:
    (body,) = bodies(through(separate_usage, Chunk(body={"choices": [], "usage": USAGE, "provider": "p"})))
    assert body["provider"] == "p"


def test_usage_that_came_with_a_choice_has_the_fields_that_every_chunk_has() -> None:
    """openai-python's ``.stream()`` shows the last chunk's fingerprint; OpenRouter may tell the tier there alone."""
    said = {"service_tier": "default", "system_fingerprint": "fp"}
    usage = bodies(through(separate_usage, chunk({}, "stop", usage=USAGE, provider="p", **said)))[-1]
    assert usage == {"choices": [], "usage": USAGE, **said}


def test_flush_passes_at_once() -> None:
    assert_passes_flush_at_once(separate_usage)
