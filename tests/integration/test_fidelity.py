"""What a client sends reaches the upstream in value and order, but for what the configuration says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from werkzeug.test import Client

from sseproxy import create_app
from sseproxy.app import Proxy
from tests.harness import Upstream, raw

KNOWN = {
    "model", "messages", "prompt", "input", "instructions", "system", "stream", "stream_options", "n", "max_tokens",
    "max_completion_tokens", "tools",
}  # fmt: skip
Pairs = list[tuple[str, Any]]

numbers = some.one_of(
    some.integers(-(10**40), 10**40).map(str),
    some.floats(allow_nan=False, allow_infinity=False).map(repr),
    some.sampled_from(["1.0", "1e5", "1E+400", "-0", "-0.0", "0.1000", "123456789012345678901234567890.10", "5e-324"]),
)
texts = some.text(max_size=8).map(json.dumps) | some.sampled_from(
    [r'"\u00e9"', r'"\ud83d\ude00"', r'"\/"', '"é"', '"\u2028"']
)
values = some.recursive(
    numbers | texts | some.sampled_from(["true", "false", "null"]),
    lambda inner: (
        some.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]")
        | some.lists(some.tuples(texts, inner), max_size=3).map(
            lambda pairs: "{" + " ,".join(f"{name}: {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)
names = some.text(max_size=6).filter(lambda name: name.casefold() not in KNOWN)
extras = some.lists(some.tuples(names, values), max_size=5)


def pairs(text: bytes | str) -> Pairs:
    """Members in their order, numbers as they are written, duplicates in nested objects included."""
    found: Pairs = json.loads(text, object_pairs_hook=list, parse_int=_Number, parse_float=_Number)
    return found


class _Number(str):
    """A number's digits, which are no string's."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str(self) == str(other)

    __hash__ = str.__hash__


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Upstream]]:
    """A proxy that adds nothing of its own, and the upstream behind it."""
    with Upstream(raw(b'{"choices":[{"message":{"content":"ok"}}]}', framing="length")) as upstream:
        app = create_app(
            {
                "upstreams": {"main": {"url": upstream.url}},
                "models": {"m": {"price": {"input": "1", "output": "1"}}, "alias": {"model": "real"}},
                "auth": {"required": False},
                "accounting": {"ledger": "sqlite://", "journal": str(tmp_path_factory.mktemp("books") / "journal")},
            }
        )
        yield app, upstream
        app.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=extras, after=extras)
def test_unknown_fields_arrive_as_they_were_written(before: Pairs, after: Pairs, sent: tuple[Proxy, Upstream]) -> None:
    app, upstream = sent
    fields = [(json.dumps(name), value) for name, value in before]
    fields += [('"model"', '"m"'), ('"messages"', '[{"role": "user", "content": "hi", "x": 1.10}]')]
    fields += [(json.dumps(name), value) for name, value in after]
    body = "{" + ", ".join(f"{name} : {value}" for name, value in fields) + "}"

    assert Client(app).post("/v1/chat/completions", data=body.encode("utf-8", "surrogatepass")).status_code == 200

    assert pairs(upstream.last.raw_body) == list(dict(pairs(body)).items())


@pytest.mark.parametrize("stream", ["true", "false"])
def test_only_what_must_be_is_changed(stream: str, sent: tuple[Proxy, Upstream]) -> None:
    app, upstream = sent
    body = f'{{"seed": 12345678901234567890123, "model": "alias", "stream": {stream}, "top_p": 0.10, "messages": []}}'

    Client(app).post("/v1/chat/completions", data=body).get_data()

    expected = body.replace("alias", "real").replace(" ", "")
    if stream == "true":
        expected = expected[:-1] + ',"stream_options":{"include_usage":true}}'
    assert upstream.last.raw_body.replace(b" ", b"").decode() == expected


def test_of_a_field_given_twice_the_last_one_counts_for_the_proxy_and_for_the_upstream(
    sent: tuple[Proxy, Upstream],
) -> None:
    """Two readers that take different ones would let a client ask for one model and be billed for another."""
    app, upstream = sent
    body = '{"model": "none", "messages": [], "model": "m", "user": "a", "user": "b"}'

    assert Client(app).post("/v1/chat/completions", data=body).status_code == 200

    assert upstream.last.raw_body.count(b'"model"') == 1
    assert json.loads(upstream.last.raw_body) == {"model": "m", "messages": [], "user": "b"}


BODY_FIELDS = {
    "Content-Type": "application/json; charset=utf-7", "Content-Encoding": "gzip", "Content-MD5": "x",
    "Content-Digest": "sha-256=:x:", "Range": "bytes=0-9", "If-Range": '"x"', "If-None-Match": "*",
}  # fmt: skip


def test_nothing_a_client_says_of_its_own_body_is_said_of_the_one_that_the_proxy_writes(
    sent: tuple[Proxy, Upstream],
) -> None:
    """Read by such a charset, ``+AG0-odel`` is a second ``model``."""
    app, upstream = sent
    body = b'{"model":"m","messages":[],"+AG0-odel":"none"}'

    assert Client(app).post("/v1/chat/completions", data=body, headers=BODY_FIELDS).status_code == 200

    assert upstream.last.headers["content-type"] == "application/json"
    assert not {name.lower() for name in BODY_FIELDS} - {"content-type"} & upstream.last.headers.keys()


def test_a_body_that_is_handed_on_as_it_is_stays_described_as_it_was(upstream: Upstream, tmp_path: Path) -> None:
    config = {
        "upstreams": {"main": {"url": upstream.url, "passthrough": ["/v1/audio/transcriptions"]}},
        "auth": {"required": False},
        "accounting": {"ledger": "sqlite://", "journal": str(tmp_path / "journal")},
    }
    fields = {**BODY_FIELDS, "Content-Type": "multipart/form-data; boundary=x"}
    with closing(create_app(config)) as app:
        Client(app).post("/v1/audio/transcriptions", data=b"--x--", headers=fields).get_data()

    assert {name: upstream.last.headers[name.lower()] for name in fields} == fields


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "parallel_tool_calls", "reasoning_effort"])
def test_names_that_vendors_quarrel_about_are_left_alone(name: str, sent: tuple[Proxy, Upstream]) -> None:
    app, upstream = sent
    Client(app).post("/v1/chat/completions", json={"model": "m", "messages": [], name: 7}).get_data()

    assert upstream.last.body[name] == 7
    assert len(upstream.last.body) == 3
