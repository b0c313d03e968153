"""Gathering: the deltas of a stream become the messages of one answer, losing nothing on the way."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, ClassVar, Final

from sseproxy.core.chunk import read_json
from sseproxy.core.normalize.first import NOTHING
from sseproxy.core.normalize.lists import further
from sseproxy.core.usage_so_far import merge_fields

__all__ = ["Answer", "Message", "Response"]

_TEXTS: Final = frozenset(
    ("content", "reasoning_content", "reasoning", "refusal", "arguments", "input", "text", "name")
)


class Answer:
    """Gathers canonical chunks into a ``chat.completion`` or ``text_completion``."""

    def __init__(self, api: str) -> None:
        self._text = api == "completions"
        self._body: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        """Take one chunk in."""
        for name, value in chunk.items():
            if name != "choices" and not _is_less(value, self._body.get(name)):
                self._body[name] = value
        for part in chunk["choices"]:
            if part == NOTHING and len(chunk["choices"]) > 1:
                continue
            choice = self._choices.setdefault(part["index"], _Choice())
            for name, value in part.items():
                if name == "delta":
                    _add_delta(choice.message, value)
                elif self._text and isinstance(value, str) and name in _TEXTS:
                    choice.message.text(name, value)
                elif name == "logprobs":
                    choice.fields["logprobs"] = _add_logprobs(choice.fields.get("logprobs"), value)
                elif name != "message":
                    _put(choice.fields, name, value)

    def body(self) -> dict[str, Any]:
        """Return the answer."""
        body = {**self._body, "object": "text_completion" if self._text else "chat.completion"}
        usage = body.pop("usage", None)
        body["choices"] = [self._choices[index].finished(text=self._text) for index in sorted(self._choices)]
        if usage is not None:
            body["usage"] = usage
        return body


class _Parts:
    """Fields of a message while they grow; strings are joined once, at the end."""

    texts: ClassVar[frozenset[str]] = _TEXTS

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.calls: dict[int, _Parts] = {}
        self._pieces: dict[str, list[str]] = {}

    def text(self, name: str, value: str) -> None:
        self.fields.setdefault(name, "")
        self._pieces.setdefault(name, []).append(value)

    def join(self) -> dict[str, Any]:
        joined = {name: self._join(name, pieces) for name, pieces in self._pieces.items()}
        fields = {**self.fields, **joined}
        return {name: value.join() if isinstance(value, _Parts) else value for name, value in fields.items()}

    def _join(self, name: str, pieces: list[str]) -> str:
        return "".join(pieces)


class _Audio(_Parts):
    """What is spoken: its words, and its sound in base64."""

    texts = frozenset(("transcript", "data"))

    def _join(self, name: str, pieces: list[str]) -> str:
        return _join_base64(pieces) if name == "data" else super()._join(name, pieces)


class _Choice:
    """One choice while it grows."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.message = _Parts()

    def finished(self, *, text: bool) -> dict[str, Any]:
        """Return the choice of a whole answer."""
        joined = self.message.join()
        if text:
            return {"index": 0, "text": "", **self.fields, **joined}
        message = {"role": "assistant", "content": None, **joined}
        calls = self.message.calls
        if calls:
            message["tool_calls"] = [calls[index].join() for index in sorted(calls)]
            message["content"] = message["content"] or None
        message.setdefault("refusal", None)
        return {"index": self.fields.pop("index"), "message": message, **self.fields}


