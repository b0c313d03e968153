"""The straight way: a stream that is canonical already passes, and no transform is ever set up for it.

What most upstreams send is a chunk with the role, chunks of text, one with the finish, one with usage, ``[DONE]``. Each
is read strictly here, and handed out as the transforms would hand it out. With the first thing that is anything else
the stream takes the long way for good: what would have left traces in the transforms by then, a handful of chunks
however long the stream, is replayed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sseproxy.core.chunk import guard, write_json
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.normalize.end import PATIENCE
from sseproxy.core.normalize.finish import Reason
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.normalize.usage_alone import read_usage_alone
from sseproxy.core.normalize.usual import Usual
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event

__all__ = ["go_straight"]

Transforms = Callable[[Iterator[Event]], Iterator[Event]]

_decode: Final = msgspec.json.Decoder().decode


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Of a chunk with one answer; its delta holds texts alone. Fields of any type are those that no transform reads."""

    index: Literal[0]
    delta: dict[str, str | None]
    finish_reason: Reason | None
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


class _TextBody(_Body, kw_only=True, forbid_unknown_fields=True):
    choices: tuple[_Choice]
    usage: UnsetType | None = UNSET


class _Choices(msgspec.Struct):
    choices: tuple[dict[str, Any]]


_read_text: Final = msgspec.json.Decoder(_TextBody).decode
_read_choices: Final = msgspec.json.Decoder(_Choices).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


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
    for event in events:
        if event is FLUSH:
            yield event
            continue
        # Neither a failure nor silence of either kind has the shape of a chunk, nor can be read as one.
        # Most plain chunks go around this: the end is asked for first.
        if shapes.last is None or (passed := answer.end(event) or shapes.match(event.data)) is None:
            passed = answer.read(event)
            if passed is None:
                if event is IDLE or event is HEARTBEAT:
                    continue
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
            answer.held.append(DONE)
        elif usage is not None or done or (usage := answer.usage(event, fold)) is None:
            yield from answer.resume(chain((event,), events), transforms, reads)
            return
    if usage is not None:
        yield usage
    yield Event(DONE, read=True)


