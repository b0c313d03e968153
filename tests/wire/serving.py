"""A case of the corpus on a real socket: what the upstream does, and what the client asks for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from tests.harness import Exchange, choose, raw
from tests.wire.cases import Case


def serve_cases(cases: Iterable[Case]) -> Callable[[Exchange], None]:
    """A script for the upstream: the model that is asked names the case."""
    scripts = {case.name: _script(case) for case in cases}
    return choose(lambda exchange: scripts[exchange.body["model"]])


def _script(case: Case) -> Callable[[Exchange], None]:
    facts = case.facts
    pieces = [case.body[start:end] for start, end in itertools.pairwise([0, *case.cuts(), len(case.body)])]
    return raw(
        pieces if case.body else [],
        status=facts["http_status"],
        headers={"Content-Type": facts["content_type"], **facts["headers"]},
        framing="chunked" if facts["http_status"] < 400 else "length",
        end="hang" if facts["hang"] else "reset" if facts["abort"] else "clean",
    )


def request_of(case: Case, *, stream: bool = True) -> dict[str, Any]:
    """The body of a request that is answered with this case; what the typed SDKs add themselves is left out."""
    if case.api == "responses":
        return {"model": case.name, "input": "Say it."}
    if case.api == "completions":
        return {"model": case.name, "prompt": "Say it.", "stream_options": {"include_usage": True}}
    body: dict[str, Any] = {"model": case.name, "messages": [{"role": "user", "content": "Say it."}]}
    if case.api == "messages":
        return body
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    names = dict.fromkeys(call["name"] for call in case.facts["expect"]["tool_calls"])
    if names:
        function = {"parameters": {"type": "object", "properties": {}}}
        body["tools"] = [{"type": "function", "function": {"name": name, **function}} for name in names]
    return body | (case.facts["request"] or {})