def _add_delta(message: _Parts, delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value:
                parts = message.calls.setdefault(call["index"], _Parts())
                _add_fields(parts, {field: part for field, part in call.items() if field != "index"})
        else:
            _add_fields(message, {name: value})


def _add_fields(parts: _Parts, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        old = parts.fields.get(name)
        if isinstance(value, str) and name in parts.texts and (old is None or isinstance(old, str)):
            parts.text(name, value)
        elif isinstance(value, dict) and name in ("function", "custom", "function_call", "audio"):
            if not isinstance(old, _Parts):
                old = parts.fields[name] = _Audio() if name == "audio" else _Parts()
            _add_fields(old, value)
        else:
            _put(parts.fields, name, value)


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    """Let a field have what is said of it last, or, where that is a further piece of a list, that too."""
    old = fields.get(name)
    if isinstance(value, list) and isinstance(old, list):
        old += further(name, old, value)  # no copy: there may be a piece for each token
    elif name not in fields or not _is_less(value, old):
        fields[name] = value


def _is_less(value: Any, old: Any) -> bool:
    """Whether a value is none, and there was one."""
    return value is None or (value in ("", [], {}) and bool(old))


def _join_base64(pieces: list[str]) -> str:
    """Join pieces of one text, or texts that were each padded."""
    joined = "".join(pieces)
    if not any(piece.endswith("=") for piece in pieces[:-1]):
        return joined
    try:
        return b64encode(b"".join(b64decode(piece, validate=True) for piece in pieces)).decode()
    except ValueError:
        return joined


def _add_logprobs(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old if new is None else new
    for name, value in new.items():
        if isinstance(value, list) and isinstance(old.get(name), list):
            old[name] += value
        elif value is not None:
            old[name] = value
    return old


class Response:
    """Gathers a Responses stream: its terminal event holds the whole answer, or lacks the output that was streamed."""

    def __init__(self) -> None:
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._begun: dict[int, _Text] = {}  # texts of items that are not done

    def add(self, body: dict[str, Any]) -> None:
        """Take one event in."""
        kind, index = body.get("type"), body.get("output_index")
        if isinstance(body.get("response"), dict):
            self._response = body["response"]
        elif not isinstance(index, int):
            return
        elif kind == "response.output_item.done" and isinstance(body.get("item"), dict):
            self._items[index] = body["item"]
            self._begun.pop(index, None)
        elif kind == "response.output_text.delta" and index not in self._items:
            self._begun.setdefault(index, _Text()).add(body)

    def body(self) -> dict[str, Any]:
        """Return the response."""
        response = self._response
        if response.get("output") or not (self._items or self._begun):
            return response
        status = "incomplete" if response.get("status") == "incomplete" else "completed"
        items = {**{index: text.message(index, status) for index, text in self._begun.items()}, **self._items}
        return {**response, "output": [items[index] for index in sorted(items)]}


class _Text:
    """The text of a message of a Responses stream whose item is not done."""

    def __init__(self) -> None:
        self._id: Any = None
        self._parts: dict[int, list[str]] = {}

    def add(self, delta: dict[str, Any]) -> None:
        self._id = self._id or delta.get("item_id")
        index = delta.get("content_index")
        if isinstance(delta.get("delta"), str):
            self._parts.setdefault(index if isinstance(index, int) else 0, []).append(delta["delta"])

    def message(self, index: int, status: str) -> dict[str, Any]:
        """Return the item, the one with the number `index`."""
        texts = ("".join(self._parts[number]) for number in sorted(self._parts))
        content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
        id = self._id or f"msg_{index}"
        return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


class Message:
    """Gathers a Messages stream into an Anthropic message."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, _Parts] = {}

    def add(self, body: dict[str, Any]) -> None:
        """Take one event in."""
        kind, delta = body.get("type"), body.get("delta")
        if kind == "message_start" and isinstance(message := body.get("message"), dict):
            if message.get("id") != self._message.get("id"):  # another one, of an upstream that began anew
                self._blocks.clear()
            self._message = dict(message)
        elif kind == "content_block_start" and isinstance(body.get("content_block"), dict):
            _begin_block(self._block(body), body["content_block"])
        elif kind == "content_block_delta" and isinstance(delta, dict):
            _add_block_delta(self._block(body), delta)
        elif kind == "message_delta":
            self._message.update(delta if isinstance(delta, dict) else {})
            self._add_beside({name: value for name, value in body.items() if name not in ("type", "delta")})

    def _add_beside(self, fields: dict[str, Any]) -> None:
        """Take in what a ``message_delta`` says of the message beside its delta; null takes nothing back."""
        usage, known = fields.pop("usage", None), self._message.get("usage")
        if isinstance(usage, dict):
            fields["usage"] = merge_fields(known if isinstance(known, dict) else {}, usage)
        for name, value in fields.items():
            if value is not None or name not in self._message:
                self._message[name] = value

    def _block(self, body: dict[str, Any]) -> _Parts:
        index = body.get("index")
        return self._blocks.setdefault(index if isinstance(index, int) else 0, _Parts())

    def body(self) -> dict[str, Any]:
        """Return the message."""
        blocks = [_block(self._blocks[index]) for index in sorted(self._blocks)]
        return {**self._message, "content": blocks or self._message.get("content") or []}


def _begin_block(block: _Parts, begun: dict[str, Any]) -> None:
    for name, value in begun.items():
        if name in ("text", "thinking") and isinstance(value, str):
            block.text(name, value)
        else:
            block.fields[name] = value


def _add_block_delta(block: _Parts, delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "type":
            continue
        if isinstance(value, str):
            block.text(name, value)
        elif name == "citation":
            known = block.fields.get("citations")
            block.fields["citations"] = [*(known if isinstance(known, list) else []), value]
        else:
            block.fields[name] = value


def _block(parts: _Parts) -> dict[str, Any]:
    block = parts.join()
    given = block.pop("partial_json", None)
    if given:
        try:
            block["input"] = read_json(given)
        except (TypeError, ValueError):  # it is no text, or no JSON
            block["input"] = {"partial_json": given}
    return block
