"""Calls a WSGI application from a middleware (PEP 3333).

Covers a late ``start_response``, the legacy ``write()``, ``exc_info`` and an application that raises; a body that
needs none of this is passed on as the same object.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import field

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.wsgi")

Headers = list[tuple[str, str]]
NAME_OF: Final[Callable[[tuple[str, str]], str]] = itemgetter(0)
"""The name of a header field."""


class Answer:
    """An application's answer, before any of it is sent. Itself a WSGI application, for one request.

    Passing through several middlewares it stays the same object: :func:`call_app` receives it as a whole.

    :ivar status: code and phrase, ``"200 OK"``.
    :ivar code: the status as a number.
    :ivar headers: as the application gave them; a middleware may change the list.
    :ivar body: the application's own iterable; whoever iterates it closes it.
    """

    __slots__ = ("body", "code", "headers", "status")

    def __init__(self, status: str, headers: Headers, body: Iterable[bytes]) -> None:
        self.status = status
        self.code = int(status[:3])
        self.headers = headers
        self.body = body

    def header(self, name: str) -> str:
        """The first header of that name, or an empty string."""
        name = name.lower()
        return next((value for key, value in self.headers if key.lower() == name), "")

    def set_header(self, name: str, value: str) -> None:
        """Set a header, replacing every earlier one of that name."""
        known, given = name.lower(), [*map(str.lower, map(NAME_OF, self.headers))]
        if known in given:
            self.headers = [*compress(self.headers, map(known.__ne__, given))]
        self.headers = [*self.headers, (name, value)]

    def drop_headers(self, *names: str) -> None:
        """Remove headers by name."""
        unwanted = {name.lower() for name in names}
        self.headers = [item for item in self.headers if item[0].lower() not in unwanted]

    def close(self) -> None:
        """Close the body without reading on."""
        close_body(self.body)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if isinstance(start_response, _Start) and start_response.answer is None:
            start_response.answer = self
            return self.body
        try:
            start_response(self.status, self.headers)
        except BaseException:  # a server that refuses a header will not close a body it never got
            self.close()
            raise
        return self.body


def close_body(body: Iterable[bytes]) -> None:
    """Call a WSGI body's ``close()``, if it has one."""
    close = getattr(body, "close", None)
    if close is not None:
        close()


def close_read(body: Iterable[bytes]) -> None:
    """Close a body that has been read; an error in its ``close()`` is only logged, since the answer is complete."""
    try:
        close_body(body)
    except Exception:
        log.exception("the application's answer cannot be closed")


def call_app(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Call an application and return its answer, with status and headers known and nothing sent.

    :raises Exception: whatever the application raises before its headers; its body is closed then.
    :raises RuntimeError: it ended without calling ``start_response``.
    """
    start = _Start()
    body = app(environ, start)
    answer = start.answer
    if answer is None or answer.body is not body:
        answer = _assembled(body, start)
    start.sent = True
    return answer


def _assembled(body: Iterable[bytes], start: _Start) -> Answer:
    """The answer of an application that did not return an :class:`Answer`'s body."""
    if start.answer is None:
        body = _pull_until_started(body, start)
    elif start.written:
        body = _Joined(start.written, body)
    start.is_joined = isinstance(body, _Joined)
    answer = start.answer
    assert answer is not None
    answer.body = body
    return answer


class _Start(msgspec.Struct):
    """The ``start_response`` that an application is called with."""

    answer: Answer | None = None
    written: list[bytes] = field(default_factory=list)
    sent: bool = False
    is_joined: bool = False

    def __call__(self, status: str, headers: Headers, exc_info: OptExcInfo | None = None) -> Callable[[bytes], object]:
        if exc_info is None and self.answer is not None:
            raise AssertionError("start_response called twice without exc_info (PEP 3333)")
        if exc_info and exc_info[1] is not None and self.sent:
            raise exc_info[1].with_traceback(exc_info[2])
        self.answer = Answer(status, list(headers), [])  # a body that the application cannot return: see call_app()
        return self._write

    def _write(self, data: bytes) -> None:
        if self.sent and not self.is_joined:
            raise AssertionError("write() called after the body was returned (PEP 3333)")
        self.written.append(data)


def _pull_until_started(body: Iterable[bytes], start: _Start) -> Iterable[bytes]:
    """Read on until the application has called ``start_response``, which it may do as late as its first item."""
    pieces: list[bytes] = []
    rest = iter(body)
    try:
        while start.answer is None:
            pieces.append(next(rest))
    except StopIteration:
        if start.answer is None:
            close_body(body)
            raise RuntimeError("the application ended without calling start_response") from None
    except BaseException:
        close_body(body)
        raise
    start.written += pieces
    return _Joined(start.written, body, rest)


class _Joined:
    """Pieces already taken from a body or given to ``write()``, then the rest of it.

    ``write()`` may also be called while the rest is produced: PEP 3333 forbids that, but servers tolerate it.
    """

    def __init__(self, pieces: list[bytes], body: Iterable[bytes], rest: Iterator[bytes] | None = None) -> None:
        self._pieces = pieces
        self._body = body
        self._rest: Iterator[Any] = rest if rest is not None else iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._pieces:
            try:
                piece = next(self._rest)
            except StopIteration:
                if not self._pieces:
                    raise
            else:
                self._pieces.append(piece)
        return self._pieces.pop(0)

    def close(self) -> None:
        close_body(self._body)
