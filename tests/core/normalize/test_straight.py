"""The straight way gives what the long way would, for any events; and a canonical stream never leaves it."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproxy.core.chunk import error_event
from sseproxy.core.failure import UpstreamFailure
from sseproxy.core.normalize import STANDARD, Dialect, events_of, normalize
from sseproxy.core.normalize.bodies import IDLE, Lost
from sseproxy.core.normalize.straight import go_straight
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.sse import HEARTBEAT as SILENCE
from tests.core.normalize.test_properties import any_bodies, cut, values
from tests.fuzz import KEYS, LEAVES

ENVELOPE: dict[str, Any] = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
COUNTS = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
# The long way, for a heartbeat is not canonical; it leaves no trace.
HEARTBEAT = Event(b"null")


def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def said(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {**ENVELOPE, "choices": [choice(delta, finish)], **fields}


def answer(texts: list[str], **fields: Any) -> list[dict[str, Any]]:
    """A stream as OpenAI sends it, without the end mark."""
    return [
        said({"role": "assistant", "content": "", "refusal": None}, **fields),
        *(said({"content": text}, **fields) for text in texts),
        said({}, "stop", **fields),
        {**ENVELOPE, "choices": [], **fields, "usage": COUNTS},
    ]


def usual(bodies: list[Any]) -> list[Any]:
    """The same with a first chunk as most others than OpenAI send it, see core/normalize/usual."""
    bodies = copy.deepcopy(bodies)
    bodies[0]["choices"][0]["delta"].pop("refusal", None)
    return bodies


def with_roles(bodies: list[Any]) -> list[Any]:
    """The same as Ollama and TGI send it: the role in every chunk, empty text beside the finish."""
    bodies = usual(bodies)
    for entry in entries_of(bodies):
        if "delta" in entry:
            entry["delta"] = {"role": "assistant", "content": "", **entry["delta"]}
    return bodies


def with_usage_in_finish(bodies: list[Any]) -> list[Any]:
    """The same as DeepSeek and Mistral send it, with Mistral's padding."""
    bodies = usual(bodies)
    ends = [body for body in chunks_of(bodies) if any(entry.get("finish_reason") for entry in body["choices"])]
    told = [body for body in chunks_of(bodies) if "usage" in body]
    for body, last in zip(ends, told, strict=False):
        body["choices"][0]["delta"] = {"content": ""}
        body["usage"] = last["usage"]
        bodies.remove(last)
    for at, body in enumerate(chunks_of(bodies)):
        body["p"] = "ab"[: at % 3]
    return bodies


def moving(bodies: list[Any]) -> list[Any]:
    """The same as llama.cpp and xAI send it: with another time, without a finish where there is none."""
    bodies = usual(bodies)
    for at, body in enumerate(chunks_of(bodies)):
        body["created"] += at // 2
        if "usage" in body:
            body["timings"] = {"predicted_n": 2}
    for entry in entries_of(bodies):
        if entry.get("finish_reason") is None:
            entry.pop("finish_reason", None)
    return bodies


def of_tokens(bodies: list[Any]) -> list[Any]:
    """The same as vLLM sends it, with the numbers of its tokens."""
    bodies = usual(bodies)
    bodies[0]["prompt_token_ids"] = [1, 2]
    for at, entry in enumerate(entries_of(bodies[1:])):
        entry.update({"stop_reason": None, "token_ids": [at]} if entry.get("finish_reason") else {"token_ids": [at]})
    return bodies


def beside_a_choice(bodies: list[Any]) -> list[Any]:
    """The same as OpenRouter sends it: usage beside a choice that says nothing, and the role in every chunk."""
    bodies = with_roles(bodies)
    for body in chunks_of(bodies):
        body["provider"] = "p"
        if "usage" in body and not body["choices"]:
            body["choices"] = [choice({"role": "assistant", "content": ""})]
    for entry in entries_of(bodies):
        entry["native_finish_reason"] = entry.get("finish_reason")
    return bodies


