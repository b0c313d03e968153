"""The end of an answer: finishes, usage, ``[DONE]``, in this order and once; or one error and nothing after it.

A finish that stands alone after the answer's text passes at once, as every chunk does. Held until the answer is over
are any other finish, for text may follow it (some put one on every chunk), and usage, for more usage may. The answer is
over at the end of the body; or, where the upstream keeps the connection open (tests/wire: F18), after one idle tick if
all is known, after two if usage is still missing, and after a few heartbeats where these leave no room for a tick
(bifrost#6784): chunks that say nothing new are such too. No clock: a tick is what the reader of the body says it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Final

from sseproxy.core.chunk import ENVELOPE, Chunk, error_event, text_of
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.bodies import IDLE, Doubt, Lost
from sseproxy.core.normalize.envelope import Identity
from sseproxy.core.normalize.failures import invalid_stream, truncated
from sseproxy.core.normalize.suspicion import Suspicion
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event
from sseproxy.core.usage import TotalAlone, Usage
from sseproxy.core.usage_so_far import beginning_of

__all__ = ["HEARTBEATS", "HEARTBEATS_FOR_USAGE", "PATIENCE", "conclude"]

_ENVELOPE: Final = frozenset((*ENVELOPE, "choices"))

# Heartbeats, with nothing else between them, after which nothing more is to come of an answer that is over; of one
# whose usage is missing.
HEARTBEATS: Final = 3
HEARTBEATS_FOR_USAGE: Final = 10
# Reads after `[DONE]` that bring neither silence nor the end of the body.
PATIENCE: Final = 10_000


def conclude(events: Iterator[Event], identity: Identity, choices: int = 1, *, text: bool = False) -> Iterator[Event]:
    """End the stream by the book.

    :param identity: stamped on the chunks that are made here and by the transforms after the envelope's.
    :param choices: how many answers were asked for.
    :param text: legacy completions: finish chunks carry ``text``.
    """
    ending = _Ending(choices)
    for event in events:
        if type(event) is Chunk:
            if event.body["choices"] and "id" not in event.body:
                identity.stamp(event.body)
            if ending.take(event):
                yield event
        elif event is FLUSH:
            yield event
            if ending.done and ending.waited():
                break
        elif event is IDLE:
            if ending.idle():
                break
        elif event is HEARTBEAT or type(event) is Doubt:
            ending.beat()
            if type(event) is Doubt:
                ending.suspicion.take(event)
        elif event.error is not None and (ending.complete if type(event) is Lost else ending.done and ending.finished):
            break
        elif event.error is not None:
            event.usage = ending.stated()
            yield event
            return
        elif event.data == DONE:
            ending.done = True
        elif not ending.done:
            ending.ticks = 0
            yield event
        if ending.is_beaten:
            ending.take_usage_at_hand(events)
            break
    yield from ending.chunks(identity, text)


class _Ending:
    def __init__(self, choices: int) -> None:
        self.done = False
        self.usage: Chunk | None = None
        self.suspicion = Suspicion()
        self.ticks = self.beats = 0
        self._choices = choices
        self._open: dict[int, bool] = {}  # choices seen, and whether they made tool calls
        self._finishes: dict[int, Chunk] = {}
        self._passed: set[int] = set()
        self._told: dict[str, Any] = {}  # beside the choices
        self._has_output = False  # so far
        self._is_early = self._is_last = False  # the usage came before all output; at the end
        self._goes_on = False  # output came behind it
        self._untold: Usage | None = None  # a total, for which the meter has to know when it came
        self._reads = 0

    def take(self, event: Chunk) -> bool:
        """Look at a chunk; True if it is to be passed on, False if it is held or comes too late."""
        entries = event.body["choices"]
        if self._over or (self.usage is not None and event.usage is None and not self._goes_on):
            event.steady = False  # heartbeats are counted; the first output behind the usage is remembered
        if self._over and not self._is_news(event):
            self.beat()
        else:
            self.ticks = self.beats = 0
        if any(map(_says_something, entries)):
            self.suspicion.clear()
            is_told = self._goes_on if self.usage is not None else self._has_output
            if not (is_told or self.done) and any(text_of(event.body)):
                self._has_output, self._goes_on = True, self.usage is not None
        if not entries:
            self._take_usage(event)
            return False
        if self.done:
            return False
        if self._untold is not None:
            event.usage, self._untold = event.usage or self._untold, None
        tells = self._tells(event.body)
        for choice in entries:
            if choice["finish_reason"] is not None:
                return self._take_finish(choice, event, tells)
            delta = choice.get("delta") or {}
            self._open[choice["index"]] = self._open.get(choice["index"], False) or "tool_calls" in delta
        return not self._passed or tells or any(map(self._adds, entries))

    def take_usage_at_hand(self, events: Iterator[Event]) -> None:
        """Look for usage in what is left of the read that brought the last heartbeat: for this nobody has to wait."""
        for event in takewhile(lambda event: event is not FLUSH, events):
            if type(event) is Chunk and not event.body["choices"]:
                self._take_usage(event)

    def _take_usage(self, event: Chunk) -> None:
        """The last usage stands; what an earlier one came with is still true."""
        known = self.usage.body if self.usage is not None else {}
        further = {name: value for name, value in known.items() if name not in event.body and name not in _ENVELOPE}
        if further:
            usage = event.body.pop("usage")
            event.body.update(further, usage=usage)
        self.usage, self._goes_on = event, False
        self._is_early, self._is_last = not self._has_output, self._has_output and self._over
        if type(event.usage) is TotalAlone and self._has_output:
            self._untold = beginning_of(event.usage, said_before=True)

    def _is_news(self, event: Chunk) -> bool:
        """Whether a chunk says what none has said before it, be it beside its choices; a clock there is none."""
        entries = event.body["choices"]
        if not entries:
            return self.usage is None or event.usage != self.usage.usage
        if not (self.done or event.body.keys() <= _ENVELOPE | self._told.keys()):
            return True
        return any(_says_something(each) and not self._is_finish_of(each) for each in entries)

    def _is_finish_of(self, choice: dict[str, Any]) -> bool:
        """Whether a choice ends with just these words already, for certain: more may follow one that is held."""
        index = choice["index"]
        is_certain = self.done or index in self._passed
        return is_certain and index in self._finishes and self._finishes[index].body["choices"] == [choice]

    def _tells(self, body: dict[str, Any]) -> bool:
        """Whether a chunk says beside its choices what none has said before it."""
        new = [name for name in body if name not in _ENVELOPE and self._told.get(name) != body[name]]
        self._told.update((name, body[name]) for name in new)
        return bool(new)

    def _adds(self, choice: dict[str, Any]) -> bool:
        """Whether a chunk of this choice may still pass: after its finish only one that says something."""
        return choice["index"] not in self._passed or _says_something(choice)

    def _take_finish(self, choice: dict[str, Any], event: Chunk, tells: bool) -> bool:
        """Hold a finish, or let it pass; of one that comes again, only what it tells beside its choice."""
        index = choice["index"]
        if index in self._passed:
            if tells:
                event.body = {**event.body, "choices": [_without_finish(choice)]}
            return tells
        passes = event.sure and index in self._open and index not in self._finishes
        self._finishes[index] = event
        if passes:
            self._passed.add(index)
        return passes

    @property
    def finished(self) -> bool:
        """Every choice that was begun has its finish."""
        return bool(self._finishes) and all(index in self._finishes for index in self._open)

    @property
    def complete(self) -> bool:
        """The answer is whole: the upstream says so, or has finished every choice."""
        return self.done or self.finished

    def waited(self) -> bool:
        self._reads += 1
        return self._reads > PATIENCE

    def idle(self) -> bool:
        """Count a tick of silence; True if nothing more is to be waited for."""
        self.ticks += self._over
        return self.done or (self._over and self.usage is not None) or self.ticks >= 2

    def beat(self) -> None:
        """Count a heartbeat."""
        self.beats += self._over

    @property
    def is_beaten(self) -> bool:
        """Whether so many heartbeats came that nothing more is to be waited for."""
        return self.beats >= (HEARTBEATS if self.usage is not None else HEARTBEATS_FOR_USAGE)

    @property
    def _over(self) -> bool:
        return self.done or (self.finished and len(self._finishes) >= self._choices)

    def chunks(self, identity: Identity, text: bool) -> Iterator[Event]:
        doubt = self.suspicion.failure
        if not self._open and not self._finishes:
            nothing = (
                invalid_stream("an answer without any choices") if self.done or identity.strangers else truncated()
            )
            yield self._error(doubt if doubt is not None and identity.strangers else nothing)
            return
        if not self.complete or (doubt is not None and not self.finished):
            yield self._error(doubt or truncated())
            return
        for index, event in self._finishes.items():
            if index in self._passed:
                continue
            choice = event.body["choices"][0]
            if choice["finish_reason"] == "stop" and self._open.get(index):
                choice["finish_reason"] = "tool_calls"  # the calls came after their finish
            yield event
        for index, calling in self._open.items():
            if index not in self._finishes:
                yield _finish(identity, index, "tool_calls" if calling else "stop", text)
        if self.usage is not None:
            identity.stamp(self.usage.body)
            self.usage.usage = self.stated()
            yield self.usage
        yield Event(DONE, read=True)

    def stated(self) -> Usage | None:
        """The usage, as that of a beginning where output came behind it that had no end before."""
        stated = self.usage.usage if self.usage is not None else None
        if stated is not None and self._goes_on and not self._is_last:
            return beginning_of(stated, said_before=not self._is_early)
        return stated

    def _error(self, failure: Failure) -> Event:
        event = error_event(failure)
        event.usage = self.stated()
        return event


def _finish(identity: Identity, index: int, reason: str, text: bool) -> Chunk:
    choice: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": reason}
    if text:
        choice = {"text": "", "index": index, "logprobs": None, "finish_reason": reason}
    body: dict[str, Any] = {"choices": [choice]}
    identity.stamp(body)
    return Chunk(body=body, steady=False)


def _without_finish(choice: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"text": "", "logprobs": None} if "text" in choice else {"delta": {}}
    return {"index": choice["index"], **said, "finish_reason": None}


def _says_something(choice: dict[str, Any]) -> bool:
    """Whether any field of a choice or its delta holds something, beside its number."""
    values = (value for name, value in choice.items() if name not in ("index", "delta"))
    return any(value not in (None, "", [], {}) for value in (*values, *(choice.get("delta") or {}).values()))
