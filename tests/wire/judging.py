"""Whether a client has read a case right: its reading held against the case's `expect`, as far as that client shows."""

from __future__ import annotations

import json
from typing import Any

from tests.harness import Reading
from tests.wire.cases import Case

USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cost")


def misread(case: Case, reading: Reading, *, final: bool = False, shows: str = "all") -> dict[str, Any]:
    """What of the case was not read right: name → (read, expected).

    :param final: the client shows the whole answer or an error, no part of an answer that failed.
    :param shows: ``all``; ``common``: neither refusals nor custom tool calls nor more than one choice.
    """
    expect = case.facts["expect"]
    parts: tuple[str, ...]
    if expect["error"] is not None:
        wrong = _misread_error(expect, reading, final)
        parts = () if final else ("text", "reasoning")
    else:
        wrong = {} if reading.error is None else {"error": (reading.error, None)}
        parts = ("text", "reasoning", "refusal", "finish_reason", "tool_calls", "usage", "texts", "finish_reasons")
    if shows == "common":
        parts = tuple(name for name in parts if name not in ("refusal", "texts", "finish_reasons"))
    for name in parts:
        read, wanted = getattr(reading, name), _wanted(expect, name)
        if not _same(name, read, wanted):
            wrong[name] = (read, wanted)
    return wrong


def _misread_error(expect: dict[str, Any], reading: Reading, final: bool) -> dict[str, Any]:
    if reading.error is None:
        return {"error": (None, expect["error"])}
    wrong: dict[str, Any] = {}
    status = reading.error["status"]
    message = expect["error"].get("message", "*")
    if message != "*" and message not in reading.error["message"]:
        wrong["message"] = (reading.error["message"], message)
    if expect["status"] >= 400 and status != expect["status"]:
        wrong["status"] = (status, expect["status"])
    return wrong


def _wanted(expect: dict[str, Any], name: str) -> Any:
    if name == "finish_reason":
        return expect["finish_reasons"].get("0")
    if name == "finish_reasons":
        return expect["finish_reasons"] if len(expect["finish_reasons"]) > 1 else None
    return expect.get(name)


def _same(name: str, read: Any, wanted: Any) -> bool:
    if wanted is None:  # nothing is expected of it; of usage: the proxy counts itself
        return True
    if name == "tool_calls":
        return len(read) == len(wanted) and all(map(_same_call, read, wanted))
    if name == "usage":
        return read is not None and all(
            read.get(part, wanted[part]) == wanted[part] for part in USAGE if part in wanted
        )
    return bool(read == wanted)


def _same_call(read: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if wanted["id"] == "*":
        wanted = {**wanted, "id": read["id"] or "missing"}
    arguments = read["arguments"]
    if not isinstance(arguments, str):  # a helper that has parsed them
        arguments, wanted = json.dumps(arguments), {**wanted, "arguments": json.dumps(json.loads(wanted["arguments"]))}
    return (read["id"], read["name"], arguments) == tuple(wanted[name] for name in ("id", "name", "arguments"))