def filtered(bodies: list[Any]) -> list[Any]:
    """The same as Azure sends it: first what its filter says of the prompt, and the role behind the text."""
    bodies = copy.deepcopy(bodies)
    for entry in entries_of(bodies):
        entry["content_filter_results"] = {}
        if "delta" in entry:
            entry["delta"] = dict(reversed(entry["delta"].items()))
    ahead = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{"index": 0}]}
    return [ahead, *bodies]


def told_twice(bodies: list[Any]) -> list[Any]:
    """The same as Groq sends it: usage with the finish in two places, and once more with what it has not said yet."""
    bodies = usual(bodies)
    bodies[0]["x_groq"] = {"id": "req_1", "seed": 1}
    ends = [body for body in chunks_of(bodies) if any(entry.get("finish_reason") for entry in body["choices"])]
    told = [body for body in chunks_of(bodies) if "usage" in body]
    for body, last in zip(ends, told, strict=False):
        body["x_groq"] = {"id": "req_1", "usage": last["usage"]}
        body["usage"] = last["usage"]
        last["service_tier"] = "on_demand"
    return bodies


def counting(bodies: list[Any]) -> list[Any]:
    """The same as vLLM sends it where asked to count on: usage in every chunk, in an order of its own."""
    bodies = usual(bodies)
    for at, body in enumerate(chunks_of(bodies)):
        count = COUNTS["completion_tokens"] if at > 4 else min(at, COUNTS["completion_tokens"])
        body["usage"] = {"prompt_tokens": 5, "total_tokens": 5 + count, "completion_tokens": count}
    return bodies


def timed(bodies: list[Any]) -> list[Any]:
    """The same as llama.cpp sends it where asked for timings of each token."""
    bodies = usual(bodies)
    for at, body in enumerate(chunks_of(bodies), 1):
        body["timings"] = {"cache_n": 1, "prompt_n": 4, "predicted_n": min(at, 2), "predicted_ms": at * 1.7}
    return bodies


def ending_in_text(bodies: list[Any]) -> list[Any]:
    """The same as Gemini sends it: the last text beside the finish, and a total that counts thoughts, too."""
    bodies = counting(with_roles(bodies))
    for body in chunks_of(bodies):
        body["usage"]["total_tokens"] += 30
    entries = entries_of(bodies)
    if len(entries) > 1 and "delta" in entries[-1]:
        entries[-1]["delta"] = entries[-2].get("delta", {})
    return [body for body in bodies if body not in chunks_of(bodies)[-3::2]]


def told_by_token(bodies: list[Any]) -> list[Any]:
    """The same as Together sends it: the number of each token, and its text in two places."""
    bodies = with_usage_in_finish(with_roles(bodies))
    for at, body in enumerate(chunks_of(bodies)):
        body.pop("p", None)
        for entry in entries_of([body]):
            entry["text"] = entry["delta"].get("content", "") if "delta" in entry else ""
            entry["seed"] = 7 if entry.get("finish_reason") else None
            if "delta" in entry:
                entry["delta"] = {"token_id": at * 3, "role": "assistant", **entry["delta"], "tool_calls": None}
    return bodies


