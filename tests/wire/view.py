"""What a strict client reads from a normalised stream, in the terms of the cases' `expect`.

It asserts the form on the way: one envelope, role once and first, one finish per choice, nothing after the end.
"""

from __future__ import annotations

import json
from typing import Any

from sseproxy.core.normalize.first import NOTHING
from sseproxy.core.sse import DONE, Event, encode
from sseproxy.core.usage import openai_usage

ENVELOPE = ("id", "object", "created", "model")


def see(api: str, events: list[Event]) -> dict[str, Any]:
    """Read `events`, all there were, FLUSH left out."""
    seen: dict[str, Any] = {
        "status": 200, "text": "", "texts": {}, "reasoning": "", "refusal": "", "finish_reasons": {}, "tool_calls": [],
        "usage": None, "error": None, "done": False, "terminal": None, "logprob_tokens": [],
    }  # fmt: skip
    client = _Chat(seen) if api in ("chat", "completions") else _Typed(seen)
    for number, event in enumerate(events):
        assert event.read
        assert not seen["done"] and seen["error"] is None, "something follows the end"
        _assert_framing(event, typed=api in ("responses", "messages"))
        if event.data == DONE:
            seen["done"] = True
            continue
        if event.error is not None and number == 0:
            seen["status"] = event.error.status
        client.take(json.loads(event.data), event)
    if seen["usage"] is not None:
        seen["usage"] = _flat(seen["usage"])
    return seen


def _assert_framing(event: Event, *, typed: bool) -> None:
    block = encode(event).decode()
    lines = block.split("\n")
    assert lines[-2:] == ["", ""]
    assert len(lines) == (4 if typed else 3)
    assert lines[-3].startswith("data: ")
    assert lines[-3].count("data: ") == 1, "a naive reader would cut here"
    assert not {"\r", "\u0085", "\u2028", "\u2029"} & set(block)


class _Chat:
    def __init__(self, seen: dict[str, Any]) -> None:
        self.seen = seen
        self.envelope: tuple[Any, ...] | None = None
        self.calls: dict[tuple[str, int], dict[str, Any]] = {}

    def take(self, body: dict[str, Any], event: Event) -> None:
        if "error" in body:
            self.seen["error"] = _checked(body["error"])
            assert event.error is not None
            return
        envelope = tuple(body[name] for name in ENVELOPE)
        assert all(envelope) and self.envelope in (None, envelope)
        self.envelope = envelope
        assert ("usage" in body) == (not body["choices"])
        assert self.seen["usage"] is None, "something follows usage"
        if not body["choices"]:
            self.seen["usage"] = body["usage"]
        content = ""
        choices = body["choices"]
        if choices and "text" not in choices[0]:
            assert choices[0]["index"] == 0, "the AI SDK takes whatever comes first for choice 0"
            if len(choices) > 1 and choices[0] == NOTHING:
                choices = choices[1:]
        for choice in choices:
            content += self._choice(choice)
        assert event.content == content

    def _choice(self, choice: dict[str, Any]) -> str:
        seen, index = self.seen, str(choice["index"])
        finish = choice["finish_reason"]
        delta = choice["delta"] if "text" not in choice else {"content": choice["text"]}
        assert None not in delta.values()
        # A finish that stands alone passes at once; what an upstream says after it all the same must not be lost.
        assert index not in seen["finish_reasons"] or (finish is None and len(choice) > 2)
        if "text" not in choice:
            assert ("role" in delta) == (index not in seen["texts"])
        text = delta.get("content", "")
        seen["texts"][index] = seen["texts"].get(index, "") + text
        seen["text"] = seen["texts"].get("0", "")
        seen["reasoning"] += delta.get("reasoning_content", "")
        seen["refusal"] += delta.get("refusal", "")
        for call in delta.get("tool_calls", ()):
            self._call(index, call)
        logprobs = choice.get("logprobs")
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        if isinstance(tokens, list):
            seen["logprob_tokens"] += [token.get("token") for token in tokens if isinstance(token, dict)]
        if finish is not None:
            assert not any(delta.values())
            seen["finish_reasons"][index] = finish
        return str(text)

    def _call(self, choice: str, call: dict[str, Any]) -> None:
        known = self.calls.get((choice, call["index"]))
        part = call.get("function") or call.get("custom") or {}
        text = part.get("arguments", part.get("input", ""))
        if known is None:
            assert call["index"] == sum(of == choice for of, _ in self.calls)
            known = {"index": call["index"], "id": call["id"], "type": call["type"], "name": part["name"]}
            self.calls[choice, call["index"]] = {**known, "arguments": text}
            self.seen["tool_calls"] = list(self.calls.values())
        else:
            assert not {"id", "type"} & set(call)
            if "name" in part:  # in pieces, where nobody knows the tools
                assert not known["arguments"]
                known["name"] += part["name"]
            known["arguments"] += text


class _Typed:
    def __init__(self, seen: dict[str, Any]) -> None:
        self.seen = seen

    def take(self, body: dict[str, Any], event: Event) -> None:
        seen = self.seen
        assert event.type == body["type"]
        seen["terminal"] = event.type
        seen["text"] += event.content
        if event.finish is not None:
            seen["finish_reasons"]["0"] = event.finish
        if event.usage is not None:
            seen["usage"] = openai_usage(event.usage)
        if event.error is not None:
            seen["error"] = _checked(body["error"])
        self._parts(body, body.get("delta"))

    def _parts(self, body: dict[str, Any], delta: Any) -> None:
        calls = self.seen["tool_calls"]
        item = body.get("item") or body.get("content_block")
        item = item if isinstance(item, dict) else {}
        if "reasoning" in body["type"] and isinstance(delta, str):
            self.seen["reasoning"] += delta
        elif body["type"] == "response.function_call_arguments.delta" and calls:
            calls[-1]["arguments"] += _text(delta)
        elif body["type"] in ("response.output_item.added", "content_block_start") and "name" in item:
            call = {"index": len(calls), "id": item.get("call_id") or item.get("id"), "type": "function"}
            calls.append({**call, "name": item["name"], "arguments": _text(item.get("arguments"))})
        elif isinstance(delta, dict):
            self.seen["reasoning"] += _text(delta.get("thinking"))
            if "partial_json" in delta and calls:
                calls[-1]["arguments"] += _text(delta["partial_json"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _checked(error: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(error["message"], str) and error["message"]
    return error


def _flat(usage: dict[str, Any]) -> dict[str, Any]:
    details = {**(usage.get("prompt_tokens_details") or {}), **(usage.get("completion_tokens_details") or {})}
    return {**details, **usage}


def differences(seen: dict[str, Any], expect: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What of `expect` was not seen: name → (seen, expected)."""
    return {name: (seen.get(name), want) for name, want in expect.items() if not _matches(seen.get(name), want)}


def _matches(seen: Any, want: Any) -> bool:
    if want == "*":
        return bool(seen)
    if isinstance(want, dict) and isinstance(seen, dict):
        if want.keys() <= {"0", "1"} and want.keys() != seen.keys():
            return False
        return all(_matches(seen.get(name), value) for name, value in want.items())
    if isinstance(want, list) and isinstance(seen, list):
        return len(want) == len(seen) and all(map(_matches, seen, want))
    return bool(seen == want)
