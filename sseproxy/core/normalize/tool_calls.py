"""Tool calls: ``index`` from 0, ``id``, ``type`` and ``name`` once and on the first delta, ``arguments`` as strings.

Arguments that were whole already are not said again (codex-lb#284); which call they are of, :mod:`.calls` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, write_json
from sseproxy.core.normalize.calls import Call, Calls
from sseproxy.core.normalize.deltas import says_something
from sseproxy.core.sse import Event

__all__ = ["tidy_calls", "tidy_tool_calls"]


def tidy_calls(
    events: Iterator[Event], make_id: Callable[[], str], tools: Collection[str] = (), *, cumulative: bool = False
) -> Iterator[Event]:
    """Tidy ``choices[].delta.tool_calls`` of a stream.

    :param make_id: makes an id for a call that never gets one.
    :param tools: the names that can be called, where they are known: a name in pieces is held until it is whole.
    :param cumulative: arguments, as texts, repeat everything before them.
    """
    choices: dict[int, Calls] = {}
    for event in events:
        if type(event) is Chunk:
            held = False
            for choice in event.body["choices"]:
                entries = choice["delta"].get("tool_calls")
                calls = choices.get(choice["index"])
                if entries is not None:
                    if calls is None:
                        calls = choices[choice["index"]] = Calls(make_id, tools, cumulative=cumulative)
                    _tidy(choice["delta"], entries, calls, event, ends=bool(choice.get("finish_reason")))
                    held = held or not choice["delta"]
                if calls is not None and any(call.kept is not None for call in calls.all):
                    event.sure = False  # a finish here is not the last word: calls without a name follow
                if calls is not None and choice.get("finish_reason"):
                    yield from _alone(choice["index"], _waiting(call for call in calls.all if call.held))
            if held and not any(map(says_something, event.body["choices"])):
                continue
        elif event.data:
            yield from _rest(choices)
        yield event
    yield from _rest(choices)


def _tidy(delta: dict[str, Any], entries: list[Any], calls: Calls, event: Chunk, *, ends: bool) -> None:
    tidied: list[dict[str, Any]] = []
    alone = len(entries) == 1
    for entry in entries:
        if isinstance(entry, dict):
            known = len(calls.all)
            # Clients do not join two entries of one call in one chunk (openai-python#3201): what ends it is not held.
            tidy, steady = _tidy_entry(entry, calls, alone, may_hold=alone and not ends)
            if steady is None:
                event.steady = False
            else:
                event.watch = steady.arguments.take
            if len(calls.all) > known:  # calls come in order, so none may wait any longer
                tidied += _waiting(calls.all[:known])
            if tidy is not None:
                tidied.append(tidy)
    if tidied:
        delta["tool_calls"] = tidied
    else:
        del delta["tool_calls"]


def _tidy_entry(
    entry: dict[str, Any], calls: Calls, alone: bool, *, may_hold: bool
) -> tuple[dict[str, Any] | None, Call | None]:
    """Return the entry to send, None if there is nothing in it; and its call if the next like it is treated alike."""
    if _is_custom(entry):
        return _tidy_custom(entry, calls)
    function = _function(entry)
    name = given if isinstance(given := function.get("name"), str) else ""
    arguments = _arguments(function.get("arguments"))
    index, id = _index(entry.get("index")), _id(entry.get("id"))
    call, opens = calls.find(index, id, name, arguments, alone)
    if not opens and call.arguments.are(arguments):
        return None, None  # said again
    if calls.cumulative:
        arguments = call.beyond(arguments)
    begun, held = call.arguments.begun, call.held
    arguments = call.tell(arguments, may_hold=may_hold)
    extras = {
        field: value
        for field, value in entry.items()
        if value is not None and field not in ("index", "id", "type", "function", "custom", "name", "arguments")
    }
    rest = {
        field: value for field, value in function.items() if field not in ("name", "arguments") and value is not None
    }
    if call.kept is not None:
        call.kept.update(extras)
        if name != call.name and not begun:
            call.name += name
        if not arguments and (not name or (not rest and calls.begins_a_name(call.name))):
            return None, None
        return _first(call, rest, arguments), None
    tidy: dict[str, Any] = {"index": call.index, **extras}
    if name and name != call.name and not begun:
        call.name += name
        rest = {"name": name, **rest}
    if arguments or rest:
        tidy["function"] = {**rest, "arguments": arguments}
    elif not extras:
        return None, None
    pieces = bool(arguments) and not (rest or held or call.arguments.complete)
    return tidy, call if pieces and not opens and index is not None and id in ("", call.id) else None


def _is_custom(entry: dict[str, Any]) -> bool:
    """Whether a call is one of a custom tool: Snowflake writes both forms of each, one of them empty."""
    custom = entry.get("custom")
    return isinstance(custom, dict) and (any(custom.values()) or not isinstance(entry.get("function"), dict))


def _function(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the function of an entry, which some relays flatten."""
    flat = {field: entry[field] for field in ("name", "arguments") if isinstance(entry.get(field), (str, dict))}
    function = entry.get("function")
    return {**flat, **function} if isinstance(function, dict) else flat


