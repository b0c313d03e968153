"""Bodies: whatever bytes an upstream answers with become events, and I/O failures become the last event.

SSE by any content type, one JSON document, JSON lines, HTML, gzip stated, unstated or falsely stated. What the events
mean is the business of the transforms. Content types are not looked at: of the bodies seen in the field too many lie
(ollama#294, chat-ui#657); the first byte does not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from sseproxy.core.chunk import error_event, read_json
from sseproxy.core.failure import Failure
from sseproxy.core.intricate import MOST_PARTS_OF_ANSWER, is_intricate
from sseproxy.core.normalize.compression import ZIPPED, BrokenCompression, unzip
from sseproxy.core.normalize.failures import invalid_answer, truncated
from sseproxy.core.normalize.plain import Plain
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, LIMIT, Decoder, Event, EventTooLarge

__all__ = ["BODY_LIMIT", "IDLE", "Doubt", "Lost", "events_of"]

BODY_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one JSON answer at most, however it comes."""
_SPACE: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_TOO_MANY: Final = f"more than {MOST_PARTS_OF_ANSWER} objects, lists and named values at once"
_FIRST: Final = b":deir{["  # comment, data, event, id, retry, JSON

# Identity sentinel inside the transforms: the upstream has been silent for a tick. FLUSH alone cannot say so, it also
# follows a read that brought half an event. Never leaves `normalize`.
IDLE: Final = Event(type="idle", read=True)


def _failure_for(error: Exception) -> Failure | None:
    return truncated() if isinstance(error, (OSError, EOFError, zlib.error)) else None


class Lost(Event):
    """The connection failed, not the upstream: harmless where the answer was complete."""


class Doubt(Event):
    """A heartbeat that may be a failure, and is one if nothing more of the answer comes, neither text nor a finish, and
    it was not told before.

    :ivar in_words: it is no object, only text.
    """

    failure: Failure | None = None
    in_words: bool = False


def events_of(
    pieces: Iterable[bytes],
    *,
    limit: int = LIMIT,
    body_limit: int = BODY_LIMIT,
    plain: Plain | None = None,
    failure_for: Callable[[Exception], Failure | None] = _failure_for,
) -> Iterator[Event]:
    """Return the raw events of a body, with FLUSH after every piece; an empty piece is an idle tick.

    There is none after a piece that others came before, where `pieces` tells by ``is_over`` that it was the last: what
    is held until then leaves with it.

    Never raises :class:`Failure`: what `pieces` raises becomes the last event.

    :param pieces: the body as it arrives.
    :param limit: bytes of one event at most.
    :param body_limit: bytes of one JSON document at most.
    :param plain: is told where the bytes are.
    :param failure_for: what a client is told where `pieces` raises something else than that; None: it is raised on.
    """
    body = _Body(limit, body_limit)
    if plain is not None:
        plain.body = body
    return chain.from_iterable(_reads_of(pieces, body, failure_for))


def _reads_of(
    pieces: Iterable[bytes], body: _Body, failure_for: Callable[[Exception], Failure | None]
) -> Iterator[list[Event]]:
    """Return the events of a body, those of one piece together."""
    source = iter(pieces)
    failure: Failure | None = None
    begun = spoke = False
    while True:
        try:
            piece = next(source, None)
            if isinstance(piece, str):
                raise TypeError("the application yields str where PEP 3333 wants bytes")
        except BrokenCompression:
            failure = truncated()
            break
        except Failure as raised:
            failure = raised
            break
        except Exception as error:
            failure = failure_for(error)
            if failure is None:
                raise
            break
        if piece:
            if not begun:
                begun = True
                if piece[0] in ZIPPED:
                    source = unzip(chain((piece,), source), body.note_uncompressed)
                    continue
                body.note_uncompressed()
            events = body.feed(piece)
            if body.failed:
                yield events
                return
            if not (spoke and getattr(source, "is_over", False) is True):
                events.append(FLUSH)
            spoke = True
            yield events
        elif piece is None or body.whole:
            break  # in the second case the connection is held open
        else:
            yield [IDLE, FLUSH]
    yield body.finish(failure)