class _Answer:
    """An answer that has been canonical so far.

    :ivar held: what came after the finish.
    """

    _identity: tuple[str, int, str] | None = None  # of all chunks
    _usual: Usual | None = None
    _first, _texts = "", 0  # the first text, and how many have been

    def __init__(self, shapes: Shapes) -> None:
        self.held: list[bytes] = []
        self._traces: list[bytes] = []  # the chunks that have left traces in the transforms, all passed on
        self._shapes = shapes

    def read(self, event: Event) -> Event | None:
        """Return what becomes of a chunk that is canonical, None for any other."""
        data, usual = event.data, self._usual
        if usual is None or event.type:
            return self._read(event)
        if self._texts < 2 and (passed := usual.event(data)) is not None:
            return self._say(data, passed, usual)
        return self.end(event) or self._read(event)

    def end(self, event: Event) -> Event | None:
        """Return what becomes of a chunk with the finish in the usual writing, None for any other."""
        data, usual = event.data, self._usual
        if usual is None or event.type or (reason := usual.finish_of(data)) is None:
            return None
        return self._finish(data, data, reason)

    def _read(self, event: Event) -> Event | None:
        data = event.data
        try:
            body = _read_text(data)
        except _UNREADABLE:
            return None
        identity = (body.id, body.created, body.model)
        begins = self._identity is None
        if event.type or not (begins or identity == self._identity):
            return None
        is_clean = (
            body.obfuscation is UNSET
            and body.usage is UNSET
            and (data[0] == 123 and data[-1] == 125 and 10 not in data and 13 not in data)  # the object alone, one line
        )
        if begins and is_clean and (usual := Usual.of(data)) is not None and guard(data) == data:
            self._identity, self._usual = identity, usual
            self._traces.append(data)
            return Event(data, "", None, None, True)
        (choice,) = body.choices
        delta, reason = choice.delta, choice.finish_reason
        if begins and (reason is not None or not _takes_role(delta)):
            return None
        text = delta.pop("content", "")
        if delta and {*delta.values()} != {None}:
            return None
        is_clean = is_clean and not (delta or text is None)
        if reason is not None:
            return None if text or choice.logprobs is not None else self._finish(data, _ended(data, is_clean), reason)
        passed = Event(guard(data) if is_clean else _cleaned(data), "", None, None, True, text or "")
        if begins:
            self._identity = identity
            if not text:
                self._traces.append(data)
        return self._say(data, passed)

    def _say(self, data: bytes, passed: Event, usual: Usual | None = None) -> Event | None:
        text, before = passed.content, self._texts
        if not text:
            return passed
        if before == 0:
            self._first = text
            if usual is not None and "/" not in text:  # which has two ways to be written
                self._shapes.add(usual.shape(self._goes_on, write_json(text)[:-1]))
        elif before == 1 and self._may_repeat(text):
            return None
        elif usual is not None:
            self._shapes.add(usual.shape())
        else:
            self._shapes.remember(text, data, passed.data, _texts_in)
        if before < 2:
            self._traces.append(data)
        self._texts = before + 1
        self._shapes.sent += len(text)
        return passed

    def _may_repeat(self, second: str) -> bool:
        """Whether perhaps every text will repeat those before."""
        return second != self._first and second.startswith(self._first)

    def _goes_on(self, text: str) -> bool:
        """Whether the text that came second, in the usual writing, may go around this; those behind it may then."""
        shape, usual = self._shapes.last, self._usual
        assert shape is not None and usual is not None
        if self._texts == 1:
            if self._may_repeat(text):
                return False
            self._traces.append(usual.chunk(text))
            self._texts = 2
        shape.watch, shape.unlike = None, b""
        return True

    def _finish(self, data: bytes, ended: bytes, reason: str) -> Event:
        self._traces.append(data)
        self._shapes.forget()
        return Event(ended, "", None, None, True, "", "", None, reason)

    def usage(self, event: Event, fold: bool) -> Event | None:
        """Return what becomes of a chunk with usage and nothing else, None for any other."""
        passed = None if event.type else read_usage_alone(event.data, self._identity, fold=fold)
        if passed is not None:
            self.held.append(event.data)
        return passed

    def resume(self, events: Iterator[Event], transforms: Transforms, reads: int = 0) -> Iterator[Event]:
        """Return what becomes of the rest of the stream on the long way.

        :param reads: how many have been since the end mark.
        """
        if self._texts == 1:
            self._shapes.forget()  # what waits for the second text
        known = self._shapes.lay_by()
        before = map(Event, (*self._traces, *self.held))
        rest = shorten(chain(before, repeat(FLUSH, reads), events), self._shapes, transforms)
        for _ in range(len(self._traces) + reads):
            next(rest)
        self._shapes.take_up(known)
        return rest


def _takes_role(delta: dict[str, str | None]) -> bool:
    """Take the role out of the first delta; False if that is not as it should be."""
    names = [name for name, value in delta.items() if value is not None]
    return names in (["role"], ["role", "content"]) and bool(delta.pop("role"))


def _texts_in(data: bytes) -> tuple[str, str]:
    """Return what a canonical chunk says, as :func:`~sseproxy.core.chunk.text_of` does.

    :raises msgspec.DecodeError: there is none.
    """
    return _read_text(data).choices[0].delta.get("content") or "", ""


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
    (choice,) = _read_choices(data).choices
    first, second, third, *_ = choice
    is_ordered = first == "index" and second == "delta" and (third == "logprobs" or "logprobs" not in choice)
    if is_clean and is_ordered and not choice["delta"]:
        return guard(data)
    body = _without_padding(data)
    begin = {"index": 0, "delta": {}, "logprobs": None} if "logprobs" in choice else {"index": 0, "delta": {}}
    body["choices"] = [{**begin, **choice, "delta": {}}]
    return write_json(body)


def _without_padding(data: bytes) -> dict[str, Any]:
    body: dict[str, Any] = _decode(data)
    body.pop("obfuscation", None)
    body.pop("usage", None)
    return body
