"""The shapes of plain chunks, which makes them cheap: what is around the text stays, so only the text is looked at.

Once a chunk of some head and tail went all the way through the transforms and came out as one chunk around the same
text, the next one needs neither parser nor transforms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from sseproxy.core.chunk import read_json, text_of, write_json
from sseproxy.core.shape import Echo, ReadUsage, Shape
from sseproxy.core.sse import Event
from sseproxy.core.tokens import most_tokens
from sseproxy.core.usage import Usage
from sseproxy.core.varying import Varying

__all__ = ["Shapes"]

# The fields of a delta, and of what stands in it, that may say the same text: nothing else in a chunk goes by it.
_TEXTS: Final = tuple(
    b'"%b":' % name
    for name in (b"content", b"text", b"reasoning", b"reasoning_content", b"reasoning_text", b"thinking", b"summary")
)


class Shapes:
    """Remembers how plain chunks looked and what became of them: head, one text, tail.

    That a chunk's middle is one JSON string, no more, is checked every time; whatever else it could be goes the long
    way.

    :ivar last: the shape that matched last, if it still may.
    :ivar paused: nothing matches at present.
    :ivar sent: characters of visible text so far.
    :ivar reported: the chunk with usage that matched last, and that usage, of which the transforms do not know.
    :ivar told: the usage that the meter knows of chunks which the transforms are being told of.
    :param most: shapes kept, the oldest gives way; learning stops when this many times as many never came again.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._shapes: list[Shape] = []
        self.last: Shape | None = None
        self.paused = False
        self.sent = 0
        self.reported: tuple[bytes, Usage] | None = None
        self.told: Usage | None = None
        self._idle = 0

    def match(self, data: bytes, room: int | None = None) -> Event | None:
        """Return the finished event for `data` if its shape is known.

        :param room: the most tokens that it may have, all of the first choice.
        """
        shape = self.last
        if shape is None or (event := shape.event(data)) is None:
            shape = self._find(data)
            if shape is None or (event := shape.event(data)) is None:
                return None
        if room is not None and (
            shape.choice or shape.reads is not None or most_tokens(event.content) + most_tokens(event.hidden) > room
        ):
            return None
        if shape.watch is not None and not shape.watch(event.content or event.hidden):
            return None
        if event.usage is not None:
            self.reported = data, self.as_told(event.usage)
        self.sent += len(event.content)
        self._idle = 0
        return event

    def as_told(self, usage: Usage) -> Usage:
        """Return the same as the meter knows it: what it is handed again at the end is no further statement."""
        return self.told if self.told is not None and usage == self.told else usage

    def _find(self, data: bytes) -> Shape | None:
        if not self.paused:
            for shape in self._shapes:
                if shape is not self.last and shape.middle(data) is not None:
                    self.last = shape
                    return shape
        return None

    def pause(self) -> None:
        """Match nothing while a chunk is on its long way: it may leave other state behind."""
        self.last = None
        self.paused = True

    def forget(self) -> None:
        """Forget all shapes: the state they were learnt in has changed."""
        self._shapes.clear()
        self.last = None

    def lay_by(self) -> tuple[list[Shape], int, int]:
        """Begin anew, and return all that is known by now, for :meth:`take_up`."""
        known = self._shapes, self.sent, self._idle
        self._shapes, self.sent, self._idle = [], 0, 0
        self.last = None
        return known

    def take_up(self, known: tuple[list[Shape], int, int]) -> None:
        """Know what :meth:`lay_by` returned, and nothing else."""
        self._shapes, self.sent, self._idle = known
        self.last = None

    def learn(
        self,
        data: bytes,
        event: Event,
        watch: Callable[[str], bool] | None = None,
        reads: ReadUsage | None = None,
    ) -> None:
        """Take up matching after a steady chunk; remember that its bytes `data` became `event` around one text.

        A chunk with usage is all that is known while such come: what came last, usage or text, makes a difference.
        """
        self.paused = False
        known = self._find(data)
        if known is not None and (event.usage is None or known.usage(data) == event.usage):
            return
        if event.usage is not None:
            self.forget()
        text = event.content or event.hidden
        if text and not (event.content and event.hidden) and not event.finish and len(event.by_choice) < 2:
            self.remember(data, event, _texts_in, watch, reads)

    def remember(
        self,
        data: bytes,
        passed: Event,
        texts_in: Callable[[bytes], tuple[str, str]],
        watch: Callable[[str], bool] | None = None,
        reads: ReadUsage | None = None,
    ) -> None:
        """Remember that bytes became this event, of one text.

        :param texts_in: reads what a chunk says as it was read of this one.
        :param watch: as of :class:`Shape`, as is `reads`.
        """
        if self._idle > self._most * self._most:
            return
        text = passed.content or passed.hidden
        cut = _cut(data, text)
        out = cut if passed.data == data else _cut(passed.data, text)
        if cut is None or out is None:
            return
        found = _probe(cut, texts_in)
        if found is None or (out != cut and found != _probe(out, texts_in)):
            return
        hidden, ((choice, _),) = bool(passed.hidden), passed.by_choice or ((0, text),)
        if choice == 0 and watch is None and (varying := Varying.of(data, passed, cut, out, reads)) is not None:
            self.add(varying)
        elif passed.usage is None:
            is_alone = len(cut) == len(out) == 2
            self.add((Shape if is_alone else Echo)(cut, out, hidden=hidden, choice=choice, watch=watch))

    def add(self, shape: Shape) -> None:
        """Match what has this shape."""
        if len(self._shapes) >= self._most:
            self._shapes.pop(0)
        self._idle += 1
        self.last = shape
        self._shapes.append(shape)


def _cut(data: bytes, text: str) -> tuple[bytes, ...] | None:
    """Split JSON around the string value `text`; None if it is not the only one, nor one that says it again."""
    pieces = data.split(write_json(text))
    heads = [piece.rstrip(b" ") for piece in pieces[:-1]]
    if not heads or len(data.splitlines()) > 1 or not all(head.endswith(b":") for head in heads):
        return None
    return tuple(pieces) if len(heads) == 1 or all(head.endswith(_TEXTS) for head in heads) else None


def _probe(around: tuple[bytes, ...], texts_in: Callable[[bytes], tuple[str, str]]) -> tuple[bool, bool] | None:
    """Put a mark where the text stood: it must be found where the text of the answer stands, visible or not."""
    try:
        content, hidden = texts_in(b'"\\u0001"'.join(around))
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return ("\x01" in content, "\x01" in hidden) if "\x01" in content + hidden else None


def _texts_in(data: bytes) -> tuple[str, str]:
    return text_of(read_json(data))
