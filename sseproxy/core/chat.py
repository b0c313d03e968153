"""What a client asks: the request body of each API, read as far as the proxy needs and no further.

Every field the proxy does not touch is kept as the bytes the client sent (:class:`msgspec.Raw`), so big integers,
floats and key order reach the upstream unchanged. No I/O, no WSGI; prompt prefixes live in :mod:`sseproxy.core.prompt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from sseproxy.core.failure import Failure
from sseproxy.core.intricate import MOST_PARTS, is_intricate

Api = Literal["chat", "completions", "responses", "messages", "embeddings"]

API_PATHS: Final[dict[str, Api]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/embeddings": "embeddings",
}

TYPED: Final[frozenset[Api | None]] = frozenset(["responses", "messages"])
"""The APIs whose events name their types; SDKs and programs speak them, seldom pages."""

CONTENT_FIELDS: Final[dict[Api, str]] = {
    "chat": "messages",
    "completions": "prompt",
    "responses": "input",
    "messages": "messages",
    "embeddings": "input",
}

LONGEST_MODEL: Final = 256
"""Names are remembered, logged and stored."""

NULL: Final = msgspec.Raw(b"null")
_TRUE: Final = msgspec.Raw(b"true")
_ASKING: Final = msgspec.Raw(b'{"include_usage":true}')
_ALL_ASKING: Final = (_ASKING, msgspec.Raw(b'{"include_usage": true}'))
"""``stream_options`` as nearly all write them: JavaScript and the newer Pythons, then Python's ``json``."""
OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict")
_RELIED_ON: Final = frozenset(
    {"model", "instructions", "system", "stream", "stream_options", "n", *CONTENT_FIELDS.values(), *OUTPUT_LIMITS}
)
_USUAL: Final = _RELIED_ON | {"temperature", "top_p", "tools", "tool_choice", "response_format", "user"}
"""Names that need no second look, which takes longer than a first one at all of them."""
_OPTIONS_RELIED_ON: Final = frozenset(["include_usage"])

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]
MaybeFields: Final[Any] = Fields | None
Items = list[msgspec.Raw]
_number: Final = msgspec.json.Decoder(Decimal)
_MOST: Final = Decimal(2**53)
decoder_of: Final[Callable[[Any], msgspec.json.Decoder[Any]]] = cache(msgspec.json.Decoder)
"""The decoder of a type, made once: that takes longer than most of what is decoded here. For a struct it is to be made
when its module is imported: msgspec puts together what it knows of one without a lock, and two threads at that crash.
"""


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function | None = None


decoder_of(list[_Tool])


_HALF_A_PAIR: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""An escaped surrogate without its other half (RFC 8259 section 7), as a browser writes a text that it cut."""


def api_at(path: str) -> Api | None:
    """The API that a path belongs to, as ``/v1/messages/count_tokens`` does too."""
    return next((api for base, api in API_PATHS.items() if path == base or path.startswith(f"{base}/")), None)


class BadRequest(Failure):
    """The client's body cannot be accepted; says which field and what was expected."""

    def __init__(self, message: str, param: str | None = None, *, code: str | None = None, status: int = 400) -> None:
        super().__init__(message, status=status, type="invalid_request_error", code=code, param=param)


class Request(msgspec.Struct, frozen=True):
    """One request as the client meant it; changing it makes a new one.

    :ivar wants_usage: the client itself asked for a usage chunk.
    :ivar prompts: how many it has; the legacy API can be asked to complete several.
    :ivar prefix: the text the proxy put before each of the client's own, for separate counting.
    """

    api: Api
    fields: Fields
    model: str
    stream: bool
    wants_usage: bool
    choices: int
    prompts: int = 1
    prefix: str = ""

    @classmethod
    def parse(cls, api: Api, body: bytes) -> Request:
        """Read a request body.

        :raises BadRequest: not JSON, not an object, or a field the proxy relies on has the wrong type.
        """
        fields = read_object(body)
        if not _USUAL.issuperset(fields):
            refuse_other_spellings(fields, _RELIED_ON)
        model = read_field(fields, "model", str, "a string")
        if not model:
            raise BadRequest("The field 'model' is missing: name the model to use.", "model")
        if len(model) > LONGEST_MODEL or not model.isprintable():
            message = f"The field 'model' must be a name of at most {LONGEST_MODEL} printable characters."
            raise BadRequest(message, "model")
        required = CONTENT_FIELDS[api]
        content = fields.get(required, NULL)
        if content == NULL and api != "responses" and not (api == "embeddings" and "messages" in fields):
            raise BadRequest(f"The field '{required}' is missing.", required)
        if required == "messages" and not is_list(content):
            raise BadRequest("The field 'messages' must be a list of messages.", "messages")
        if api == "responses" and _is_true(fields, "background"):
            message = "The field 'background' must be false: what is generated later could not be metered here."
            raise BadRequest(message, "background")
        stream = "stream" in fields and _is_true(fields, "stream")
        prompts = _prompts(fields) if api == "completions" else 1
        return cls(
            api=api,
            fields=fields,
            model=model,
            stream=stream and api != "embeddings",  # which nobody streams, whatever was asked
            wants_usage="stream_options" in fields and _wants_usage(fields),
            choices=peek_count(fields, "n") * prompts if "n" in fields else prompts,
            prompts=prompts,
        )

    def encode(self) -> bytes:
        """The body to send on."""
        return msgspec.json.encode(self.fields)

    def with_field(self, name: str, value: Any) -> Request:
        """The same request with one field set, in its old place if it had one."""
        return replace(self, fields={**self.fields, name: as_raw(value)})

    def with_model(self, model: str) -> Request:
        """The same request for another model."""
        return self if model == self.model else replace(self.with_field("model", model), model=model)

    def asking_usage(self, ask: bool) -> Request:
        """The same request with ``stream_options.include_usage`` switched on or removed.

        Only chat and completions streams know the option; the others report usage unasked.
        """
        given = self.fields.get("stream_options")
        if not self.stream or self.api not in ("chat", "completions") or (ask and given in _ALL_ASKING):
            return self
        if given is None:
            return self.with_field("stream_options", _ASKING) if ask else self
        options = decoder_of(MaybeFields).decode(given) or {}
        if options.pop("include_usage", None) is None and not ask:
            return self
        if ask:
            options["include_usage"] = _TRUE
        if options:
            return self.with_field("stream_options", options)
        return replace(self, fields={name: raw for name, raw in self.fields.items() if name != "stream_options"})

    def tools(self) -> frozenset[str]:
        """The names of the functions that the model can call; none where they are not told as OpenAI does."""
        if "tools" not in self.fields:
            return frozenset()
        tools = peek_field(self.fields, "tools", list[_Tool]) or []
        return frozenset(tool.function.name for tool in tools if tool.function is not None)


