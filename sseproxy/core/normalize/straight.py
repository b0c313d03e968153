"""The straight way: a stream that is canonical already passes, and no transform is ever set up for it.

What most upstreams send is a chunk with the role, chunks of text, one with the finish, one with usage, ``[DONE]``. Each
is read strictly here, and handed out as the transforms would hand it out. With the first thing that is anything else
the stream takes the long way for good: what would have left traces in the transforms by then, a handful of chunks
however long the stream, is replayed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, Final

import msgspec

from sseproxy.core.chunk import rewrite, write_json
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.normalize.end import PATIENCE
from sseproxy.core.normalize.finish import REASONS
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.plain_usage import plain_usage
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import tidy_usage, usage_of

__all__ = ["go_straight"]

Transforms = Callable[[Iterator[Event]], Iterator[Event]]

_decode: Final = msgspec.json.Decoder().decode
_OBJECT: Final = "chat.completion.chunk"
_MOST: Final = 2**53
# Fields in which no transform looks for more than is looked for here.
_FIELDS: Final = frozenset(
    ("id", "object", "created", "model", "choices", "usage", "obfuscation", "system_fingerprint", "service_tier")
)
_OF_CHOICE: Final = frozenset(("index", "delta", "logprobs", "finish_reason", "stop_reason", "matched_stop"))
_OF_DELTA: Final[tuple[list[str], ...]] = (["content"], [])


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
        self._identity: tuple[str, int, str] | None = None
        self._first = ""  # text
        self._texts = 0

    def read(self, event: Event) -> Event | None:
        """Return what becomes of a chunk that is canonical, None for any other."""
        body = _body(event)
        choice = None if body is None or body.pop("usage", None) is not None else _choice(body)
        if body is None or choice is None:
            return None
        delta, finish, identity = choice["delta"], choice.get("finish_reason", ""), _identity(body)
        names = [*delta]
        if self._identity is None:
            if identity is None or names[:1] != ["role"] or type(delta["role"]) is not str or not delta["role"]:
                return None
            del names[0]
        elif identity != self._identity:
            return None
        text = delta.get("content", "")
        if names not in _OF_DELTA or type(text) is not str:
            return None
        if finish is None:
            return self._say(event.data, body, text, identity)
        if self._identity is None or text or choice.get("logprobs") is not None or finish not in REASONS:
            return None
        return self._finish(event.data, body, choice)

    def _say(self, data: bytes, body: dict[str, Any], text: str, identity: tuple[str, int, str] | None) -> Event | None:
        if self._texts == 1 and text != self._first and text.startswith(self._first):
            return None  # perhaps every text will repeat those before
        if self._identity is None or (text and self._texts < 2):
            self._leave(data)
        passed = Event(rewrite(data, body), "", None, None, True, text)
        if text and self._texts > 0:
            self._shapes.learn(data, passed)
        self._first = self._first or text
        self._texts += text != ""
        self._shapes.sent += len(text)
        self._identity = identity
        return passed

    def _finish(self, data: bytes, body: dict[str, Any], choice: dict[str, Any]) -> Event:
        self._leave(data)
        self._shapes.forget()
        begin = {"index": 0, "delta": {}}
        if "logprobs" in choice:
            begin["logprobs"] = None
        body["choices"] = [{**begin, **choice, "delta": {}}]
        return Event(rewrite(data, body), "", None, None, True, "", "", None, choice["finish_reason"])

    def usage(self, event: Event, fold: bool) -> Event | None:
        """Return what becomes of a chunk with usage and nothing else, None for any other."""
        body = _body(event)
        if body is None or body.get("choices") != [] or _identity(body) != self._identity:
            return None
        given = body.pop("usage", None)
        if type(given) is not dict:
            return None
        usage = plain_usage(given)
        if usage is None:
            given = tidy_usage(given, fold=fold)
            if given is None:
                return None
            usage = usage_of(given)
        self.traces.append(event.data)
        body["usage"] = given
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


def _body(event: Event) -> dict[str, Any] | None:
    """Return the object in an event if it has no unusual field, and no padding any more."""
    if event.type or event.error is not None:
        return None
    try:
        body = _decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if type(body) is not dict or not body.keys() <= _FIELDS:
        return None
    body.pop("obfuscation", None)
    return body


def _identity(body: dict[str, Any]) -> tuple[str, int, str] | None:
    id, created, model = body.get("id"), body.get("created"), body.get("model")
    if type(id) is not str or type(model) is not str or type(created) is not int or body.get("object") != _OBJECT:
        return None
    return (id, created, model) if id and model and 0 < created < _MOST else None


def _choice(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the only choice if it has no unusual field, with a delta without nulls."""
    choices = body.get("choices")
    choice = choices[0] if type(choices) is list and len(choices) == 1 else None
    if type(choice) is not dict or not choice.keys() <= _OF_CHOICE:
        return None
    index, delta, finish = choice.get("index"), choice.get("delta"), choice.get("finish_reason", "")
    if (
        type(index) is not int
        or index != 0
        or type(delta) is not dict
        or (finish is not None and type(finish) is not str)
    ):
        return None
    if None in delta.values():
        choice["delta"] = {name: value for name, value in delta.items() if value is not None}
    return choice