def thoughtful(bodies: list[Any]) -> list[Any]:
    """The same in thoughts and texts by turns, as DeepSeek, Groq and OpenRouter write both."""
    bodies = usual(bodies)
    for at, entry in enumerate(entries_of(bodies)[:-1]):
        text = entry.get("delta", {}).get("content")
        entry["delta"] = [
            {**entry.get("delta", {}), "reasoning_content": None},
            {"content": None, "reasoning_content": text},
            {"reasoning": text, "channel": "analysis"},
            {"reasoning": text, "reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]},
        ][at % 4]
    return bodies


def chunks_of(bodies: list[Any]) -> list[dict[str, Any]]:
    return [body for body in bodies if isinstance(body, dict)]


def entries_of(bodies: list[Any]) -> list[dict[str, Any]]:
    return [entry for body in chunks_of(bodies) for entry in body["choices"]]


WRITINGS = [
    list, usual, with_roles, with_usage_in_finish, moving, of_tokens, beside_a_choice, filtered, told_twice, counting,
    timed, ending_in_text, told_by_token, thoughtful,
]  # fmt: skip


def event(body: Any, *, spaced: bool = False, ascii: bool = False) -> Event:
    text = json.dumps(body, separators=None if spaced else (",", ":"), ensure_ascii=ascii)
    return Event(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode())


def run(events: list[Event], dialect: Dialect = STANDARD) -> list[Any]:
    """All that is to be seen of each event that comes out, and how much was read by then."""
    ids = itertools.count()
    read = 0

    def source() -> Iterator[Event]:
        nonlocal read
        for event in events:
            read += event is not HEARTBEAT
            yield event

    out = normalize(source(), api="chat", dialect=dialect, make_id=lambda: str(next(ids)), now=lambda: 1)
    seen: list[Any] = []
    told = None
    for e in out:
        is_same = e.usage is not None and e.usage is told  # the same statement, to the meter
        told = e.usage or told
        seen.append((e.data, e.type, e.id, e.retry, e.read, e.content, e.hidden, e.usage, is_same, e.finish))
        seen.append((str(e.error), e is FLUSH, read))
    return seen


objects = st.sampled_from(["body", "choice", "delta", "usage"])
names = st.sampled_from(
    [*KEYS, "obfuscation", "system_fingerprint", "stop_reason", "refusal", "x", "base_resp", "done"]
    + ["token_ids", "prompt_token_ids", "provider", "p", "native_finish_reason", "content_filter_results", "channel"]
    + ["reasoning", "reasoning_content", "reasoning_details", "x_groq", "prompt_filter_results", "timings"]
    + ["token_id", "seed"]
)
OTHERS: list[Any] = [
    said({"content": "late"}),
    said({}, "length"),
    said({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f"}}]}),
    said({"reasoning_content": "hm"}),
    {**ENVELOPE, "choices": []},
    {**ENVELOPE, "choices": [], "usage": {}},
    {**ENVELOPE, "choices": [], "usage": {**COUNTS, "cost": 1}},
    {**ENVELOPE, "choices": [], "cost": 0.5},
    {**ENVELOPE, "choices": [choice({"content": "a"}), {**choice({"content": "b"}), "index": 1}]},
    {**ENVELOPE, "choices": [{"index": 0, "message": {"role": "assistant", "content": "abc"}}]},
    {"error": "e"},
]
edits = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 9), objects, names, st.sampled_from(LEAVES) | values),
    st.tuples(st.just("pop"), st.integers(0, 9), objects, names),
    st.tuples(st.just("last"), st.integers(0, 9), objects, names),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("double"), st.integers(0, 9)),
    st.tuples(st.just("swap"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("insert"), st.integers(0, 9), st.sampled_from(OTHERS)),
)


def edit(bodies: list[Any], edits: list[Any]) -> list[Any]:
    bodies = copy.deepcopy(bodies)
    for kind, at, *rest in edits:
        at = min(at, len(bodies) - 1)
        if kind == "insert":
            bodies.insert(at + 1, copy.deepcopy(rest[0]))
        elif at < 0:
            continue
        elif kind == "drop":
            del bodies[at]
        elif kind == "double":
            bodies.insert(at, copy.deepcopy(bodies[at]))
        elif kind == "swap":
            other = min(rest[0], len(bodies) - 1)
            bodies[at], bodies[other] = bodies[other], bodies[at]
        else:
            change(bodies[at], kind, *rest)
    return bodies


def change(body: dict[str, Any], kind: str, place: str, name: str, value: Any = None) -> None:
    entries = body.get("choices")
    first = entries[0] if isinstance(entries, list) and entries else {}
    first = first if isinstance(first, dict) else {}
    found = {"body": body, "choice": first, "delta": first.get("delta"), "usage": body.get("usage")}[place]
    if not isinstance(found, dict):
        return
    if kind == "set":
        found[name] = copy.deepcopy(value)
    elif name in found:
        old = found.pop(name)
        if kind == "last":
            found[name] = old


