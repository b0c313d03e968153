"""What of a request counts as input: its texts, and the fixed number of tokens its shape adds. Pure; tokenizes nothing.

Per message as in OpenAI's chat format, tools as measured by OpenAI:
https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken. What is of an unexpected type is passed over:
it is the upstream's to refuse. Nothing in here may raise, whatever a client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from sseproxy.core.chat import Api
from sseproxy.core.images import claude_image_tokens, image_tokens

_PER_MESSAGE: Final = 3
_ROLE: Final = 1
_NAME: Final = 1
_ANSWER_START: Final = 3
_PER_CALL: Final = 3
_PER_TOOL: Final = 7
_PER_OBJECT: Final = 3
_PER_PROPERTY: Final = 3
_ENUM: Final = -3
_PER_ENUM_VALUE: Final = 3
_TOOLS_END: Final = 12
#: The system prompt that Anthropic adds when there are tools.
_CLAUDE_TOOLS: Final = 346
#: Fields of a chat request that say what its answer, or a call in it, is to look like.
_CHAT_FORMS: Final = ("tools", "functions", "response_format")
#: A schema that is nested deeper is counted as its text.
_DEEPEST: Final = 24


@dataclass
class Texts:
    """What is to be counted.

    :param pieces: each is tokenized by itself.
    :param overhead: tokens that stand in no text: per message, per image, per token id that was sent as a number.
    """

    pieces: list[str] = field(default_factory=list)
    overhead: int = 0

    def count(self, count: Callable[[str], int]) -> int:
        """Tokens in all.

        :param count: tokens of one text.
        """
        return max(0, self.overhead + sum(map(count, self.pieces)))

    def add(self, *values: Any) -> None:
        """Take in what is text; pass over the rest."""
        self.pieces.extend(value for value in values if isinstance(value, str) and value)


def most_tokens(text: str) -> int:
    """Tokens that a text cannot have more of: no vocabulary has a token of less than a byte."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def texts_of(api: Api, fields: Mapping[str, Any]) -> Texts:
    """What of a request counts as input.

    :param fields: the request body, its values decoded or :class:`msgspec.Raw`.
    """
    texts = Texts()
    request = _Request(fields)
    _READERS[api](request, texts)
    return texts


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """A chat message as nearly all are; of any other more may count."""

    role: Any = None
    content: str | None = None


_decode_messages: Final = msgspec.json.Decoder(list[_Message]).decode


