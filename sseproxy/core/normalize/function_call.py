"""``function_call``, the older form of ``tool_calls``: told to those who use it, and named once.

https://platform.openai.com/docs/api-reference/chat/create (``functions``, deprecated since 2023)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sseproxy.core.chunk import Chunk
from sseproxy.core.sse import Event

__all__ = ["tidy_function_calls"]


def tidy_function_calls(events: Iterator[Event], tools: Collection[str] = ()) -> Iterator[Event]:
    """Tidy ``choices[].delta.function_call`` of a stream.

    Beside ``tool_calls`` (llama-cpp-python sends both) it is dropped for who has offered tools: where both are,
    openai-node's ``.stream()`` shows the older one only.

    :param tools: the names of the request's ``tools``, if it has any.
    """
    named: dict[int, str] = {}
    for event in events:
        if type(event) is Chunk:
            for choice in event.body["choices"]:
                delta = choice["delta"]
                if "function_call" not in delta:
                    continue
                if tools and "tool_calls" in delta:
                    del delta["function_call"]
                else:
                    _name_once(delta, choice["index"], named, event)
        yield event


def _name_once(delta: dict[str, Any], index: int, named: dict[int, str], event: Chunk) -> None:
    """Keep a name where it is new: clients put the pieces together."""
    function = delta["function_call"]
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        return
    known = named.get(index, "")
    if name != known:
        named[index] = known + name
        event.steady = False
        return
    del function["name"]
    if not function:
        del delta["function_call"]