class _Body:
    """What kind of body this is, known from its first byte that is no white space; then its events."""

    failed = False  # this and what follows is how each begins; event streams set hardly any of it
    uncompressed = False
    _known = False
    _head: bytes | None = b""  # the first bytes, while they may be half a byte order mark
    _strange = _spoke = False  # it does not begin like an event stream; it has had an event
    _document: list[bytes] | None = None  # fragments of what may be one JSON document
    _size = _looked = 0
    _line_seen = False
    _alone = False  # its first line may be all of it

    def __init__(self, limit: int, body_limit: int) -> None:
        self._limit = body_limit
        self._decoder = Decoder(limit, lenient=True)

    def note_uncompressed(self) -> None:
        """What comes is what was sent, from here to the end."""
        self.uncompressed = True

    def is_between_events(self) -> bool:
        """Whether this is an event stream, uncompressed, and no event of it half read."""
        return self.uncompressed and self._known and self._document is None and self._decoder.between

    @property
    def whole(self) -> bool:
        """One JSON document has come in full, and it is no line of several that may be waiting for the next."""
        if self._document is None or self._looked == self._size:
            return False
        self._looked = self._size
        document = b"".join(self._document)
        return _is_answer(document) and (not self._alone or _is_finished(document))

    def feed(self, piece: bytes) -> list[Event]:
        if not self._known:
            piece = self._recognise(piece)
            if self.failed:
                return [error_event(invalid_answer("a web page, not an answer; check the upstream's URL"))]
        if self._document is not None:
            return self._collect(piece)
        try:
            events = self._decoder.feed(piece)
        except EventTooLarge as failure:
            self.failed = True
            return [error_event(failure)]
        if self._decoder.failure is not None:
            self.failed = True
            events.append(error_event(self._decoder.failure))
        if any(map(_is_intricate, events)):
            self.failed = True
            return [error_event(invalid_answer(_TOO_MANY))]
        if not self._spoke:
            self._spoke = any(event is not HEARTBEAT for event in events)
        return events

    def _recognise(self, piece: bytes) -> bytes:
        """Drop leading white space, which some send to keep idle connections open; look at what comes first."""
        if not self._head and piece[:5] == b"data:":
            self._known = True
            return piece
        if self._head is not None:
            piece = self._head + piece
            if _BOM.startswith(piece) and piece != _BOM:
                self._head = piece
                return b""
            self._head = None
            piece = piece.removeprefix(_BOM)
        piece = piece.lstrip(_SPACE)
        if not piece:
            return b""
        first = piece[:1]
        self._known = True
        self._strange = first not in _FIRST
        if first == b"<":
            self.failed = True
        elif first in (b"{", b"["):
            self._document = []
        return piece

    def _collect(self, piece: bytes) -> list[Event]:
        """Gather a document; if its first line is whole by itself, these are JSON lines and need not wait.

        Only one that reads otherwise where it is all there is waits for more: Flask ends a document with a newline.
        """
        assert self._document is not None
        self._document.append(piece)
        self._size += len(piece)
        lines = self._alone and piece.strip(_SPACE) != b""
        if not self._line_seen and (piece.find(b"\n") >= 0 or piece.find(b"\r") >= 0):
            self._line_seen = True
            first, _, rest = b"".join(self._document).replace(b"\r", b"\n").partition(b"\n")
            lines = _is_json(first)
            if lines and not rest.strip(_SPACE) and _whole(_utf8(first)) != _utf8(first):
                lines, self._alone = False, True
        if lines:
            document = b"".join(self._document)
            self._document = None
            return self.feed(document)
        if self._size > self._limit:
            self.failed = True
            return [error_event(invalid_answer(f"a document of more than {self._limit} bytes"))]
        return []

    def finish(self, failure: Failure | None) -> list[Event]:
        """Return the last events; the unfinished last block is one if it can be read (tests/wire: F15)."""
        events: list[Event] = []
        if self._document is not None:
            document, self._document = b"".join(self._document), None
            events = [Event(_whole(_utf8(document)))] if _is_json(document) else self.feed(document)
        if not self.failed:
            last = self._decoder.finish()
            if last is not None and _is_intricate(last):
                events.append(error_event(invalid_answer(_TOO_MANY)))
            elif last is not None and (_is_readable(last.data) or b"\n" in last.data):
                events.append(last)
            elif last is not None and failure is None:
                failure = truncated()
            if failure is not None:
                events.append(_lost(failure))
            elif self._strange and not self._spoke and not events:
                events.append(error_event(invalid_answer("neither events nor JSON")))
        return events


def _is_intricate(event: Event) -> bool:
    return len(event.data) > MOST_PARTS_OF_ANSWER and is_intricate(event.data, MOST_PARTS_OF_ANSWER)


def _lost(failure: Failure) -> Lost:
    event = error_event(failure)
    return Lost(event.data, read=True, error=failure)


def _whole(document: bytes) -> bytes:
    """All of a body: a message in it is an answer's, and no chunk's, also where it does not name its ``object``."""
    if document[:1] == b"{" and b'"message"' in document:
        answer = read_json(document)
        if "choices" in answer and "object" not in answer:
            return b'{"object":"chat.completion",' + document[1:]
    return document


def _is_json(data: bytes) -> bool:
    if data.strip().upper() == DONE:
        return True
    try:
        read_json(data.decode("utf-8", "replace"))
    except ValueError:
        return False
    return True


def _is_answer(data: bytes) -> bool:
    try:
        value = read_json(data.decode("utf-8", "replace"))
    except ValueError:
        return False
    return isinstance(value, dict) and b'"delta"' not in data and value.get("done") is not False


def _is_finished(answer: bytes) -> bool:
    """Tell whether an answer says of each choice why it ended."""
    choices = read_json(answer.decode("utf-8", "replace"))["choices"]
    return isinstance(choices, list) and all(isinstance(each, dict) and each.get("finish_reason") for each in choices)


def _is_readable(data: bytes) -> bool:
    return data.lstrip()[:1] not in (b"{", b"[") or _is_json(data)


def _utf8(data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode()