def _first(call: Call, rest: dict[str, Any], arguments: str) -> dict[str, Any]:
    kept, call.kept = call.kept, None
    function = {"name": call.name, **rest, "arguments": arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function, **(kept or {})}


def _tidy_custom(entry: dict[str, Any], calls: Calls) -> tuple[dict[str, Any], None]:
    """Custom tools carry free text (``custom.input``); only their numbering can be off."""
    call, _ = calls.find(_index(entry.get("index")), _id(entry.get("id")), "", "", True)
    kept, call.kept = call.kept, None
    own = ("id", "type", "index", "function", "custom")
    tidy = {name: value for name, value in entry.items() if value is not None and name not in own}
    custom = {name: value for name, value in entry["custom"].items() if value is not None}
    custom["input"] = _arguments(custom.get("input"))
    if kept is not None:
        custom["name"] = _id(custom.get("name"))
        return {"index": call.index, "id": call.id, "type": "custom", "custom": custom, **kept, **tidy}, None
    custom.pop("name", None)
    return {"index": call.index, "custom": custom, **tidy}, None


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


def _waiting(calls: Iterable[Call]) -> list[dict[str, Any]]:
    """Say what was held of calls, and those that never got more than an id: nothing may be dropped silently."""
    entries: list[dict[str, Any]] = []
    for call in calls:
        held, call.held = call.held, ""
        if call.kept is not None:
            entries.append(_first(call, {}, held))
        elif held:
            entries.append({"index": call.index, "function": {"arguments": held}})
    return entries


def _rest(choices: dict[int, Calls]) -> Iterator[Event]:
    for index, calls in choices.items():
        yield from _alone(index, _waiting(calls.all))


def _alone(index: int, entries: list[dict[str, Any]]) -> Iterator[Event]:
    if entries:
        yield Chunk(body={"choices": [{"index": index, "delta": {"tool_calls": entries}}]}, steady=False)


def tidy_tool_calls(calls: list[Any], make_id: Callable[[], str]) -> list[dict[str, Any]]:
    """Tidy ``message.tool_calls`` of a whole answer: an ``id`` each, ``type``, ``arguments`` as a string, no number."""
    tidied: list[dict[str, Any]] = []
    ids = {""}
    for call in calls:
        if not isinstance(call, dict):
            continue
        is_custom = _is_custom(call)
        function = {} if is_custom else _function(call)
        dropped = ("index", "function" if is_custom else "custom")
        call = {name: value for name, value in call.items() if name not in dropped and value is not None}
        id = _id(call.get("id"))
        call["id"] = "call_" + make_id() if id in ids else id
        ids.add(id)
        if function or isinstance(call.get("function"), dict):
            call.setdefault("type", "function")
            call["function"] = {**function, "arguments": _arguments(function.get("arguments"))}
            call.pop("name", None)
            call.pop("arguments", None)
        tidied.append(call)
    return tidied
