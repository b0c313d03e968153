"""Tool calls: ``index`` from 0, ``id``, ``type`` and ``name`` once and on the first delta, ``arguments`` as strings.

A call is known by its id; by its index if it has none; by its name and the completeness of the arguments before it if
it has neither. A new id at a used index is a new call (new-api#2701), but not without a name amid arguments; an id or
a name that is repeated is not (litellm#20480). Arguments without any of these belong to the last call.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, write_json
from sseproxy.core.normalize.deltas import says_something
from sseproxy.core.sse import Event

__all__ = ["tidy_calls", "tidy_tool_calls"]


class _Call:
    """One call of one choice.

    :ivar given: the upstream gave the id, it is not made up.
    :ivar kept: fields that came before there was a name to send them with.
    :ivar whole: its arguments, if it came with them in one piece.
    :ivar sure: all of its arguments were seen here, none went by on the shortcut.
    """

    def __init__(self, index: int, id: str, *, given: bool) -> None:
        self.index = index
        self.id = id
        self.given = given
        self.name = ""
        self.kept: dict[str, Any] | None = {}
        self.arguments = _Braces()
        self.whole = ""
        self.sure = True

    @property
    def complete(self) -> bool:
        """The arguments are known to be one whole JSON object."""
        return self.sure and self.arguments.complete

    @property
    def unfinished(self) -> bool:
        """More arguments are known to be missing."""
        return self.sure and bool(self.name) and not self.arguments.complete


class _Calls:
    """The calls of one choice, in the order they were opened."""

    def __init__(self, make_id: Callable[[], str], tools: Collection[str]) -> None:
        self.make_id = make_id
        self.tools = tools
        self.all: list[_Call] = []
        self.by_id: dict[str, _Call] = {}
        self.by_index: dict[Any, _Call] = {}

    def open(self, index: Any, id: str) -> _Call:
        given = bool(id) and id not in self.by_id
        call = _Call(len(self.all), id if given else "call_" + self.make_id(), given=given)
        self.all.append(call)
        self.by_id[id if given else call.id] = call
        if index is not None:
            self.by_index[index] = call
        return call

    def begins_a_name(self, name: str) -> bool:
        """Tell whether `name` can only be the first piece of one."""
        return name not in self.tools and any(tool.startswith(name) for tool in self.tools)

    def find(self, index: Any, id: str, name: str, arguments: str, alone: bool) -> tuple[_Call, bool]:
        """Return the call that an entry with these marks belongs to, and whether it opens it."""
        if id in self.by_id:
            call = self.by_id[id]
            if index is None or not name or self.by_index.get(index) is call or index in self.by_index:
                return call, False
            return self.open(index, id), True
        at = self.by_index.get(index) if index is not None else None
        if id:
            if at is not None and not at.given and not (name and at.name):
                return at, False
            before = at if index is not None else self.all[-1] if self.all else None
            if before is not None and not name and before.unfinished:
                self.by_id[id] = before
                return before, False
            return self.open(index, id), True
        if at is not None:
            renamed = bool(name and at.name and name != at.name and at.arguments.begun)
            another = bool(name and at.name and arguments and at.complete)
            return (self.open(index, ""), True) if renamed or another else (at, False)
        if index is not None or not self.all:
            return self.open(index, ""), True
        last = self.all[-1]
        if name and last.name and (not alone or name != last.name or last.arguments.complete):
            return self.open(None, ""), True
        return last, False


def tidy_calls(
    events: Iterator[Event], make_id: Callable[[], str] = lambda: uuid.uuid4().hex, tools: Collection[str] = ()
) -> Iterator[Event]:
    """Tidy ``choices[].delta.tool_calls`` of a stream.

    :param make_id: makes an id for a call that never gets one.
    :param tools: the names that can be called, where they are known: a name in pieces is held until it is whole.
    """
    choices: dict[int, _Calls] = {}
    for event in events:
        if type(event) is Chunk:
            held = False
            for choice in event.body["choices"]:
                entries = choice["delta"].get("tool_calls")
                calls = choices.get(choice["index"])
                if entries is not None:
                    if calls is None:
                        calls = choices[choice["index"]] = _Calls(make_id, tools)
                    _tidy(choice["delta"], entries, calls, event)
                    held = held or not choice["delta"]
                if calls is not None and any(call.kept is not None for call in calls.all):
                    event.sure = False  # a finish here is not the last word: calls without a name follow
            if held and not any(map(says_something, event.body["choices"])):
                continue
        elif event.data:
            yield from _unnamed(choices)
        yield event
    yield from _unnamed(choices)


def _tidy(delta: dict[str, Any], entries: list[Any], calls: _Calls, event: Chunk) -> None:
    tidied: list[dict[str, Any]] = []
    alone = len(entries) == 1
    for entry in entries:
        if isinstance(entry, dict):
            known = len(calls.all)
            tidy, steady = _tidy_entry(entry, calls, alone)
            if not steady:
                event.steady = False
            if len(calls.all) > known:  # calls come in order, so none may wait for its name any longer
                tidied += [_first(call, {}, "") for call in calls.all[:known] if call.kept is not None]
            if tidy is not None:
                tidied.append(tidy)
    if tidied:
        delta["tool_calls"] = tidied
    else:
        del delta["tool_calls"]


def _tidy_entry(entry: dict[str, Any], calls: _Calls, alone: bool) -> tuple[dict[str, Any] | None, bool]:
    """Return the entry to send, None if there is nothing in it, and whether the next like it is treated alike."""
    if isinstance(entry.get("custom"), dict):
        return _tidy_custom(entry, calls)
    function = entry.get("function")
    function = dict(function) if isinstance(function, dict) else {}
    for field in ("name", "arguments"):  # relays that flatten the function
        if field not in function and isinstance(entry.get(field), (str, dict)):
            function[field] = entry[field]
    name = given if isinstance(given := function.get("name"), str) else ""
    arguments = _arguments(function.get("arguments"))
    index, id = _index(entry.get("index")), _id(entry.get("id"))
    call, opens = calls.find(index, id, name, arguments, alone)
    begun = call.arguments.begun
    if id and arguments and arguments == call.whole and call.complete:
        return None, False  # said again as a whole
    if call.sure:
        call.arguments.feed(arguments)
        call.whole = arguments if not begun and call.arguments.complete else ""
    extras = {
        field: value
        for field, value in entry.items()
        if value is not None and field not in ("index", "id", "type", "function", "name", "arguments")
    }
    rest = {
        field: value for field, value in function.items() if field not in ("name", "arguments") and value is not None
    }
    if call.kept is not None:
        call.kept.update(extras)
        if name != call.name and not begun:
            call.name += name
        if not arguments and (not name or (not rest and calls.begins_a_name(call.name))):
            return None, False
        return _first(call, rest, arguments), False
    tidy: dict[str, Any] = {"index": call.index, **extras}
    if name and name != call.name and not begun:
        call.name += name
        rest = {"name": name, **rest}
    if arguments or rest:
        tidy["function"] = {**rest, "arguments": arguments}
    elif not extras:
        return None, False
    steady = not opens and index is not None and bool(arguments) and not rest and id in ("", call.id)
    call.sure = call.sure and not steady
    return tidy, steady


def _first(call: _Call, rest: dict[str, Any], arguments: str) -> dict[str, Any]:
    kept, call.kept = call.kept, None
    function = {"name": call.name, **rest, "arguments": arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function, **(kept or {})}


def _tidy_custom(entry: dict[str, Any], calls: _Calls) -> tuple[dict[str, Any], bool]:
    """Custom tools carry free text (``custom.input``); only their numbering can be off."""
    call, _ = calls.find(_index(entry.get("index")), _id(entry.get("id")), "", "", True)
    kept, call.kept = call.kept, None
    own = ("id", "type", "index", "function", "custom")
    tidy = {name: value for name, value in entry.items() if value is not None and name not in own}
    custom = {name: value for name, value in entry["custom"].items() if value is not None}
    custom["input"] = _arguments(custom.get("input"))
    if kept is not None:
        custom["name"] = _id(custom.get("name"))
        return {"index": call.index, "id": call.id, "type": "custom", "custom": custom, **kept, **tidy}, False
    custom.pop("name", None)
    return {"index": call.index, "custom": custom, **tidy}, False


def _arguments(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else write_json(value).decode()


def _index(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _add_unnamed(delta: dict[str, Any], calls: _Calls) -> None:
    """Send the calls that never got more than an id: dropping one silently would change the answer."""
    waiting = [_first(call, {}, "") for call in calls.all if call.kept is not None]
    if waiting:
        delta["tool_calls"] = delta.get("tool_calls", []) + waiting


def _unnamed(choices: dict[int, _Calls]) -> Iterator[Event]:
    for index, calls in choices.items():
        delta: dict[str, Any] = {}
        _add_unnamed(delta, calls)
        if delta:
            yield Chunk(body={"choices": [{"index": index, "delta": delta}]}, steady=False)


def tidy_tool_calls(calls: list[Any], make_id: Callable[[], str]) -> list[dict[str, Any]]:
    """Tidy ``message.tool_calls`` of a whole answer: ``id``, ``type``, ``arguments`` as a string; no ``index``."""
    tidied: list[dict[str, Any]] = []
    for call in calls:
        if not isinstance(call, dict):
            continue
        call = {name: value for name, value in call.items() if name != "index" and value is not None}
        call["id"] = _id(call.get("id")) or "call_" + make_id()
        if isinstance(call.get("function"), dict):
            call.setdefault("type", "function")
            call["function"] = {**call["function"], "arguments": _arguments(call["function"].get("arguments"))}
        tidied.append(call)
    return tidied


class _Braces:
    """Tells whether the arguments fed so far are one whole JSON object, in constant memory."""

    def __init__(self) -> None:
        self.begun = False
        self._opened = False
        self._depth = 0
        self._quoted = False
        self._escaped = False

    @property
    def complete(self) -> bool:
        return self._opened and self._depth <= 0 and not self._quoted

    def feed(self, text: str) -> None:
        for char in text:
            self.begun = True
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._quoted = False
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._opened = True
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
