"""The straight way: a stream that is canonical already passes, and no transform is ever set up for it.

What most upstreams send is a chunk with the role, chunks of text, one with the finish, one with usage, ``[DONE]``. Each
is read strictly here, and handed out as the transforms would hand it out. With the first thing that is anything else
the stream takes the long way for good: what would have left traces in the transforms by then, a handful of chunks
however long the stream, is replayed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sseproxy.core.chunk import guard, write_json
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.normalize.end import PATIENCE
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.plain_usage import plain_usage
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import tidy_usage, usage_of

__all__ = ["go_straight"]

Transforms = Callable[[Iterator[Event]], Iterator[Event]]
_B = TypeVar("_B", bound="_Body")

_decode: Final = msgspec.json.Decoder().decode
_Reason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]  # as in ``finish``


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Of a chunk with one answer; its delta holds texts alone. Fields of any type are those that no transform reads."""

    index: Literal[0]
    delta: dict[str, str | None]
    finish_reason: _Reason | None
    logprobs: Any = None
    stop_reason: Any = None
    matched_stop: Any = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """Of any chunk, with every field in which no transform looks for more than is looked for here."""

    id: Annotated[str, Meta(min_length=1)]
    object: Literal["chat.completion.chunk"]
    created: Annotated[int, Meta(gt=0, lt=2**53)]
    model: Annotated[str, Meta(min_length=1)]
    system_fingerprint: Any = None
    service_tier: Any = None
    obfuscation: Any = UNSET

    def is_like(self, other: _Body) -> bool:
        """Whether both are of one answer."""
        return self.id == other.id and self.created == other.created and self.model == other.model


class _TextBody(_Body, kw_only=True, forbid_unknown_fields=True):
    choices: tuple[_Choice]
    usage: UnsetType | None = UNSET


class _UsageBody(_Body, kw_only=True, forbid_unknown_fields=True):
    choices: tuple[()]
    usage: dict[str, Any]


_read_text: Final = msgspec.json.Decoder(_TextBody).decode
_read_usage: Final = msgspec.json.Decoder(_UsageBody).decode


def go_straight(
    events: Iterator[Event], shapes: Shapes, transforms: Transforms, *, fold: bool = True
) -> Iterator[Event]:
    """Pass a chat stream of one answer while it is canonical, then :func:`shorten` its long way.

    :param shapes: knows plain chunks; learns them here as it does at the end of the long way.
    :param transforms: the long way.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    """
    events = iter(events)
    answer = _Answer(shapes)
    match = shapes.match
    for event in events:
        if event is FLUSH:
            yield event
            continue
        passed = match(event.data)  # neither a failure nor an idle tick has the shape of a chunk
        if passed is not None:
            yield passed
        elif event is not IDLE:
            passed = answer.read(event)
            if passed is None:
                events = chain((event,), events)
                break
            yield passed
            if passed.finish is not None:
                yield from _conclude(events, answer, transforms, fold)
                return
    yield from answer.resume(events, transforms)


def _conclude(events: Iterator[Event], answer: _Answer, transforms: Transforms, fold: bool) -> Iterator[Event]:
    """Hold usage and the end mark, as :func:`~sseproxy.core.normalize.end.conclude` does, until nothing follows."""
    usage: Event | None = None
    done = False
    reads = 0
    for event in events:
        if event is FLUSH:
            yield event
            reads += done
            if reads > PATIENCE:
                break
        elif event is IDLE and done:
            break
        elif event.data == DONE and not (event.type or done):
            done = True
            answer.traces.append(DONE)
        elif usage is not None or done or (usage := answer.usage(event, fold)) is None:
            yield from answer.resume(chain((event,), events), transforms, reads)
            return
    if usage is not None:
        yield usage
    yield Event(DONE, read=True)


