"""Deltas: one entry per choice and chunk, numbered right, role once and first, text as strings, no nulls.

Text is moved, never changed: parts become one string, ``reasoning`` is mirrored to ``reasoning_content``; halves of a
surrogate pair that were sent apart meet again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk, plain_text, thoughts_in, write_json
from sseproxy.core.normalize.finish import finish_of
from sseproxy.core.normalize.lists import Lists
from sseproxy.core.sse import Event

__all__ = ["adopt_message", "index_of", "legacy_text", "says_something", "tidy_deltas", "tidy_message", "tidy_texts"]

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")


def tidy_deltas(events: Iterator[Event], choices: int = 1) -> Iterator[Event]:
    """Tidy ``choices[].delta`` of chat chunks.

    :param choices: how many answers were asked for; with one, every entry is choice 0, whatever it says (TGI#1648).
    """
    opened: set[int] = set()
    halves: dict[tuple[int, str], str] = {}
    lists: defaultdict[int, Lists] = defaultdict(Lists)
    for event in events:
        if type(event) is not Chunk:
            if halves and (event.error is not None or event.data):
                yield from _give_out(halves, [*halves])
            yield event
            continue
        if halves:
            event.steady = False
        entries = event.body["choices"]
        if entries:
            merged = _merge(entries, choices)
            if len(merged) > 1:
                merged = _without_lead(merged)
            if len(merged) != len(entries):
                event.steady = False
            event.body["choices"] = merged
            alone: list[tuple[int, str]] = []
            for choice in merged:
                delta = choice["delta"] = tidy_message(choice.get("delta"))
                if "text" in choice:  # the legacy API's field
                    delta.setdefault("content", plain_text(choice.pop("text")))
                if choice["index"] not in opened:
                    opened.add(choice["index"])
                    event.steady = False
                    choice["delta"] = {"role": delta.pop("role", "assistant"), **delta}
                else:
                    delta.pop("role", None)
                if lists[choice["index"]].tidy(choice["delta"]):
                    event.steady = False
                if halves:
                    alone += _left_alone(choice, halves)
                if _join_halves(choice["delta"], choice["index"], halves):
                    event.steady = False
            if alone:
                yield from _give_out(halves, alone)
            if halves and not any(map(says_something, merged)):
                continue  # all it said is held
        yield event
    yield from _give_out(halves, [*halves])


def tidy_texts(events: Iterator[Event], choices: int = 1) -> Iterator[Event]:
    """Tidy ``choices[].text`` of legacy completions; chat deltas an upstream sends there become text."""
    for event in events:
        if type(event) is Chunk and event.body["choices"]:
            entries = event.body["choices"]
            for choice in entries:
                delta = choice.pop("delta", None)
                choice.pop("message", None)  # a repetition, or it is the delta by now
                choice["text"] = legacy_text(choice)
                if not choice["text"]:
                    adopt_message(choice, delta)
            merged = _merge(entries, choices)
            if len(merged) != len(entries):
                event.steady = False
            event.body["choices"] = merged
        yield event


def adopt_message(choice: dict[str, Any], message: Any) -> None:
    """Let a choice of the legacy API say what stands in a delta or message, reasoning too."""
    tidy = tidy_message(message)
    choice["text"] = tidy.get("content", "")
    if reasoning := thoughts_in(tidy):
        choice.setdefault("reasoning", reasoning)


def _merge(entries: list[dict[str, Any]], choices: int) -> list[dict[str, Any]]:
    """Number the choices; entries that turn out to be the same choice become one (copilot-api#81)."""
    merged: dict[int, dict[str, Any]] = {}
    for position, choice in enumerate(entries):
        index = 0 if choices == 1 else index_of(choice.get("index"), position)
        if "index" in choice:
            choice["index"] = index
        else:
            choice = {"index": index, **choice}
        if index in merged:
            _merge_into(merged[index], choice)
        else:
            merged[index] = choice
    return list(merged.values())


def index_of(value: Any, position: int) -> int:
    """Return the number of a choice, or its position where it has none."""
    if isinstance(value, str) and value.isdecimal():
        return int(value[:9])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**31:
        return int(value)
    return position


def _merge_into(choice: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in other.items():
        old = choice.get(name)
        if name == "delta" and isinstance(old, dict) and isinstance(value, dict):
            for field, part in value.items():
                if isinstance(part, (str, list)) and type(old.get(field)) is type(part) and field != "role":
                    old[field] = old[field] + part
                elif part is not None:
                    old[field] = part
        elif name == "text" and isinstance(old, str) and isinstance(value, str):
            choice[name] = old + value
        elif value is not None:
            choice[name] = value


def tidy_message(message: Any) -> dict[str, Any]:
    """Return a delta or message with strings for texts and without nulls."""
    if not isinstance(message, dict):
        return {"content": message} if isinstance(message, str) else {}
    tidy = {name: value for name, value in message.items() if value is not None}
    content = tidy.get("content")
    if content is not None and not isinstance(content, str):
        _split_parts(tidy, content)
    for name in ("reasoning_content", "refusal"):
        if not isinstance(tidy.get(name, ""), str):
            tidy[name] = plain_text(tidy[name])
    _tidy_reasoning(tidy)
    if not isinstance(tidy.get("role", "assistant"), str) or tidy.get("role") == "":
        del tidy["role"]
    calls = tidy.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        tidy["tool_calls"] = [calls]
    if calls == []:
        del tidy["tool_calls"]
    function = tidy.get("function_call")
    if isinstance(function, dict):
        if any(function.values()):
            tidy["function_call"] = _tidy_function(function)
        else:
            del tidy["function_call"]
    return tidy


def _tidy_reasoning(tidy: dict[str, Any]) -> None:
    """Mirror reasoning, whatever its name, to ``reasoning_content``; ``reasoning`` itself may stay if it is text."""
    if reasoning := thoughts_in(tidy):
        tidy["reasoning_content"] = reasoning
    if not isinstance(tidy.get("reasoning", ""), str):
        del tidy["reasoning"]


def _split_parts(tidy: dict[str, Any], content: Any) -> None:
    """Turn a list of content parts (Mistral) into the strings of a chunk; parts that are no text are kept aside."""
    text: list[str] = []
    thinking: list[str] = []
    others: list[Any] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            (thinking if part.get("type") in ("thinking", "reasoning") else text).append(part["text"])
        elif isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            thinking.append(plain_text(part))
        elif isinstance(part, (int, float)) and not isinstance(content, list):
            text.append(write_json(part).decode())
        else:
            others.append(part)
    tidy["content"] = "".join(text)
    if not text:
        del tidy["content"]
    if thinking:
        tidy["reasoning_content"] = plain_text(tidy.get("reasoning_content")) + "".join(thinking)
    if others:
        tidy["content_parts"] = others


def _tidy_function(function: dict[str, Any]) -> dict[str, Any]:
    tidy = {name: value for name, value in function.items() if value is not None and value != ""}
    arguments = function.get("arguments")
    if isinstance(arguments, (dict, list)):
        tidy["arguments"] = write_json(arguments).decode()
    elif arguments == "":
        tidy["arguments"] = ""
    return tidy


def _join_halves(delta: dict[str, Any], index: int, halves: dict[tuple[int, str], str]) -> bool:
    """Hold the first half of a surrogate pair back until other text comes; True if there was one."""
    met = False
    for name in _TEXTS:
        text = delta.get(name)
        if not isinstance(text, str) or not text:
            continue
        half = halves.pop((index, name), "") if halves else ""
        if half:
            met = True
            text = (half + text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if "\ud800" <= text[-1] <= "\udbff":
            met = True
            halves[index, name] = text[-1]
            text = text[:-1]
        if met and not text:
            del delta[name]
        elif met:
            delta[name] = text
    return met


def legacy_text(choice: dict[str, Any]) -> str:
    """Return what a choice says in the legacy API's field; nothing, if that is no text."""
    text = choice.get("text")
    return text if isinstance(text, str) else ""


def says_something(choice: dict[str, Any]) -> bool:
    """Tell whether a choice has more than its number: a delta that is not empty, or any other field."""
    return bool(choice["delta"]) or any(choice[name] is not None for name in choice if name not in ("index", "delta"))


def _without_lead(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop a first choice that only stands there to lead, see :mod:`~sseproxy.core.normalize.first`."""
    lead = choices[0]
    rest = {name: value for name, value in lead.items() if name not in ("index", "finish_reason") and value}
    leads = lead["index"] == 0 and not rest and finish_of(lead.get("finish_reason"), calls=False) is None
    return choices[1:] if leads else choices


def _left_alone(choice: dict[str, Any], halves: dict[tuple[int, str], str]) -> list[tuple[int, str]]:
    """Return which halves of a choice will not meet their other one: it goes on with something else, or ends."""
    delta, index = choice["delta"], choice["index"]
    if not any(delta.values()) and finish_of(choice.get("finish_reason"), calls=False) is None:
        return []
    return [(index, name) for name in _TEXTS if (index, name) in halves and not delta.get(name)]


def _give_out(halves: dict[tuple[int, str], str], which: list[tuple[int, str]]) -> Iterator[Event]:
    """Give out halves that never met their other one."""
    for index, name in which:
        yield Chunk(body={"choices": [{"index": index, "delta": {name: halves.pop((index, name))}}]}, steady=False)
