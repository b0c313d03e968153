"""One chunk of a streamed answer between the transforms: its JSON, read once and written once.

Also the shortcut that makes plain chunks cheap (:class:`Shapes`). Nothing here knows a vendor.
Specification: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sseproxy.core.sse import Event

if TYPE_CHECKING:
    from sseproxy.core.failure import Failure

__all__ = ["Chunk", "Shapes", "error_event", "guard", "read_json", "rewrite", "text_of", "write_json"]

_decode: Final = msgspec.json.Decoder().decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode
_COLON: Final = 58
_PADDING: Final = b',"obfuscation":"'


class Chunk(Event):
    """An event whose JSON object the transforms work on; `data` keeps the bytes it came as until it is sealed.

    :param body: the object.
    :param steady: another chunk that differs in nothing but its text would be treated alike. A transform sets it to
        False on every chunk that meets or leaves behind other state than such a chunk would.
    :param sure: a finish in it stood alone, as OpenAI sends it. One that came with text may be said of every chunk.
    """

    body: dict[str, Any] = msgspec.field(default_factory=dict)
    steady: bool = True
    sure: bool = True


def read_json(data: bytes | str) -> Any:
    """Read JSON as servers write it: lone surrogates, raw control characters and NaN (read as null) too.

    :raises ValueError: not JSON by any reading.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(data, strict=False, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_json(value: Any) -> bytes:
    """Write compact JSON on one line that survives naive readers, see :func:`guard`."""
    try:
        return guard(_encode(value))
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
        return guard(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode())


def rewrite(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """Return `body` as JSON: in the bytes it came in, `raw`, if these say the same, need no generosity and one line."""
    data = write_json(body)
    if raw != data and raw[:1] == b"{" and raw[-1:] == b"}" and len(raw.splitlines()) == 1:
        try:
            same = _decode(raw)
            if same == body and write_json(same) == data:  # the bytes tell 1 from 1.0 and know the order
                return guard(raw)
        except (msgspec.DecodeError, RecursionError):
            pass
    return data


def guard(data: bytes) -> bytes:
    r"""Escape what hand-written readers split at: ``data: `` inside strings, and U+0085, U+2028, U+2029.

    Valid JSON holds neither outside of strings, so its value stays the same.
    """
    if data.find(b"data: ") >= 0:
        data = data.replace(b"data: ", b"data:\\u0020")
    if not data.isascii():
        data = data.replace(b"\xc2\x85", b"\\u0085").replace(b"\xe2\x80\xa8", b"\\u2028")
        data = data.replace(b"\xe2\x80\xa9", b"\\u2029")
    return data


def error_event(failure: Failure) -> Event:
    """Return the event that tells a client of `failure`."""
    return Event(data=write_json(failure.as_json()), read=True, error=failure)


def text_of(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a chunk adds to the answer: visible text, and other billed output. Mirrored text counts once."""
    content: list[str] = []
    hidden: list[str] = []
    for choice in body["choices"]:
        if isinstance(text := choice.get("text"), str):
            content.append(text)
        delta = choice.get("delta")
        if not delta or not isinstance(delta, dict):
            continue
        if isinstance(text := delta.get("content"), str):
            content.append(text)
        for name in ("reasoning_content", "refusal"):
            if isinstance(text := delta.get(name), str):
                hidden.append(text)
        if "tool_calls" in delta or "function_call" in delta:
            hidden += _calls_texts(delta)
    return "".join(content), "".join(hidden)


def _calls_texts(delta: Mapping[str, Any]) -> Iterator[str]:
    given = delta.get("tool_calls")
    calls = [_call_texts(call) for call in given] if isinstance(given, list) else []
    if "function_call" in delta and (old := _call_texts({"function": delta["function_call"]})) not in calls:
        calls.append(old)
    return chain.from_iterable(calls)


def _call_texts(call: Any) -> list[str]:
    function = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return []
    return [text for name in ("name", "arguments", "input") if isinstance(text := function.get(name), str)]


class Shapes:
    """Remembers how plain chunks looked and what became of them: head, one text, tail.

    Once a chunk of this very head and tail went all the way through the transforms and came out as one chunk around
    the same text, the next one needs neither parser nor transforms. That its middle is one JSON string, no more, is
    checked every time; whatever else it could be goes the long way.

    :ivar paused: nothing matches at present.
    :ivar sent: characters of visible text so far.
    :param most: shapes kept, the oldest gives way; learning stops when this many times as many never came again.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._shapes: list[_Shape] = []
        self._last: _Shape | None = None
        self.paused = False
        self.sent = 0
        self._idle = 0

    def match(self, data: bytes) -> Event | None:
        """Return the finished event for `data` if its shape is known."""
        shape = self._last
        if shape is None or (middle := shape.middle(data)) is None:
            shape = self._find(data)
            if shape is None or (middle := shape.middle(data)) is None:
                return None
        try:
            text = _decode_text(middle)
        except msgspec.DecodeError:
            return None
        if not text:
            return None
        if not middle.isascii() or (_COLON in middle and middle.find(b"data: ") >= 0):
            data = shape.out_head + guard(middle) + shape.out_tail
        elif shape.changes:
            data = shape.out_head + middle + shape.out_tail
        if shape.hidden:
            return Event(data, "", None, None, True, "", text)
        self.sent += len(text)
        return Event(data, "", None, None, True, text)

    def _find(self, data: bytes) -> _Shape | None:
        if not self.paused:
            for shape in self._shapes:
                if shape.middle(data) is not None:
                    self._last = shape
                    self._idle = 0
                    return shape
        return None

    def pause(self) -> None:
        """Match nothing while a chunk is on its long way: it may leave other state behind."""
        self._last = None
        self.paused = True

    def forget(self) -> None:
        """Forget all shapes: the state they were learnt in has changed."""
        self._shapes.clear()
        self._last = None

    def lay_by(self) -> tuple[list[_Shape], int, int]:
        """Begin anew, and return all that is known by now, for :meth:`take_up`."""
        known = self._shapes, self.sent, self._idle
        self._shapes, self.sent, self._idle = [], 0, 0
        self._last = None
        return known

    def take_up(self, known: tuple[list[_Shape], int, int]) -> None:
        """Know what :meth:`lay_by` returned, and nothing else."""
        self._shapes, self.sent, self._idle = known
        self._last = None

    def learn(self, data: bytes, event: Event) -> None:
        """Take up matching after a steady chunk; remember that its bytes `data` became `event` around one text."""
        self.paused = False
        if self._idle > self._most * self._most:
            return
        text = event.content or event.hidden
        if not text or (event.content and event.hidden) or event.usage or event.finish:
            return
        cut = _cut(data, text)
        out = cut if event.data == data else _cut(event.data, text)
        if cut is None or out is None or (found := _probe(*cut)) is None or (out != cut and found != _probe(*out)):
            return
        if len(self._shapes) >= self._most:
            self._shapes.pop(0)
        self._idle += 1
        self._last = _Shape(*cut, *out, hidden=bool(event.hidden))
        self._shapes.append(self._last)


class _Shape:
    """What stands around the text in one kind of chunk, and around it in what the chunk becomes.

    OpenAI pads every chunk with random ``obfuscation`` that is not passed on; it alone may differ.
    """

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_head",
        "_padded",
        "_tail",
        "changes",
        "hidden",
        "out_head",
        "out_tail",
    )

    def __init__(self, head: bytes, tail: bytes, out_head: bytes, out_tail: bytes, *, hidden: bool) -> None:
        self.out_head, self.out_tail = out_head, out_tail
        self.changes = (head, tail) != (out_head, out_tail)
        self.hidden = hidden
        before, padding, after = tail.partition(_PADDING)
        self._padded = b""
        # The quotes of the text are looked for with what is around them: nothing else can stand there then.
        self._head, self._tail = head + b'"', b'"' + tail
        if padding and _PADDING not in after and b'"' in after and _PADDING[2:-3] not in out_tail:
            self._padded = b'"' + before + padding
            self._tail = after[after.index(b'"') :]
        self._before = slice(len(self._head))
        self._between = slice(len(head), -len(tail))
        self._after = slice(-len(self._tail), None)

    def middle(self, data: bytes) -> bytes | None:
        """Return the quoted text that stands where it should; None if the rest is not the same."""
        if data[self._before] != self._head or data[self._after] != self._tail:
            return None
        if not self._padded:
            return data[self._between]
        at = data.rfind(self._padded, len(self._head) - 1)
        if at < 0:
            return None
        padding = data[at + len(self._padded) : -len(self._tail)]
        return None if padding.find(b'"') >= 0 or padding.find(b"\\") >= 0 else data[len(self._head) - 1 : at + 1]


def _cut(data: bytes, text: str) -> tuple[bytes, bytes] | None:
    """Split JSON around its only string value `text`; None if there is not exactly one."""
    token = write_json(text)
    head, found, tail = data.partition(token)
    if not found or not tail or token in tail or head[-1:] != b":" or len(data.splitlines()) > 1:
        return None
    return head, tail


def _probe(head: bytes, tail: bytes) -> tuple[str, str] | None:
    """Put a mark between `head` and `tail`: it must be found where the text of the answer stands."""
    try:
        content, hidden = text_of(read_json(head + b'"\\u0001"' + tail))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return (content, hidden) if "\x01" in (content, hidden) else None