class _Answer:
    """An answer that has been canonical so far.

    :ivar traces: what the transforms would remember of it.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.traces: list[bytes] = []
        self._passed = 0  # of these
        self._shapes = shapes
        self._begun: _Body | None = None  # the last chunk, whose identity is that of all
        self._first = ""  # text
        self._texts = 0

    def read(self, event: Event) -> Event | None:
        """Return what becomes of a chunk that is canonical, None for any other."""
        body, data = _read(_read_text, event), event.data
        if body is None or not (self._begun is None or body.is_like(self._begun)):
            return None
        (choice,) = body.choices
        delta = choice.delta
        has_nulls = None in delta.values()
        if has_nulls:
            delta = {name: value for name, value in delta.items() if value is not None}
        others = len(delta) - ("content" in delta)
        if self._begun is not None:
            if others:
                return None
        elif others != 1 or next(iter(delta)) != "role" or not delta["role"]:
            return None
        text = delta.get("content") or ""
        is_clean = not has_nulls and body.obfuscation is UNSET and body.usage is UNSET and _is_one_line(data)
        if choice.finish_reason is None:
            return self._say(data, body, text, is_clean)
        if self._begun is None or text or choice.logprobs is not None:
            return None
        return self._finish(data, choice.finish_reason, is_clean)

    def _say(self, data: bytes, body: _TextBody, text: str, is_clean: bool) -> Event | None:
        if self._texts == 1 and text != self._first and text.startswith(self._first):
            return None  # perhaps every text will repeat those before
        if self._begun is None or (text and self._texts < 2):
            self._leave(data)
        passed = Event(guard(data) if is_clean else _cleaned(data), "", None, None, True, text)
        if text:
            if self._texts > 0:
                self._shapes.learn(data, passed)
            self._first = self._first or text
            self._texts += 1
            self._shapes.sent += len(text)
        self._begun = body
        return passed

    def _finish(self, data: bytes, reason: str, is_clean: bool) -> Event:
        self._leave(data)
        self._shapes.forget()
        return Event(_ended(data, is_clean), "", None, None, True, "", "", None, reason)

    def usage(self, event: Event, fold: bool) -> Event | None:
        """Return what becomes of a chunk with usage and nothing else, None for any other."""
        read = _read(_read_usage, event)
        if read is None or self._begun is None or not read.is_like(self._begun):
            return None
        usage, given = plain_usage(read.usage), read.usage
        if usage is None:
            tidy = tidy_usage(read.usage, fold=fold)
            if tidy is None:
                return None
            usage, given = usage_of(tidy), tidy
        self.traces.append(event.data)
        body = {**_without_padding(event.data), "usage": given}
        return Event(write_json(body), "", None, None, True, "", "", usage)

    def _leave(self, data: bytes) -> None:
        self.traces.append(data)
        self._passed += 1

    def resume(self, events: Iterator[Event], transforms: Transforms, reads: int = 0) -> Iterator[Event]:
        """Return what becomes of the rest of the stream on the long way.

        :param reads: how many have been since the end mark.
        """
        known = self._shapes.lay_by()
        rest = shorten(chain(map(Event, self.traces), repeat(FLUSH, reads), events), self._shapes, transforms)
        for _ in range(self._passed + reads):
            next(rest)
        self._shapes.take_up(known)
        return rest


def _read(decode: Callable[[bytes], _B], event: Event) -> _B | None:
    if event.type or event.error is not None:
        return None
    try:
        return decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_one_line(data: bytes) -> bool:
    """Whether the bytes that an object came in are nothing but the object, and no line end is among them."""
    return data[:1] == b"{" and data[-1:] == b"}" and data.find(b"\n") < 0 and data.find(b"\r") < 0


def _cleaned(data: bytes) -> bytes:
    """Return a chunk without padding, nulls in its delta, and usage that is null."""
    body = _without_padding(data)
    (choice,) = body["choices"]
    choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
    return write_json(body)


def _ended(data: bytes, is_clean: bool) -> bytes:
    """Return the chunk with the finish with nothing in its delta.

    :param is_clean: the chunk needs no generosity, and :func:`_cleaned` would leave nothing out of it.
    """
    body = _without_padding(data)
    (choice,) = body["choices"]
    begin = {"index": 0, "delta": {}, "logprobs": None} if "logprobs" in choice else {"index": 0, "delta": {}}
    ended = {**begin, **choice, "delta": {}}
    if is_clean and not choice["delta"] and [*ended] == [*choice]:
        return guard(data)
    body["choices"] = [ended]
    return write_json(body)


def _without_padding(data: bytes) -> dict[str, Any]:
    body: dict[str, Any] = _decode(data)
    body.pop("obfuscation", None)
    body.pop("usage", None)
    return body
