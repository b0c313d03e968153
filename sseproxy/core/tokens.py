"""What of a request counts as input: its texts, and the fixed number of tokens its shape adds. Pure; tokenizes nothing.

Per message as in OpenAI's chat format:
https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken. What is of an unexpected type is passed over:
it is the upstream's to refuse. Nothing in here may raise, whatever a client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from sseproxy.core.chat import Api
from sseproxy.core.parts import add_call, add_content, add_rest
from sseproxy.core.texts import Texts, an_object, as_json, objects_in
from sseproxy.core.tools import add_functions, add_schema

_PER_MESSAGE: Final = 3
_ROLE: Final = 1
_NAME: Final = 1
_ANSWER_START: Final = 3
#: The system prompt that Anthropic adds when there are tools.
_CLAUDE_TOOLS: Final = 346
#: Fields of a chat request that say what its answer, or a call in it, is to look like.
_CHAT_FORMS: Final = ("tools", "functions", "response_format", "prediction")
#: What of a message or a tool is counted in its own way.
_OF_MESSAGE: Final = frozenset(("role", "name", "tool_calls", "function_call"))
_OF_CLAUDE_TOOL: Final = frozenset(("name", "description", "input_schema"))


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
    messages, model = request.get("messages"), request.model
    texts.add(messages)
    for message in objects_in(messages):
        texts.overhead += _PER_MESSAGE + _ROLE
        _add_name(message, texts)
        add_rest(message, _OF_MESSAGE, texts, model)
        for call in objects_in(message.get("tool_calls")):
            add_call(an_object(call.get("function")) or call, texts, model)
        if call := an_object(message.get("function_call")):
            add_call(call, texts, model)


def _read_chat_forms(request: _Request, texts: Texts) -> None:
    tools = list(objects_in(request.get("tools")))
    functions = [tool.get("function") for tool in tools]
    add_functions([*objects_in(functions), *objects_in(request.get("functions"))], texts)
    others = [tool for tool in tools if not isinstance(tool.get("function"), dict)]
    add_content([others, request.get("prediction")], texts, request.model)
    add_schema(an_object(an_object(request.get("response_format")).get("json_schema")), texts)


def _read_responses(request: _Request, texts: Texts) -> None:
    texts.overhead += _ANSWER_START
    model = request.model
    for given in (request.get("instructions"), request.get("input")):
        if isinstance(given, str) and given:
            texts.overhead += _PER_MESSAGE + _ROLE
            texts.add(given)
        for item in objects_in(given):
            _add_item(item, texts, model)
    tools = list(objects_in(request.get("tools")))
    add_functions([tool for tool in tools if tool.get("type") == "function"], texts)
    others = [tool for tool in tools if tool.get("type") != "function"]
    variables = an_object(an_object(request.get("prompt")).get("variables"))
    add_content([others, *variables.values()], texts, model)
    add_schema(an_object(an_object(request.get("text")).get("format")), texts)


def _add_item(item: Mapping[str, Any], texts: Texts, model: str) -> None:
    if "arguments" in item and item.get("type") in ("function_call", None):
        add_call(item, texts, model)
    else:
        texts.overhead += _PER_MESSAGE + _ROLE
        add_content(item, texts, model)


def _read_messages(request: _Request, texts: Texts) -> None:
    texts.overhead += _ANSWER_START
    system, messages, model = request.get("system"), request.get("messages"), request.model
    if system:
        texts.overhead += _PER_MESSAGE
        add_content(system, texts, model)
    texts.add(messages)
    for message in objects_in(messages):
        texts.overhead += _PER_MESSAGE + _ROLE
        add_rest(message, _OF_MESSAGE, texts, model)
    tools = list(objects_in(request.get("tools")))
    texts.overhead += _CLAUDE_TOOLS if tools else 0
    for tool in tools:
        texts.add(tool.get("name"), tool.get("description"), as_json(tool.get("input_schema")))
        add_rest(tool, _OF_CLAUDE_TOOL, texts, model)


def _read_completion(request: _Request, texts: Texts) -> None:
    _add_prompt(request.get("prompt"), texts, request.model)
    texts.add(request.get("suffix"))


def _read_embeddings(request: _Request, texts: Texts) -> None:
    _add_prompt(request.get("input"), texts, request.model)
    if request.has_any(("messages",)):  # vLLM's, which has a picture embedded so
        _read_messages_of_any_kind(request, texts)


_READERS: Final[dict[Api, Callable[[_Request, Texts], None]]] = {
    "chat": _read_chat,
    "completions": _read_completion,
    "responses": _read_responses,
    "messages": _read_messages,
    "embeddings": _read_embeddings,
}


def _add_prompt(prompt: Any, texts: Texts, model: str) -> None:
    """A text, token ids, or a list of either; for some embeddings, parts."""
    for part in prompt if isinstance(prompt, list) else [prompt]:
        if isinstance(part, list):
            texts.overhead += sum(isinstance(number, int) for number in part)
        elif isinstance(part, int):
            texts.overhead += 1
        else:
            add_content(part, texts, model)


def _add_name(message: Mapping[str, Any], texts: Texts) -> None:
    if isinstance(message.get("name"), str):
        texts.overhead += _NAME
        texts.add(message["name"])
