"""What holds for every input: a clean end, no dependence on cuts, a fixed point, text and arguments unaltered."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from sseproxy.core.chat import Api
from sseproxy.core.normalize import Dialect, events_of, normalize
from sseproxy.core.sse import FLUSH, Event
from tests.fuzz import KEYS, LEAVES, TOKENS, assert_ended
from tests.wire.view import see

APIS: list[Api] = ["chat", "completions", "responses", "messages"]
NEVER = Dialect(cumulative="never")

values = st.recursive(
    st.sampled_from(LEAVES) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
choices = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 1, None]), "delta": st.dictionaries(st.sampled_from(KEYS), values, max_size=4)},
    optional=dict.fromkeys(("finish_reason", "logprobs", "message", "text", "usage", "error"), values),
)
chunks = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2)},
    optional=dict.fromkeys(("id", "created", "model", "usage", "error", "x_groq", "timings"), values),
)
streams = st.lists(chunks | values, max_size=5).map(
    lambda bodies: b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies)
)
noise = st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join)
any_bodies = st.binary(max_size=200) | noise | streams | streams.map(lambda body: body + b"data: [DONE]\n\n")
texts = st.text(st.characters(codec="utf-8"), max_size=20)


def run(api: Api, pieces: list[bytes], dialect: Dialect = NEVER, choices: int = 1) -> list[Event]:
    ids = itertools.count()
    events = normalize(
        events_of(pieces), api=api, choices=choices, dialect=dialect, make_id=lambda: str(next(ids)), now=lambda: 1
    )
    return [event for event in events if event is not FLUSH]


def plain(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(e.data, e.type, e.content, e.hidden, e.usage, e.finish) for e in events]


def cut(body: bytes, ends: list[int]) -> list[bytes]:
    places = sorted(end % (len(body) + 1) for end in ends)
    return [body[start:end] for start, end in itertools.pairwise([0, *places, len(body)]) if start < end]


@given(body=any_bodies, api=st.sampled_from(APIS), number=st.sampled_from([1, 2]))
def test_any_bytes_end_in_a_valid_stream_or_a_clear_error(body: bytes, api: Api, number: int) -> None:
    assert_ended(api, run(api, [body], Dialect(), number))


@given(body=any_bodies, ends=st.lists(st.integers(0, 10_000), max_size=6), api=st.sampled_from(APIS))
def test_no_split_changes_the_result(body: bytes, ends: list[int], api: Api) -> None:
    assert plain(run(api, cut(body, ends), Dialect())) == plain(run(api, [body], Dialect()))


@given(body=any_bodies, api=st.sampled_from(APIS), number=st.sampled_from([1, 2]))
@example(body=b'data: {"choices":[{"text":[],"message":{"x":"0"},"finish_reason":"stop"}]}', api="chat", number=1)
def test_normalising_again_changes_nothing(body: bytes, api: Api, number: int) -> None:
    once = run(api, [body], NEVER, number)
    again = normalize(iter([Event(e.data, e.type) for e in once]), api=api, choices=number, dialect=NEVER)
    assert [(e.data, e.type) for e in again] == [(e.data, e.type) for e in once]


def stream(deltas: list[dict[str, Any]], *, ascii: bool) -> bytes:
    bodies: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    bodies.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + json.dumps(body, ensure_ascii=ascii).encode() + b"\n\n" for body in bodies)


@given(parts=st.lists(texts, min_size=1, max_size=8), ascii=st.booleans(), name=st.sampled_from(["content", "refusal"]))
def test_text_is_never_altered(parts: list[str], ascii: bool, name: str) -> None:
    seen = see("chat", run("chat", [stream([{name: part} for part in parts], ascii=ascii)], Dialect()))
    assert seen["text" if name == "content" else "refusal"] == "".join(parts)


@given(text=texts, ends=st.lists(st.integers(0, 100), max_size=4))
def test_surrogate_pairs_cut_in_two_are_never_altered(text: str, ends: list[int]) -> None:
    units = text.encode("utf-16-le")
    places = sorted(end * 2 % (len(units) + 2) for end in ends)
    parts = [
        units[start:end].decode("utf-16-le", "surrogatepass")
        for start, end in itertools.pairwise([0, *places, len(units)])
    ]
    assert see("chat", run("chat", [stream([{"content": part} for part in parts], ascii=True)]))["text"] == text


said = st.tuples(st.sampled_from([0, 1]), st.sampled_from(["a", "b", " ", "\ud83d", "x\ud83d", "\ude00", "\ude00y"]))


@given(parts=st.lists(said, max_size=40))
@example([(0, "a"), (1, "a"), (0, "b"), (1, "b"), (0, "\ud83d"), (1, "a"), (1, "b"), (0, "a"), (0, "b")])
def test_half_a_surrogate_pair_stays_where_it_was_said(parts: list[tuple[int, str]]) -> None:
    bodies: list[Any] = [{"choices": [{"index": index, "delta": {"content": text}}]} for index, text in parts]
    bodies += [{"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]} for index in (0, 1)]
    out = run("chat", [b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies], choices=2)
    for index in (0, 1):
        seen = [
            choice for event in out[:-1] for choice in json.loads(event.data)["choices"] if choice["index"] == index
        ]
        whole = "".join(choice["delta"].get("content", "") for choice in seen)
        assert paired(whole) == paired("".join(text for place, text in parts if place == index))
        reasons = [choice["finish_reason"] for choice in seen]
        assert not any(choice["delta"].get("content") for choice in seen[reasons.index("stop") :])


def paired(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@given(parts=st.lists(texts, min_size=1, max_size=8), repeat=st.booleans())
def test_arguments_are_never_altered(parts: list[str], repeat: bool) -> None:
    wholes = list(itertools.accumulate(parts))
    assume(not any(part and part in wholes[:place] for place, part in enumerate(parts)))  # said again as a whole
    head = {"id": "c", "type": "function"}
    deltas: list[dict[str, Any]] = [{"tool_calls": [{"index": 0, **head, "function": {"name": "f", "arguments": ""}}]}]
    for part in parts:
        function = {"name": "f", "arguments": part} if repeat else {"arguments": part}
        deltas.append({"tool_calls": [{"index": 0, **(head if repeat else {}), "function": function}]})
    (call,) = see("chat", run("chat", [stream(deltas, ascii=False)]))["tool_calls"]
    assert call == {"index": 0, **head, "name": "f", "arguments": "".join(parts)}


def test_memory_stays_bounded_whatever_comes() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"data: x" * 10_000

    (event,) = [event for event in normalize(events_of(endless()), api="chat") if event is not FLUSH]
    assert event.error is not None and event.error.code == "event_too_large"
