"""The prompt prefix: the operator's text before the client's own, in each API's place for it. Pure.

The prefix is byte-stable and comes first, so that the provider's prompt cache keeps hitting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from sseproxy.core.chat import (
    NULL,
    BadRequest,
    Fields,
    Items,
    Request,
    as_raw,
    decoder_of,
    peek_field,
    read_field,
    refuse_other_spellings,
)

ClientSystem = Literal["keep", "merge", "drop", "reject"]
SYSTEM_ROLES: Final = frozenset({"system", "developer"})
SEPARATOR: Final = "\n\n"


_READ_OF_A_MESSAGE: Final = frozenset({"role", "content"})
_decode_fields: Final = decoder_of(Fields).decode
_decode_role: Final = decoder_of(str).decode


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is put before a prompt.

    :param text: the text itself; empty: nothing is added.
    :param role: the role it is given in chat messages, ``system`` or ``developer``.
    :param client_system: what becomes of the client's own system text. ``keep``: stays, after the prefix. ``merge``:
        joined with the prefix in one message. ``drop``: removed. ``reject``: refused with 400.
    """

    text: str
    role: str = "system"
    client_system: ClientSystem = "keep"

    def apply(self, request: Request) -> Request:
        """The request with the prefix in place.

        :raises BadRequest: the client's prompt cannot carry it, or ``client_system`` is ``reject``.
        """
        if request.api == "embeddings":
            return request
        return replace(request, fields=_APPLY[request.api](self, request.fields), prefix=self.text)


def _chat(prefix: Prefix, fields: Fields) -> Fields:
    if prefix.client_system == "keep":
        if not prefix.text:
            return fields
        return {**fields, "messages": _before(_message(prefix.role, prefix.text), fields["messages"])}
    system, others = _split(read_field(fields, "messages", Items, "a list of messages") or [], "messages")
    _refuse_system(prefix, bool(system), "messages")
    content: Any = prefix.text
    if prefix.client_system == "merge" and system:
        content = _joined(prefix.text, [_content(each) for each in system])
    first = [{"role": prefix.role, "content": content}] if content else []
    return {**fields, "messages": as_raw(first + others)}


@lru_cache(256)
def _message(role: str, content: str) -> bytes:
    """The same few, again and again."""
    return msgspec.json.encode({"role": role, "content": content})


def _before(first: bytes, items: msgspec.Raw) -> msgspec.Raw:
    """A list with one item before those that it has, which are not read."""
    rest = bytes(memoryview(items)[1:])
    return msgspec.Raw(b"[%b%b%b" % (first, b"" if rest.lstrip() == b"]" else b",", rest))


def _completions(prefix: Prefix, fields: Fields) -> Fields:
    if not prefix.text:
        return fields
    one = peek_field(fields, "prompt", str)
    if one is not None:
        return {**fields, "prompt": as_raw(prefix.text + SEPARATOR + one)}
    several = peek_field(fields, "prompt", list[str])
    if several is None:
        raise BadRequest(
            "The field 'prompt' must be a string or a list of strings: token arrays are not accepted here.", "prompt"
        )
    return {**fields, "prompt": as_raw([prefix.text + SEPARATOR + prompt for prompt in several])}


def _responses(prefix: Prefix, fields: Fields) -> Fields:
    own = read_field(fields, "instructions", str, "a string") or ""
    if prefix.client_system in ("drop", "reject"):
        given = peek_field(fields, "input", Items | Fields)  # type: ignore[arg-type]
        items = [fields["input"]] if isinstance(given, dict) else given or []
        system, others = _split(items, "input")
        stored = fields.get("prompt", NULL) != NULL  # kept by the vendor, with instructions in it
        found = "instructions" if own else "input" if system else "prompt"
        _refuse_system(prefix, bool(own or system or stored), found)
        own = ""
        fields = {name: raw for name, raw in fields.items() if name != "prompt"}
        if items:
            fields = {**fields, "input": as_raw(others)}
    instructions = SEPARATOR.join(text for text in (prefix.text, own) if text)
    return _with_or_without(fields, "instructions", instructions)


def _messages(prefix: Prefix, fields: Fields) -> Fields:
    own = peek_field(fields, "system", str | list[Fields])  # type: ignore[arg-type]
    contents: list[Any] = [own] if own else []
    if prefix.client_system != "keep":
        system, others = _split(read_field(fields, "messages", Items, "a list of messages") or [], "messages")
        _refuse_system(prefix, bool(own or system), "system" if own else "messages")
        fields = {**fields, "messages": as_raw(others)}
        contents += [_content(each) for each in system]
    if prefix.client_system == "drop" or not contents:
        return _with_or_without(fields, "system", prefix.text)
    return {**fields, "system": as_raw(_joined(prefix.text, contents))}


_APPLY: Final = {"chat": _chat, "completions": _completions, "responses": _responses, "messages": _messages}


def _split(messages: Items, where: str) -> tuple[list[Fields], list[Any]]:
    """System messages, and the others. To be sent as they were read: of two roles in one message, the last alone.

    :raises BadRequest: a message has a field that some upstreams take for its role.
    """
    system: list[Fields] = []
    others: list[Any] = []
    for number, raw in enumerate(messages):
        try:
            message = _decode_fields(raw)
        except msgspec.DecodeError:
            others.append(raw)
            continue
        if not _READ_OF_A_MESSAGE.issuperset(message):
            refuse_other_spellings(message, _READ_OF_A_MESSAGE, f"{where}[{number}].")
        (system if _is_system(message) else others).append(message)
    return system, others


def _is_system(message: Fields) -> bool:
    try:
        return _decode_role(message.get("role", NULL)).strip().casefold() in SYSTEM_ROLES
    except msgspec.DecodeError:
        return False


def _content(message: Fields) -> msgspec.Raw:
    return message.get("content", msgspec.Raw(b'""'))


def _refuse_system(prefix: Prefix, present: bool, param: str) -> None:
    if present and prefix.client_system == "reject":
        raise BadRequest(
            "A system prompt of your own is not accepted here; send user and assistant messages only.", param
        )


def _joined(text: str, contents: list[Any]) -> Any:
    """Prefix and client texts as one: a string if all are strings, else a list of content parts."""
    decoded = [msgspec.json.decode(item) if isinstance(item, msgspec.Raw) else item for item in contents]
    texts = [text, *decoded] if text else decoded
    if all(isinstance(item, str) for item in texts):
        return SEPARATOR.join(texts)
    parts: list[Any] = []
    for item in texts:
        parts += item if isinstance(item, list) else [{"type": "text", "text": item}]
    return parts


def _with_or_without(fields: Fields, name: str, text: str) -> Fields:
    if text:
        return {**fields, name: as_raw(text)}
    return {key: raw for key, raw in fields.items() if key != name}
