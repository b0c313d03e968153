"""One answer on the straight way, as far as it has come: each chunk read strictly, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

from sseproxy.core.chunk import UNREADABLE, UsageEvent, guard, write_json
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.normalize.strict import (
    Strict,
    cleaned,
    ended,
    is_tidy,
    parted,
    read_strictly,
    take_texts,
    takes_role,
    tells_usage_alone,
    texts_in,
    told_ahead,
)
from sseproxy.core.normalize.usage_alone import read_usage_alone
from sseproxy.core.normalize.usage_beside import UsageBeside, merged, usage_beside
from sseproxy.core.normalize.usual import Usual
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import FLUSH, Event
from sseproxy.core.usage import Usage

__all__ = ["Answer", "Transforms"]

Transforms = Callable[[Iterator[Event]], Iterator[Event]]


class _Texts:
    """Those of one kind: the first, and how many have been."""

    first = ""
    count = 0

    def may_repeat(self, second: str) -> bool:
        """Whether perhaps every text will repeat those before."""
        return self.count == 1 and second != self.first and second.startswith(self.first)


class Answer:
    """An answer that has been canonical so far.

    :ivar held: what came after the finish.
    :ivar has_ended: that has come.
    :ivar finish: the same, if it came with text: until the end more may follow.
    :ivar usage: what is known of it by then.
    """

    has_ended = False
    finish: Event | None = None
    usage: UsageEvent | None = None
    _own: dict[str, Any] | None = None  # the fields of all chunks that say whose they are
    _usual: Usual | None = None
    _stated: Usage | None = None  # as the meter knows it

    def __init__(self, shapes: Shapes, fold: bool) -> None:
        self._fold = fold
        self._visible, self._hidden = _Texts(), _Texts()
        self._ahead: list[bytes] = []  # what came before the first chunk, and what it says
        self._told: dict[str, Any] = {}
        self.held: list[bytes] = []
        self._traces: list[bytes] = []  # the chunks that have left traces in the transforms, all passed on
        self._shapes = shapes
        self._beside = UsageBeside(shapes, fold)

    def holds(self, event: Event) -> bool:
        """Whether an event is to be told with the first chunk."""
        if self._own is not None or self._ahead or event.type or (told := told_ahead(event.data)) is None:
            return False
        self._ahead.append(event.data)
        self._told = told
        return True

    def read(self, event: Event) -> Event | None:
        """Return what becomes of a chunk that is canonical, None for any other."""
        data, usual = event.data, self._usual
        if usual is None or event.type:
            return self._read(event)
        if self._visible.count < 2 and (passed := usual.event(data)) is not None:
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
            body = read_strictly(data)
        except UNREADABLE:
            return None
        (choice,) = body.choices
        if event.type or choice.says_more():
            return None
        is_clean = body.is_clean(data)
        own = {"id": body.id, "object": body.object, "created": body.created, "model": body.model}
        if self._own is None:
            is_plain = is_clean and not self._ahead and not body.says_usage()
            if is_plain and (usual := Usual.of(data)) is not None and guard(data) == data:
                self._own, self._usual = own, usual
                self._traces.append(data)
                return Event(data, "", None, None, True)
            return self._begin(data, body, own, is_clean)
        is_clean = is_clean and own == self._own
        delta = choice.delta
        is_clean = is_clean and "role" not in delta and is_tidy(delta)
        delta.pop("role", None)
        has_token = delta.get("token_id") is not None
        texts = take_texts(delta, ends=bool(choice.finish_reason))
        if texts is None:
            return None
        if choice.finish_reason:
            if choice.logprobs is not None:
                return None
            says_more = has_token or any(texts)
            return self._part(data, body, texts) if says_more else self._end(data, body, is_clean=is_clean)
        if not self._beside.take(data, body):
            return None
        passed = guard(data) if is_clean else cleaned(data, self._own, first=False)
        return self._say(data, Event(passed, "", None, None, True, *texts, self._beside.usage))

    def _begin(self, data: bytes, body: Strict, own: dict[str, Any], is_clean: bool) -> Event | None:
        (choice,) = body.choices
        delta = choice.delta
        is_clean = is_clean and not self._ahead and next(iter(delta), "") == "role" and is_tidy(delta)
        if choice.finish_reason or not takes_role(delta):
            return None
        texts = take_texts(delta)
        if texts is None or not self._beside.take(data, body):
            return None
        self._own = own
        told = guard(data) if is_clean else cleaned(data, own, first=True, told=self._told)
        passed = self._say(data, Event(told, "", None, None, True, *texts, self._beside.usage))
        if not any(texts):
            self._leave_trace(data)
        return passed

    def _end(self, data: bytes, body: Strict, *, is_clean: bool) -> Event | None:
        assert self._own is not None
        if not self._beside.take(data, body, ends=True):
            return None
        reason = body.choices[0].finish_reason
        assert reason
        passed = self._finish(data, ended(data, self._own, is_clean=is_clean), reason)
        passed.usage, self.usage = self._beside.usage, self._beside.last(self._own)
        self._stated = passed.usage or self._stated
        return passed

    def _part(self, data: bytes, body: Strict, texts: tuple[str, str]) -> Event | None:
        """What came with the finish, which is held."""
        content, hidden = texts
        repeats = (self._visible if content else self._hidden).may_repeat(content or hidden)
        if repeats or body.says_usage_elsewhere() or not self._beside.take(data, body):
            return None
        assert self._own is not None
        reason = body.choices[0].finish_reason
        assert reason
        said, end = parted(data, self._own)
        self.finish = self._finish(data, end, reason)
        self.finish.usage, self.usage = self._beside.usage, self._beside.last(self._own)
        self._shapes.sent += len(content)
        return Event(said, "", None, None, True, content, hidden)

    def _say(self, data: bytes, passed: Event, usual: Usual | None = None) -> Event | None:
        text = passed.content or passed.hidden
        texts = self._visible if passed.content else self._hidden
        if text and texts.may_repeat(text):
            return None
        if passed.usage is not None:
            self._usual = None
            self._shapes.forget()  # those without
            self._shapes.reported = data, passed.usage
            self._stated = passed.usage
        if not text:
            return passed
        if texts.count == 0:
            texts.first = text
            if usual is not None and "/" not in text:  # which has two ways to be written
                self._shapes.add(usual.shape(self._goes_on, write_json(text)[:-1]))
        elif usual is not None:
            self._shapes.add(usual.shape())
        else:
            self._shapes.remember(data, passed, texts_in, reads=self._beside.reads())
        if texts.count < 2:
            self._leave_trace(data)
        texts.count += 1
        self._shapes.sent += len(passed.content)
        return passed

    def _goes_on(self, text: str) -> bool:
        """Whether the text that came second, in the usual writing, may go around this; those behind it may then."""
        shape, usual = self._shapes.last, self._usual
        assert shape is not None and usual is not None
        if self._visible.count == 1:
            if self._visible.may_repeat(text):
                return False
            self._traces.append(usual.chunk(text))
            self._visible.count = 2
        shape.watch, shape.unlike = None, b""
        return True

    def _finish(self, data: bytes, end: bytes, reason: str) -> Event:
        self._leave_trace_of_usage()
        self._traces.append(data)
        self._shapes.forget()
        self.has_ended = True
        return Event(end, "", None, None, True, "", "", None, reason)

    def _leave_trace(self, data: bytes) -> None:
        self._traces.append(data)
        self._shapes.reported = None

    def _leave_trace_of_usage(self) -> None:
        if self._shapes.reported is not None:
            data, self._stated = self._shapes.reported
            self._leave_trace(data)

    def take_usage(self, event: Event, known: UsageEvent | None) -> UsageEvent | None:
        """Return what becomes of a chunk with usage and nothing else, None for any other.

        :param known: what has been. What came with the finish may be said again, and more beside it (vLLM, Groq).
        """
        if event.type or self._own is None:
            return None
        passed = read_usage_alone(event.data, self._own, fold=self._fold)
        if known is not None:
            passed = merged(passed, known) if passed is not None and known is self.usage else None
        elif passed is None and self.finish is None and tells_usage_alone(event.data, self._traces[-1]):
            passed = usage_beside(event.data, self._own, fold=self._fold)
        if passed is not None:
            self.held.append(event.data)
        return passed

    def resume(self, events: Iterator[Event], transforms: Transforms, reads: int = 0) -> Iterator[Event]:
        """Return what becomes of the rest of the stream on the long way.

        :param reads: how many have been since the end mark.
        """
        if self._visible.count == 1:
            self._shapes.forget()  # what waits for the second text
        self._leave_trace_of_usage()
        known = self._shapes.lay_by()
        before = map(Event, (*self._ahead, *self._traces, *self.held))
        rest = shorten(chain(before, repeat(FLUSH, reads), events), self._shapes, transforms)
        self._shapes.told = self._stated
        for _ in range(len(self._traces) + reads):
            next(rest)
        self._shapes.told = None
        self._shapes.take_up(known)
        return rest
