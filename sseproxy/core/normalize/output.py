"""What the output of a response says, each text once: a stream tells it in pieces, then as a whole, up to four times.

Of a text that came without pieces the first whole counts: its own, its part's, its item's or the response's.
Specification: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sseproxy.core.chunk import write_json

__all__ = ["Output"]

_VISIBLE: Final = "output_text"
# By the event of a text, without its `.delta` or `.done`: the field of the item that it is of, the name of its number
# there, and the field that has the whole.
_TEXTS: Final = {
    "response.output_text": ("content", "content_index", "text"),
    "response.refusal": ("content", "content_index", "refusal"),
    "response.reasoning_text": ("content", "content_index", "text"),
    "response.audio.transcript": ("content", "content_index", "transcript"),
    "response.reasoning_summary_text": ("summary", "summary_index", "text"),
    "response.function_call_arguments": ("arguments", "", "arguments"),
    "response.mcp_call_arguments": ("arguments", "", "arguments"),
    "response.custom_tool_call_input": ("input", "", "input"),
    "response.code_interpreter_call_code": ("code", "", "code"),
    "response.shell_call_command": ("action", "command_index", "command"),
    "response.apply_patch_call_operation_diff": ("operation", "", "diff"),
}
_PARTS: Final = {
    "response.content_part.done": ("content", "content_index"),
    "response.reasoning_summary_part.done": ("summary", "summary_index"),
}
# What a model writes of an item beside its parts; what is found there that it did not write.
_FIELDS: Final = (
    "name", "arguments", "input", "code", "action", "actions", "operation", "queries", "revised_prompt"
)  # fmt: skip
_FOUND: Final = ("sources",)
_CALLS: Final = ("function_call", "custom_tool_call")


class _Text(NamedTuple):
    """A text of an item: in a list of parts the one with its number there.

    :param index: of the item in the output, and `id`: the item's.
    :param piece: it repeats nothing.
    """

    index: Any
    id: Any
    field: str
    number: Any
    text: Any
    visible: bool = False
    piece: bool = False

    def places(self) -> list[tuple[int | str, str, int]]:
        """Where it stands, by the index and by the id of its item: servers get either wrong."""
        number = self.number if isinstance(self.number, int) else 0
        places: list[tuple[int | str, str, int]] = []
        if isinstance(self.index, int):
            places.append((self.index, self.field, number))
        if self.id and isinstance(self.id, str):
            places.append((self.id, self.field, number))
        return places


class Output:
    """Reads one answer.

    :ivar calls: whether it has the client call something.
    """

    def __init__(self) -> None:
        self.calls = False
        self._told: set[tuple[int | str, str, int]] = set()
        self._astray: set[str] = set()  # fields of which text was told without the index of the item

    def read(self, body: dict[str, Any]) -> tuple[str, str]:
        """Return what an event adds to the answer: visible text, and other billed output."""
        content, hidden = "", ""
        texts = [text for text in _texts_of(body) if text.text and isinstance(text.text, str)]
        for text in [text for text in texts if text.piece or not self._has(text)]:
            if text.visible:
                content += text.text
            else:
                hidden += text.text
        for text in texts:
            self._told.update(text.places())
            if not isinstance(text.index, int):
                self._astray.add(text.field)
        if not self.calls and ("item" in body or "response" in body):
            self.calls = any(item.get("type") in _CALLS for _, item in _items_of(body))
        return content, hidden

    def _has(self, text: _Text) -> bool:
        return text.field in self._astray or not self._told.isdisjoint(text.places())


def _texts_of(body: dict[str, Any]) -> Iterator[_Text]:
    kind, index, id = body.get("type"), body.get("output_index"), body.get("item_id")
    if not isinstance(kind, str):
        return
    event, _, moment = kind.rpartition(".")
    if event in _TEXTS:
        field, number, name = _TEXTS[event]
        piece = moment == "delta"
        given = body.get("delta" if piece else name)
        yield _Text(index, id, field, body.get(number), given, event.endswith(_VISIBLE), piece)
    elif kind in _PARTS:
        field, number = _PARTS[kind]
        yield _part(index, id, field, body.get(number), body.get("part"))
    elif moment == "added":  # what else is in an item that begins may be a beginning
        for index, item in _items_of(body):
            yield _Text(index, item.get("id"), "name", 0, item.get("name"), piece=True)
    else:
        for index, item in _items_of(body):
            yield from _texts_of_item(index, item)


def _items_of(body: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """The items that an event tells of, each with its index."""
    response = body.get("response")
    output = response.get("output") if isinstance(response, dict) else None
    items = [(body.get("output_index"), body.get("item")), *enumerate(output if isinstance(output, list) else [])]
    return [(index, item) for index, item in items if isinstance(item, dict)]


def _texts_of_item(index: Any, item: dict[str, Any]) -> Iterator[_Text]:
    id = item.get("id")
    for name in _FIELDS:
        value = item.get(name)
        if isinstance(value, dict):
            value = {key: each for key, each in value.items() if key not in _FOUND}
        if value and isinstance(value, (dict, list)):
            value = write_json(value).decode()
        yield _Text(index, id, name, 0, value)
    for name in ("content", "summary"):
        parts = item.get(name)
        for number, part in enumerate(parts if isinstance(parts, list) else []):
            yield _part(index, id, name, number, part)


def _part(index: Any, id: Any, field: str, number: Any, part: Any) -> _Text:
    part = part if isinstance(part, dict) else {}
    text = next((part[name] for name in ("text", "refusal", "transcript") if isinstance(part.get(name), str)), None)
    return _Text(index, id, field, number, text, part.get("type") == _VISIBLE)
