"""A live stream as the answer to a request: from its beginning, or from where the client's last connection broke."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sseproxy.core.failure import Failure
from sseproxy.core.sse import PING
from sseproxy.middleware.auth import ANONYMOUS
from sseproxy.middleware.half_event import discarding
from sseproxy.streams.protocol import Broken, Head, Lost, Reader, Stream, Streams
from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.client import ClientGone, watch_client
from sseproxy.wsgi.errors import STREAM_HEADERS, error_answer, status_line, wants_events
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PATH: Final = "/-/streams/"
TICK: Final = 1.0
RETRY: Final = b"retry: 1000\n"
"""Milliseconds after which an EventSource reconnects."""
_EVENT_ID: Final = re.compile(r"([0-9a-f]{32}):(\d{1,15})\Z")


class UnknownStream(Failure):
    """The stream does not exist, is no longer kept, or is another user's; the caller cannot tell which."""

    def __init__(self) -> None:
        super().__init__(
            "There is no such stream here, or it is no longer kept.",
            status=404,
            type="invalid_request_error",
            code="stream_not_found",
        )


class StreamLost(Failure):
    """The process that generated the answer is gone before any of it was sent."""

    def __init__(self) -> None:
        super().__init__(
            "The process that was to answer is gone. Ask again.", status=503, code="stream_lost", retry_after=1
        )


def last_event(exchange: Exchange) -> tuple[str, int] | None:
    """The stream and the position in it that ``Last-Event-ID`` names; None if it is not an ID of ours."""
    match = _EVENT_ID.match(exchange.last_event_id) if exchange.last_event_id else None
    return (match[1], int(match[2])) if match else None


def location_of(environ: WSGIEnvironment, stream: Stream) -> str:
    """The path at which a stream can be re-joined."""
    return f"{quote(environ.get('SCRIPT_NAME', ''), encoding='latin-1')}{PATH}{stream.id}"


def asker(exchange: Exchange) -> str:
    """The name of the user who owns the stream that a request begins."""
    return (exchange.user or ANONYMOUS).name


def claim_key(exchange: Exchange, name: str) -> str:
    """The name under which this caller's ``Idempotency-Key`` is claimed."""
    return sha256(f"{asker(exchange)}\0{name}".encode()).hexdigest()


class Joining:
    """Turns live streams into responses.

    :param keepalive: seconds of silence after which a reader gets a keep-alive.
    """

    def __init__(self, streams: Streams, *, keepalive: float = 15.0) -> None:
        self.streams = streams
        self._keepalive = keepalive

    def find(self, stream_id: str, environ: WSGIEnvironment) -> Stream:
        """The stream of that ID.

        Without credentials the unguessable ID is enough; with credentials the caller must be the stream's user.

        :raises UnknownStream: there is none for this caller.
        """
        stream = self.streams.find(stream_id)
        if stream is None or asker(Exchange.of(environ)) not in (stream.user, ANONYMOUS.name):
            raise UnknownStream
        return stream

    def find_named(self, name: str, environ: WSGIEnvironment) -> Stream:
        """The stream begun by the caller's request with that ``Idempotency-Key``.

        :raises UnknownStream: there is none.
        """
        stream = self.streams.find_claimed(claim_key(Exchange.of(environ), name))
        if stream is None:
            raise UnknownStream
        return stream

    def rejoin(self, stream_id: str, environ: WSGIEnvironment) -> Answer:
        """The stream of that ID, from after the client's ``Last-Event-ID``.

        :raises UnknownStream: there is none for this caller.
        :raises Failure: it cannot be read from there.
        """
        stream = self.find(stream_id, environ)
        last = last_event(Exchange.of(environ))
        return self.answer(environ, stream, last[1] if last and last[0] == stream.id else 0)

    def answer(self, environ: WSGIEnvironment, stream: Stream, after: int = 0) -> Answer:
        """The stream from after that entry.

        :raises Failure: it cannot be read from there.
        """
        headers = [("Content-Location", location_of(environ, stream))]
        if after and stream.has_ended_at(after):
            return _nothing_more(environ, headers)
        reader = stream.join(after)
        gone = watch_client(environ)
        try:
            head = self._head(reader, environ, gone)
        except BaseException:
            reader.close()
            raise
        if head is None:
            head = Head(status_line(200), STREAM_HEADERS)
        if head.refusal:
            reader.close()
            return error_answer(head.status, head.refusal, environ, head.headers)
        is_events = any(
            name == "Content-Type" and value.startswith("text/event-stream") for name, value in head.headers
        )
        ids = stream.id if is_events and wants_events(environ) else ""
        # A client that POSTs reconnects in its own way, or has been told not to (react-native-sse).
        retry = RETRY if Exchange.of(environ).method == "GET" else b""
        ping = PING if is_events else b""
        lead = discarding(environ, f"{ids}:{after}") if ids else b""
        body = JoinedBody(reader, gone, ids=ids, retry=retry, lead=lead, ping=ping, keepalive=self._keepalive)
        body.begin()
        return Answer(head.status, [*head.headers, *headers], body)

    def _head(self, reader: Reader, environ: WSGIEnvironment, gone: Callable[[], bool]) -> Head | None:
        """The stream's head; None if the client needs a keep-alive before there is one.

        :raises ClientGone: the client has left.
        :raises StreamLost: there will be none.
        """
        deadline = monotonic() + self._keepalive
        impatient = _can_wait_awake(environ)
        try:
            while (head := reader.head(TICK)) is None:
                if gone():
                    raise ClientGone
                if impatient and monotonic() >= deadline:
                    return None
        except Broken as error:
            raise StreamLost from error
        return head


