"""What an app-facing route is sent: named fields, whatever they came in, as OpenAI chat messages. Pure; no WSGI.

A field is the raw JSON of a JSON body's field, or the text of a form's, a query's or a path's. Contents pass byte for
byte. https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sseproxy.core.chat import NULL, BadRequest, Request

Field = str | msgspec.Raw
"""Text, or raw JSON."""

MODEL: Final = "model"
"""The field in which clients name the model, where the route does not."""

ROLES: Final = ("user", "assistant", "system", "developer")
MOST_MESSAGES: Final = 1000


class _Message(msgspec.Struct):
    """What is taken of a history's message; ids, times and what else a page keeps there is none of the upstream's."""

    role: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    type: str


_STRING: Final = msgspec.json.Decoder(str)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_ROLE: Final = msgspec.json.Decoder(str | None)
_CONTENT: Final = msgspec.json.Decoder(str | list[_Part])


@dataclass(frozen=True, slots=True)
class Inputs:
    """Which fields are what.

    :param message: holds one user message.
    :param messages: holds the history, a list of ``{role, content}``. With both, the message follows the history.
    :param path: the path variable that names a stream; then nothing is asked of a model.
    """

    message: str | None = "message"
    messages: str | None = None
    path: str | None = None

    def fields(self) -> frozenset[str]:
        """The names of all fields that may be looked for."""
        return frozenset(name for name in (self.message, self.messages, MODEL) if name is not None)

    def read(self, fields: Mapping[str, Field], model: str | None) -> Request:
        """The chat request, always streamed.

        :param model: the route's own; None: the client names it.
        :raises BadRequest: a field is missing, or not what it must be; names the field.
        """
        asked = _text(fields, MODEL, "names the model to use") if model is None else model
        return Request.parse(
            "chat", msgspec.json.encode({"model": asked, "messages": self._messages(fields), "stream": True})
        )

    def _messages(self, fields: Mapping[str, Field]) -> list[Any]:
        messages: list[Any] = []
        if self.messages is not None:
            messages = _history(fields, self.messages, required=self.message is None)
        if self.message is not None:
            messages.append({"role": "user", "content": _message(fields, self.message)})
        return messages


def _message(fields: Mapping[str, Field], name: str) -> Field:
    value = fields.get(name)
    if isinstance(value, msgspec.Raw) and bytes(value).startswith(b"["):
        return _content(value, name)
    return _text(fields, name, "holds the message")


def _text(fields: Mapping[str, Field], name: str, what: str) -> Field:
    """A field that is a text and not blank; from JSON as it was written there."""
    value = fields.get(name)
    if value is None or value == NULL:
        message = f"The field '{name}' is missing: it {what}. Send it in a JSON body, a form or the query."
        raise BadRequest(message, name)
    text = _decode(value, _STRING, name, "a string") if isinstance(value, msgspec.Raw) else value
    if not text.strip():
        raise BadRequest(f"The field '{name}' is empty: it {what}.", name)
    return value


def _history(fields: Mapping[str, Field], name: str, *, required: bool) -> list[Any]:
    value = fields.get(name)
    if value is None or value in (NULL, ""):
        if not required:
            return []
        message = f"The field '{name}' is missing: it holds the messages, as a list of {{role, content}}."
        raise BadRequest(message, name)
    in_text = ", written as JSON" if isinstance(value, str) else ""
    items = _decode(value, _LIST, name, f"a list of messages{in_text}")
    if required and not items:
        raise BadRequest(f"The field '{name}' is empty: it must have at least one message.", name)
    if len(items) > MOST_MESSAGES:
        message = f"The field '{name}' has {len(items)} messages; at most {MOST_MESSAGES} are accepted."
        raise BadRequest(message, name)
    return [_one(item, f"{name}[{index}]") for index, item in enumerate(items)]


def _one(item: msgspec.Raw, where: str) -> dict[str, msgspec.Raw]:
    message = _decode(item, _MESSAGE, where, "an object {role, content}")
    role = _decode(message.role or NULL, _ROLE, f"{where}.role", "a string")
    if role not in ROLES:
        known = ", ".join(ROLES)
        raise BadRequest(f"The field '{where}.role' must be one of {known}.", f"{where}.role")
    if not message.content:
        raise BadRequest(f"The field '{where}.content' is missing.", f"{where}.content")
    taken = {"role": message.role, "content": _content(message.content, f"{where}.content")}
    if message.name:
        _decode(message.name, _STRING, f"{where}.name", "a string")
        taken["name"] = message.name
    return taken


def _content(raw: msgspec.Raw, where: str) -> msgspec.Raw:
    """A string or a list of content parts, as it is."""
    parts = _decode(raw, _CONTENT, where, "a string or a list of content parts")
    if parts == []:
        raise BadRequest(f"The field '{where}' is empty.", where)
    return raw


def _decode(value: Field, decoder: msgspec.json.Decoder[Any], where: str, expected: str) -> Any:
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise BadRequest(f"The field '{where}' must be {expected}.", where) from None
