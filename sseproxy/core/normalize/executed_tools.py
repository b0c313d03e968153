"""Tools that a vendor ran while it answered (Groq): a stream tells each when it is called, and again with its result.

Specification: https://console.groq.com/docs/tool-use/built-in-tools
"""

from __future__ import annotations

from functools import partial
from typing import Any

__all__ = ["ExecutedTools"]


class ExecutedTools:
    """Those that the deltas of one answer have told of."""

    def __init__(self) -> None:
        self._told: set[tuple[int, int]] = set()

    def new_in(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the choices of a chunk with only the tools that are new; the chunk itself, if it tells of none."""
        if not any(map(_tools_of, body["choices"])):
            return body
        return {"choices": [self._with_new(choice) for choice in body["choices"]]}

    def _with_new(self, choice: dict[str, Any]) -> dict[str, Any]:
        tools = _tools_of(choice)
        if not tools:
            return choice
        new = [*filter(partial(self._is_new, choice), tools)]
        return {**choice, "delta": {**choice["delta"], "executed_tools": new}}

    def _is_new(self, choice: dict[str, Any], tool: dict[str, Any]) -> bool:
        index, number = choice.get("index"), tool.get("index")
        if not isinstance(number, int):
            return True
        place = (index if isinstance(index, int) else 0, number)
        is_new = place not in self._told
        self._told.add(place)
        return is_new


def _tools_of(choice: dict[str, Any]) -> list[dict[str, Any]]:
    delta = choice.get("delta")
    tools = delta.get("executed_tools") if isinstance(delta, dict) else None
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
