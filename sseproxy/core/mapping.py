"""Answers in an application's own shape: what they say, took and came from, read at declared paths.

Only reads: whatever the application sends passes byte for byte, and what is of another shape is passed over.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sseproxy.core.chat import LONGEST_MODEL, Request, as_raw
from sseproxy.core.chunk import read_json
from sseproxy.core.normalize import events_of
from sseproxy.core.normalize.compression import BrokenCompression, unzip
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import read_usage

Path = tuple[str, ...]
"""Names of fields from the outside in, and positions in lists."""
ITSELF: Final[Path] = (".",)
"""The path of text that stands in no field: the ``data`` of events, bare or a JSON string, or a body of text."""


@dataclass(frozen=True, slots=True)
class AnswerMapping:
    """Where an answer, or each object of a streamed one, has what the books want to know.

    :param usage: an object with token counts, by OpenAI's or another vendor's names; the last one counts.
    :param text: what was generated; of a stream, the pieces. May be :data:`ITSELF`.
    :param model: the name of the model that answered.
    """

    usage: Path = ()
    text: Path = ()
    model: Path = ()

    def read(
        self, pieces: Iterable[bytes], named: Callable[[str], object], *, whole: bool = False, bare: bool = False
    ) -> Iterator[Event]:
        """The pieces of a body as events of just these bytes, with what they carry; a document, event stream or lines.

        :param named: called with the model's name when it is read.
        :param whole: said to be one document: it is held back until its end, unless a second object makes it a stream.
        :param bare: said to be neither that nor a stream of events: text, where that may stand in no field.
        """
        tap = _Tap(pieces)
        yield from _read_text(tap) if bare and self.text == ITSELF else self._read_events(tap, named, whole)
        for piece in tap.rest():
            yield FLUSH
            yield Event(data=piece, read=True)

    def _read_events(self, tap: _Tap, named: Callable[[str], object], whole: bool) -> Iterator[Event]:
        objects = 0
        news = Event(read=True)
        for event in events_of(tap):
            if event is not FLUSH:
                objects += bool(event.data)
                whole = whole and objects < 2 and event.error is None
                self._add(event, news, named)
                continue
            if not whole:
                news.data = tap.take()
                if news.data or news.content or news.usage:
                    yield news
                    news = Event(read=True)
            yield FLUSH
        news.data = tap.take()
        yield news

    def _add(self, event: Event, news: Event, named: Callable[[str], object]) -> None:
        """Put to the news what an event says."""
        if event.error is not None or not event.data or event.data == DONE:
            return
        body = _value(event.data)
        if self.text == ITSELF and not isinstance(body, dict):
            news.content += body if isinstance(body, str) else event.data.decode(errors="replace")
            return
        text, usage, model = find(body, self.text), find(body, self.usage), find(body, self.model)
        if isinstance(text, str):
            news.content += text
        if isinstance(usage, dict):
            news.usage = read_usage({"usage": usage}) or news.usage
        if isinstance(model, str) and 0 < len(model) <= LONGEST_MODEL and model.isprintable():
            named(model)

    @staticmethod
    def as_request(body: bytes, model: str) -> Request:
        """The request as the books see it: a prompt of the body's text, for where no usage is reported.

        Nothing of a body that is no text is counted.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = ""
        return Request("completions", {"prompt": as_raw(text)}, model, stream=False, wants_usage=False, choices=1)


def _read_text(tap: _Tap) -> Iterator[Event]:
    decoder = getincrementaldecoder("utf-8")("replace")
    with suppress(BrokenCompression):
        for piece in unzip(tap):
            news = Event(data=tap.take(), content=decoder.decode(piece), read=True)
            if news.data or news.content:
                yield news
            yield FLUSH
    yield Event(data=tap.take(), read=True)


def _value(data: bytes) -> Any:
    """The object, list or string of JSON that this is; else None."""
    if data[:1] not in (b"{", b"[", b'"'):
        return None
    try:
        return read_json(data)
    except ValueError:
        return None


def find(value: Any, path: Path) -> Any:
    """What stands at a path; None if nothing does, and for no path."""
    if not path:
        return None
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


class _Tap:
    """A body that keeps the bytes taken from it, and fails only when all of them have been handed on."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._taken: list[bytes] = []
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._pieces:
                self._taken.append(piece)
                yield piece
        except Exception as error:
            self._error = error

    def take(self) -> bytes:
        taken, self._taken = b"".join(self._taken), []
        return taken

    def rest(self) -> Iterator[bytes]:
        """What nobody could read.

        :raises Exception: what ended the body.
        """
        if self._error is not None:
            raise self._error
        yield from self._pieces