class JoinedBody:
    """The body of a response that reads from a live stream.

    :param gone: whether the client has left.
    :param ids: the stream's ID for a client that understands ``id:`` and ``event:``; else empty.
    :param retry: the ``retry:`` field to put into such a client's first event.
    :param lead: bytes to send before that event.
    """

    def __init__(
        self,
        reader: Reader,
        gone: Callable[[], bool],
        *,
        ids: str,
        retry: bytes,
        lead: bytes,
        ping: bytes,
        keepalive: float,
    ) -> None:
        self._reader = reader
        self._gone = gone
        self._ids = ids.encode()
        self._ping = ping
        self._keepalive = keepalive
        self._wrote = monotonic()
        self._retry = retry
        self._lead = lead
        self._hides_names: bool | None = None
        self._first: bytes | None = b""

    def begin(self) -> None:
        """Wait for the first piece: the response head leaves with it, so until then a failure can have its own status.

        Where keep-alives are possible it waits for one tick only: the keep-alive then sends the head.

        :raises Failure: none will come, or the client has left.
        """
        try:
            self._first = self._read()
            while self._first == b"":
                self._first = self._ping or self._read()
        except BaseException as error:
            self.close()
            if isinstance(error, Broken):
                raise Lost from error
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece, self._first = self._first, b""
        try:
            piece = self._read() if piece == b"" else piece
        except (Failure, Broken) as error:
            self.close()
            raise BrokenPipeError(errno.EPIPE, "the stream cannot be read on without a gap") from error
        if piece is None:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Leave the stream."""
        self._reader.close()

    def _read(self) -> bytes | None:
        """The new entries; empty after a silent tick, None at the end."""
        entries = self._reader.read(TICK)
        if entries:
            self._wrote = monotonic()
            return self._encode(entries)
        return None if entries is None else self._idle()

    def _idle(self) -> bytes:
        if self._gone():
            raise ClientGone
        if self._ping and monotonic() - self._wrote >= self._keepalive:
            self._wrote = monotonic()
            return self._ping
        return b""

    def _encode(self, entries: list[bytes]) -> bytes:
        """The entries in the form for this client: with ids, or without event names."""
        if not self._ids:
            return b"".join(map(_without_name, entries) if self._must_hide_names() else entries)
        number = self._reader.position - len(entries)
        retry, self._retry = self._retry, b""
        lead, self._lead = self._lead, b""
        # The id comes last: fetch-event-source takes an event as received once it has seen the id.
        return lead + b"".join(
            b"%b%bid: %b:%d\n\n" % (entry[:-1], retry if place == 1 else b"", self._ids, number + place)
            for place, entry in enumerate(entries, 1)
        )

    def _must_hide_names(self) -> bool:
        """Asked only once there are entries: the response may begin before the stream has its head."""
        if self._hides_names is None:
            head = self._reader.head(TICK)
            self._hides_names = head is not None and head.optional_names
        return self._hides_names


def _can_wait_awake(environ: WSGIEnvironment) -> bool:
    """Whether the client reads an event stream, so that keep-alives may be sent before the status is known."""
    exchange = Exchange.of(environ)
    return wants_events(environ) if exchange.request is None else exchange.streams_events


def _without_name(entry: bytes) -> bytes:
    return entry[entry.index(b"\n") + 1 :] if entry.startswith(b"event: ") else entry


def _nothing_more(environ: WSGIEnvironment, headers: Headers) -> Answer:
    """204 stops a native EventSource for good; fetch-event-source, which POSTs, would retry every second on it."""
    if Exchange.of(environ).method == "GET":
        return Answer(status_line(204), headers, [])
    return Answer(status_line(200), [*STREAM_HEADERS, *headers], [])