def as_raw(value: Any) -> msgspec.Raw:
    """A JSON value as the bytes that will be sent."""
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(value))


def is_list(raw: msgspec.Raw) -> bool:
    """Whether a field holds a list. What stands in it was found to be JSON when the object was read."""
    return memoryview(raw)[0] == ord("[")


def read_field(fields: Fields, name: str, type: type[T], expected: str, where: str = "") -> T | None:
    """One field, or None if it is absent or null.

    :raises BadRequest: it has another type.
    """
    raw = fields.get(name, NULL)
    if raw == NULL:
        return None
    try:
        value: T = decoder_of(type).decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"The field '{where}{name}' must be {expected}.", where + name) from None
    return value


def peek_field(fields: Fields, name: str, type: type[T]) -> T | None:
    """One field if it is there and has this type, else None: for fields that are the upstream's to judge."""
    if name not in fields:
        return None
    try:
        return read_field(fields, name, type, "")
    except BadRequest:
        return None


def read_object(body: bytes) -> Fields:
    """The fields of a JSON object, none of them read.

    :raises BadRequest: it is none, or one of far too many parts.
    """
    if is_intricate(body):
        message = (
            f"The request body has more than {MOST_PARTS} objects, lists and named values, the most accepted here."
        )
        raise BadRequest(message)
    try:
        body.decode()  # what msgspec skips as raw it does not check
        fields: Fields = decoder_of(Fields).decode(body)
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 text (byte {error.start}); is it compressed?") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not valid JSON: {_reason(body, error)}.") from None
    return fields


def refuse_other_spellings(fields: Fields, names: frozenset[str], where: str = "") -> None:
    """Names are compared as they are written here; Go's ``encoding/json`` folds their case and takes the last of two.

    :raises BadRequest: a field has one of these names but for its case, so that an upstream may read another request.
    """
    for name in fields.keys() - names:
        if (meant := name.casefold()) in names:
            raise BadRequest(f"The field '{where}{name}' must be spelt '{where}{meant}'.", where + name)


def _reason(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "it is empty"
    if half := _HALF_A_PAIR.search(body):
        return f"{half[0].decode()} is half of a character (byte {half.start()}); JavaScript's toWellFormed() mends it"
    return str(error)


def _is_true(fields: Fields, name: str, where: str = "") -> bool:
    """:raises BadRequest: the field is neither true nor false nor null."""
    return fields.get(name) == _TRUE or bool(read_field(fields, name, bool, "true or false", where))


def _wants_usage(fields: Fields) -> bool:
    """:raises BadRequest: ``stream_options``, or the one that is read of them, have another type."""
    if fields["stream_options"] in _ALL_ASKING:
        return True
    options = read_field(fields, "stream_options", Fields, "an object")
    if options is None:
        return False
    refuse_other_spellings(options, _OPTIONS_RELIED_ON, "stream_options.")
    return _is_true(options, "include_usage", "stream_options.")


def peek_count(fields: Fields, name: str) -> int:
    """How many are asked for; one, if that is not said."""
    return peek_number(fields, name) or 1


def peek_number(fields: Fields, name: str) -> int:
    """A number from 1 on, as any upstream may read it: Pydantic takes ``5.0`` and ``" +5.0"``. Else 0."""
    try:
        number = _number.decode(fields.get(name, NULL))
    except msgspec.DecodeError:
        return 0
    return int(min(number, _MOST)) if number.is_finite() and number >= 1 else 0


def _prompts(fields: Fields) -> int:
    """How many prompts the legacy API is asked to complete: a list of texts, or of lists of tokens, is as many."""
    prompts = peek_field(fields, "prompt", list[msgspec.Raw])
    return len(prompts) if prompts and memoryview(prompts[0])[0] in b'"[' else 1
