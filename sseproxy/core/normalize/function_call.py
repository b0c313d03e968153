"""``function_call``, the older form of ``tool_calls``: told to those who use it, and nothing of it twice.

https://platform.openai.com/docs/api-reference/chat/create (``functions``, deprecated since 2023)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sseproxy.core.chunk import Chunk
from sseproxy.core.normalize.calls import Call
from sseproxy.core.sse import Event

__all__ = ["tidy_function_calls"]


def tidy_function_calls(
    events: Iterator[Event], tools: Collection[str] = (), *, cumulative: bool = False
) -> Iterator[Event]:
    """Tidy ``choices[].delta.function_call`` of a stream.

    Beside or behind ``tool_calls`` (llama-cpp-python sends both) it is dropped for who has offered tools: where both
    are, openai-node's ``.stream()`` shows the older one only.

    :param tools: the names of the request's ``tools``, if it has any.
    :param cumulative: arguments repeat everything before them.
    """
    calls: dict[int, Call] = {}
    newer: set[int] = set()  # choices that have made their calls in the newer form
    for event in events:
        if type(event) is Chunk:
            for choice in event.body["choices"]:
                delta, index = choice["delta"], choice["index"]
                if "tool_calls" in delta:
                    newer.add(index)
                if tools and index in newer:
                    delta.pop("function_call", None)
                elif isinstance(delta.get("function_call"), dict):
                    _say_once(delta, calls.setdefault(index, Call(0, "")), event, cumulative=cumulative)
        yield event


def _say_once(delta: dict[str, Any], call: Call, event: Chunk, *, cumulative: bool) -> None:
    """Keep what is new: clients put the pieces of a name together, and those of arguments."""
    function = delta["function_call"]
    name, arguments = function.get("name"), function.get("arguments")
    if isinstance(name, str) and name:
        event.steady = False
        if name == call.name:
            del function["name"]
        else:
            call.name += name
    if isinstance(arguments, str) and arguments:
        if call.arguments.are(arguments):
            event.steady = False
            del function["arguments"]
        else:
            _feed(function, arguments, call, event, cumulative=cumulative)
    if not function:
        del delta["function_call"]


def _feed(function: dict[str, Any], arguments: str, call: Call, event: Chunk, *, cumulative: bool) -> None:
    if cumulative:
        arguments = function["arguments"] = call.beyond(arguments)
    call.arguments.feed(arguments)
    if call.arguments.complete:
        event.steady = False  # what follows may be said again
    else:
        event.watch = call.arguments.take