TEXTS = ["a", "ab", "abc", "", "é", "data: x", "\u2028", "Hello", "Hello there", '"', "😀"]
texts = st.lists(st.sampled_from(TEXTS) | st.text(max_size=3), max_size=5)
fields = st.sampled_from(
    [{}, {"usage": None}, {"obfuscation": "xyz"}, {"system_fingerprint": "fp"}, {"service_tier": None, "usage": None}]
)
signals = st.sampled_from([
    FLUSH, FLUSH, FLUSH, IDLE, IDLE, Event(DONE), Event(b"[done]"), Event(b""), Event(b"{"), Event(DONE, type="error"),
    error_event(UpstreamFailure("e")), Lost(b'{"error":{}}', read=True, error=UpstreamFailure("l")),
])  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Events of a stream that is canonical, or nearly so."""
    bodies = answer(draw(texts), **draw(fields))
    bodies = edit(draw(st.sampled_from(WRITINGS))(bodies), draw(st.lists(edits, max_size=3)))
    spelling = draw(st.fixed_dictionaries({"spaced": st.booleans(), "ascii": st.booleans()}))
    events = [event(body, **spelling) for body in bodies]
    if draw(st.booleans()):
        events.append(Event(DONE))
    for at, signal in draw(st.lists(st.tuples(st.integers(0, 12), signals), max_size=5)):
        events.insert(at, signal)
    if events and draw(st.booleans()):
        at = draw(st.integers(0, len(events) - 1))
        if events[at].data[:1] == b"{" and events[at].error is None:
            events[at] = Event(events[at].data, draw(st.sampled_from(["error", "ping", "message"])), "1", 5)
    return events


DIALECTS = [Dialect(), Dialect(cumulative="never"), Dialect(reasoning_in_total=False)]


@given(events=streams(), dialect=st.sampled_from(DIALECTS))
def test_it_gives_what_the_long_way_would(events: list[Event], dialect: Dialect) -> None:
    assert run(events, dialect) == run([HEARTBEAT, *events], dialect)


@given(events=streams(), at=st.integers(0, 12))
def test_wherever_it_is_left_nothing_changes(events: list[Event], at: int) -> None:
    left = [*events[:at], HEARTBEAT, *events[at:]]
    assert run(left) == run([HEARTBEAT, *left])


NEARLY: dict[str, list[Any]] = {
    "every text repeats those before": answer(["Hello", "Hello there", "Hello there, you", "Hello there, you all"]),
    "a finish that carries": [*answer(["a", "b"])[:-2], {**said({}, "stop"), "choices": [
        {**choice({}, "stop"), "logprobs": {"content": []}}]}],
    "a finish whose fields come in another order": [*answer(["a", "b"])[:-2], {**said({}, "stop"), "choices": [
        dict(reversed(choice({}, "stop").items()))]}],
    "a finish under another name": [*answer(["a", "b"])[:-2], said({}, "end_turn")],
    "a finish with text": [*answer(["a", "b"])[:-2], said({"content": "c"}, "stop")],
    "a time that is no integer": answer(["a", "b"], created=5.0),
    "another model amid": [*answer(["a", "b"])[:-2], {**said({"content": "c"}), "model": "n"}, said({}, "stop")],
    "an index that is no integer": [said({"role": "assistant"}), {**ENVELOPE, "choices": [
        {**choice({"content": "a"}), "index": 0.0}]}, said({}, "stop")],
    "an index that is not 0": [
        said({"role": "assistant"}),
        {**ENVELOPE, "choices": [{**choice({"content": "a"}), "index": 1}]},
        said({}, "stop"),
    ],
    "the role twice": [said({"role": "assistant"}), said({"role": "assistant", "content": "a"}), said({}, "stop")],
    "no role": answer(["a", "b"])[1:],
    "text after the finish": [*answer(["a", "b"])[:-1], said({"content": "c"})],
    "usage after the end mark": [*answer(["a", "b"])[:-1], "[DONE]", answer([])[-1]],
    "usage twice": [*answer(["a", "b"]), {**ENVELOPE, "choices": [], "usage": {**COUNTS, "completion_tokens": 9}}],
    "usage again and again": [*answer(["a", "b"]), *([answer([])[-1]] * 5)],
    "text after the end mark": [*answer(["a", "b"]), "[DONE]", said({"content": "c"})],
    "an end mark before the finish": [*answer(["a", "b"])[:-2], "[DONE]", said({}, "length")],
    "nothing after the text": answer(["a", "b", "c"])[:-2],
}  # fmt: skip


@pytest.mark.parametrize(
    "last", [[], [Event(DONE)], [FLUSH, IDLE, IDLE], [Event(b"{")]], ids=["", "done", "idle", "cut"]
)
@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("bodies", NEARLY.values(), ids=list(NEARLY))
def test_what_is_nearly_canonical_is_what_the_long_way_makes_of_it(
    bodies: list[Any], writing: Callable[[list[Any]], list[Any]], last: list[Event]
) -> None:
    bodies = writing(bodies) if bodies[0] != "[DONE]" else bodies
    events = [*(Event(DONE) if body == "[DONE]" else event(body) for body in bodies), *last]
    assert run(events) == run([HEARTBEAT, *events])


SCRAPS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b" ", b"\n", b"\r", b'"choices":[', b'\\"choices":[', b'"choices" :[],',
    b',"id":"x"', b'"id":"x",', b'"x":{"choices":[', b']}', b',"usage":null', b'"delta":{"content":"y"},',
    b'"content":"y",', b"data: ", b"\xc2\x85",
]  # fmt: skip
scraps = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 300), st.integers(0, 9), st.sampled_from(SCRAPS)), max_size=3
)


@given(said=texts, fields=fields, scraps=scraps, writing=st.sampled_from(WRITINGS))
def test_it_gives_what_the_long_way_would_whatever_bytes_are_amid(
    said: list[str],
    fields: dict[str, Any],
    scraps: list[tuple[int, int, int, bytes]],
    writing: Callable[[list[Any]], list[Any]],
) -> None:
    events = [*map(event, writing(answer(said, **fields))), Event(DONE)]
    for number, at, gone, scrap in scraps:
        number %= len(events)
        data = events[number].data
        data = data[:at] + scrap + data[at + gone :]
        # What comes in an event has been made text.
        events[number] = Event(data.replace(b"\r", b"\n").decode("utf-8", "replace").encode())
    assert run(events) == run([HEARTBEAT, *events])


@given(body=any_bodies, ends=st.lists(st.integers(0, 10_000), max_size=6))
def test_it_gives_what_the_long_way_would_for_any_bytes(body: bytes, ends: list[int]) -> None:
    events = list(events_of(cut(body, ends)))
    assert run(events) == run([HEARTBEAT, *events])


def never(events: Iterator[Event]) -> Iterator[Event]:
    raise AssertionError("the long way was taken")


def straight(events: list[Event]) -> list[Event]:
    """What comes out if no transform is ever set up."""
    return [event for event in go_straight(iter(events), Shapes(), never) if event is not FLUSH]


@pytest.mark.parametrize(
    "fields",
    [{}, {"usage": None}, {"obfuscation": "xyz", "usage": None, "service_tier": "default", "system_fingerprint": "fp"}],
)
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("writing", [list, usual], ids=["OpenAI's", "usual"])
def test_a_canonical_stream_sets_up_no_transform(
    writing: Callable[[list[Any]], list[Any]], fields: dict[str, Any], spaced: bool
) -> None:
    bodies = writing(answer(["Hello", " world", "!", "", "é"], **fields))
    events = [each for body in bodies[:-1] for each in (event(body, spaced=spaced), SILENCE)][:-1]
    out = straight([FLUSH, *events, event(bodies[-1], spaced=spaced), Event(DONE), FLUSH, IDLE])
    kept = {name: value for name, value in fields.items() if name in ("service_tier", "system_fingerprint")}
    expected = answer(["Hello", " world", "!", "", "é"], **kept)
    del expected[0]["choices"][0]["delta"]["refusal"]
    assert [json.loads(e.data) for e in out[:-1]] == expected and out[-1].data == DONE


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("writing", WRITINGS[2:-3])
def test_a_stream_as_servers_write_it_sets_up_no_transform(
    writing: Callable[[list[Any]], list[Any]], spaced: bool
) -> None:
    events = [event(body, spaced=spaced) for body in writing(answer(["Hello", " world", "!", "", "é"]))]
    out = straight([*events, Event(DONE)])
    *said, told = [json.loads(e.data) for e in out[:-1]]
    assert all(body.keys() >= ENVELOPE.keys() and body["created"] == 5 for body in [*said, told])
    assert [body["choices"][0]["delta"] for body in said[1:]] == [
        *({"content": text} for text in ("Hello", " world", "!", "", "é")),
        {},
    ]
    assert [body["choices"][0]["finish_reason"] for body in said] == [None] * 6 + ["stop"]
    assert told["choices"] == [] and told["usage"].items() >= COUNTS.items() and out[-1].data == DONE


@pytest.mark.parametrize("spaced", [False, True])
def test_thoughts_set_up_no_transform(spaced: bool) -> None:
    texts = ["Hello", " world", "!", " and", " so", " on", " é", " a", " b"]
    out = straight([*(event(body, spaced=spaced) for body in thoughtful(answer(texts))), Event(DONE)])
    thoughts = [text for at, text in enumerate(texts, 1) if at % 4]
    assert [e.hidden for e in out if e.hidden] == thoughts
    deltas = [entry["delta"] for e in out[:-1] for entry in json.loads(e.data)["choices"]]
    assert [said for delta in deltas if (said := delta.get("reasoning_content"))] == thoughts
    assert [e.content for e in out if e.content] == [text for at, text in enumerate(texts, 1) if at % 4 == 0]


@pytest.mark.parametrize("spaced", [False, True])
def test_text_beside_the_finish_sets_up_no_transform(spaced: bool) -> None:
    bodies = ending_in_text(answer(["Hello", " world", "!", " and", " so"]))
    *said, finish, told, done = straight([*(event(body, spaced=spaced) for body in bodies), Event(DONE)])
    assert [e.content for e in said] == ["", "Hello", " world", "!", " and", " so"] and done.data == DONE
    assert (finish.finish, finish.usage) == ("stop", told.usage) and told.usage is not None
    assert [e.usage is None for e in said] == [False] * 5 + [True]


@pytest.mark.parametrize("spaced", [False, True])
def test_the_numbers_of_tokens_set_up_no_transform(spaced: bool) -> None:
    bodies = told_by_token(answer(["Hello", " world", "!", " and", " so"]))
    *said, finish, told, done = straight([*(event(body, spaced=spaced) for body in bodies), Event(DONE)])
    assert [e.content for e in said] == ["", "Hello", " world", "!", " and", " so", ""] and done.data == DONE
    assert [json.loads(e.data)["choices"][0]["delta"]["token_id"] for e in said] == [0, 3, 6, 9, 12, 15, 18]
    assert (finish.finish, finish.usage) == ("stop", told.usage) and told.usage is not None


def test_what_is_remembered_for_the_long_way_does_not_grow_with_the_answer() -> None:
    taken: list[Event] = []

    def count(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            taken.append(event)
            yield event

    never_learnt = [event(said({"content": "é"}), ascii=True)] * 1000
    events = [event(said({"role": "assistant"})), *never_learnt, event(said({}, "stop")), Event(b"{}")]
    out = list(go_straight(iter(events), Shapes(), count))

    assert len(out) == len(events) and sum(event is not FLUSH for event in taken) < 6


def test_an_answer_that_is_repeated_as_a_whole_after_it_is_dropped() -> None:
    texts = ["Hel", "lo", " wor", "ld"]
    whole = {**ENVELOPE, "choices": [{"index": 0, "message": {"role": "assistant", "content": "".join(texts)}}]}
    events = [event(body) for body in [*answer(texts)[:-2], whole, said({}, "stop")]]
    out = normalize(iter([*events, Event(DONE)]), api="chat")
    assert "".join(e.content for e in out) == "Hello world"


def test_an_upstream_that_never_closes_after_the_end_is_left_at_last() -> None:
    events = map(event, answer(["a", "b"]))
    out = list(normalize(itertools.chain(events, [Event(DONE)], itertools.repeat(FLUSH)), api="chat"))
    assert out[-1].data == DONE and out[-2].usage is not None