class _Request:
    """The fields of a body, decoded when they are asked for."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def has_any(self, names: Iterable[str]) -> bool:
        return not self._fields.keys().isdisjoint(names)

    def messages(self) -> list[_Message] | None:
        """All messages, if they say nothing but their text."""
        value = self._fields.get("messages")
        try:
            return _decode_messages(value) if isinstance(value, msgspec.Raw) else None
        except (msgspec.DecodeError, RecursionError):
            return None

    def get(self, name: str) -> Any:
        value = self._fields.get(name)
        if not isinstance(value, msgspec.Raw):
            return value
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return bytes(value).decode(errors="replace")

    @property
    def model(self) -> str:
        name = self.get("model")
        return name if isinstance(name, str) else ""


def _read_chat(request: _Request, texts: Texts) -> None:
    texts.overhead += _ANSWER_START
    messages = request.messages()
    if messages is None:
        _read_messages_of_any_kind(request, texts)
    else:
        texts.overhead += (_PER_MESSAGE + _ROLE) * len(messages)
        texts.pieces += [message.content for message in messages if message.content]
    if request.has_any(_CHAT_FORMS):
        _read_chat_forms(request, texts)


def _read_messages_of_any_kind(request: _Request, texts: Texts) -> None:
    for message in _objects(request.get("messages")):
        texts.overhead += _PER_MESSAGE + _ROLE
        _add_name(message, texts)
        _add_content(message.get("content"), texts, request.model)
        texts.add(message.get("refusal"))
        calls = [call.get("function") for call in _objects(message.get("tool_calls"))]
        for call in _objects([*calls, message.get("function_call")]):
            _add_call(call, texts)


def _read_chat_forms(request: _Request, texts: Texts) -> None:
    tools = [tool.get("function") for tool in _objects(request.get("tools"))]
    _add_tools([*_objects(tools), *_objects(request.get("functions"))], texts)
    _add_schema(_object(_object(request.get("response_format")).get("json_schema")), texts)


def _read_responses(request: _Request, texts: Texts) -> None:
    texts.overhead += _ANSWER_START
    instructions, given = request.get("instructions"), request.get("input")
    for text in (instructions, given):
        if isinstance(text, str) and text:
            texts.overhead += _PER_MESSAGE + _ROLE
            texts.add(text)
    for item in _objects(given):
        if "arguments" in item:
            _add_call(item, texts)
            continue
        texts.overhead += _PER_MESSAGE + _ROLE
        _add_content(item.get("content"), texts, request.model)
        _add_content(item.get("output"), texts, request.model)
        _add_content(item.get("summary"), texts, request.model)
    _add_tools([tool for tool in _objects(request.get("tools")) if tool.get("type") == "function"], texts)
    _add_schema(_object(_object(request.get("text")).get("format")), texts)


def _read_messages(request: _Request, texts: Texts) -> None:
    texts.overhead += _ANSWER_START
    system = request.get("system")
    if system:
        texts.overhead += _PER_MESSAGE
        _add_content(system, texts, request.model)
    for message in _objects(request.get("messages")):
        texts.overhead += _PER_MESSAGE + _ROLE
        _add_content(message.get("content"), texts, request.model)
    tools = list(_objects(request.get("tools")))
    texts.overhead += _CLAUDE_TOOLS if tools else 0
    for tool in tools:
        texts.add(tool.get("name"), tool.get("description"), _json(tool.get("input_schema")))


def _read_completion(request: _Request, texts: Texts) -> None:
    _add_prompt(request.get("prompt"), texts)
    texts.add(request.get("suffix"))


def _read_embeddings(request: _Request, texts: Texts) -> None:
    _add_prompt(request.get("input"), texts)


_READERS: Final[dict[Api, Callable[[_Request, Texts], None]]] = {
    "chat": _read_chat,
    "completions": _read_completion,
    "responses": _read_responses,
    "messages": _read_messages,
    "embeddings": _read_embeddings,
}


def _add_prompt(prompt: Any, texts: Texts) -> None:
    """A text, token ids, or a list of either."""
    for part in prompt if isinstance(prompt, list) else [prompt]:
        if isinstance(part, list):
            texts.overhead += sum(isinstance(number, int) for number in part)
        elif isinstance(part, int):
            texts.overhead += 1
        else:
            texts.add(part)


def _add_name(message: Mapping[str, Any], texts: Texts) -> None:
    if isinstance(message.get("name"), str):
        texts.overhead += _NAME
        texts.add(message["name"])


def _add_content(content: Any, texts: Texts, model: str, depth: int = 0) -> None:
    """A text, or a list of parts as any of the APIs calls them."""
    texts.add(content)
    for part in _objects(content):
        kind = part.get("type")
        if kind in ("image_url", "input_image"):
            _add_image(part, texts, model)
        elif kind == "image":
            data = _object(part.get("source")).get("data")
            texts.overhead += claude_image_tokens(data if isinstance(data, str) else "")
        elif kind == "tool_use":
            texts.overhead += _PER_CALL
            texts.add(part.get("name"), _json(part.get("input")))
        else:
            texts.add(part.get("text"), part.get("refusal"))
            # A tool's result is content again; only a hostile one goes on for ever.
            if depth < _DEEPEST:
                _add_content(part.get("content"), texts, model, depth + 1)


def _add_image(part: Mapping[str, Any], texts: Texts, model: str) -> None:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    detail = image.get("detail") if isinstance(image, dict) else part.get("detail")
    texts.overhead += image_tokens(model, url if isinstance(url, str) else "", "low" if detail == "low" else "auto")


def _add_call(call: Mapping[str, Any], texts: Texts) -> None:
    texts.overhead += _PER_CALL
    texts.add(call.get("name"), call.get("arguments"))


def _add_tools(tools: list[Mapping[str, Any]], texts: Texts) -> None:
    for tool in tools:
        texts.overhead += _PER_TOOL
        texts.add(f"{tool.get('name') or ''}:{_description(tool)}")
        _add_properties(_object(tool.get("parameters")), texts)
    texts.overhead += _TOOLS_END if tools else 0


def _add_properties(schema: Mapping[str, Any], texts: Texts, depth: int = 0) -> None:
    properties = _object(schema.get("properties"))
    texts.overhead += _PER_OBJECT if properties else 0
    for name, value in properties.items():
        about = _object(value)
        texts.overhead += _PER_PROPERTY
        choices = about.get("enum")
        if isinstance(choices, list):
            texts.overhead += _ENUM + _PER_ENUM_VALUE * len(choices)
            texts.add(*map(str, choices))
        texts.add(f"{name}:{about.get('type') or ''}:{_description(about)}")
        for nested in (about, _object(about.get("items"))):
            if depth < _DEEPEST:
                _add_properties(nested, texts, depth + 1)
            else:
                texts.add(_json(nested))


def _add_schema(form: Mapping[str, Any], texts: Texts) -> None:
    """The schema an answer must follow is shown to the model as text."""
    if isinstance(form.get("schema"), dict):
        texts.add(form.get("name"), form.get("description"), _json(form["schema"]))


def _description(about: Mapping[str, Any]) -> str:
    text = about.get("description")
    return text.removesuffix(".") if isinstance(text, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(values: Any) -> Iterator[Mapping[str, Any]]:
    return (value for value in values if isinstance(value, dict)) if isinstance(values, list) else iter(())


def _json(value: Any) -> str:
    if value is None:
        return ""
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""
