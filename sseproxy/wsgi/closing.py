"""A body that tells when it was closed, and the callbacks that hang on an answer."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, repeat

from sseproxy.wsgi.call import close_body

log = logging.getLogger("sseproxy.wsgi")


class ClosingBody:
    """Hands on a body as it is, and calls back once, after it was closed and whatever that raised.

    A callback of an :class:`~sseproxy.wsgi.stream.EventStream` is the other way; it runs among the stream's own. Where
    a middleware outside forgets to close, it is closed when nobody holds it any more.
    """

    def __init__(self, body: Iterable[bytes], closed: Callable[[], object]) -> None:
        self._body = body
        self._closed = [closed]

    @classmethod
    def around(cls, body: Iterable[bytes], closed: Callable[[], object]) -> ClosingBody:
        """A body with this callback after those that it has: itself if it is of this kind, else one around it."""
        if not isinstance(body, cls):
            return cls(body, closed)
        body._closed.append(closed)
        return body

    def __iter__(self) -> Iterator[bytes]:
        # It knows this object, costs no frame, and does not close the body by itself when it is dropped.
        return chain(self._body, repeat(self, 0))  # type: ignore[arg-type]  # which is no bytes, but none of it comes

    def close(self) -> None:
        """Close the body; the callbacks follow. Later calls change nothing."""
        body, self._body = self._body, ()
        closed, self._closed = self._closed, []
        try:
            close_body(body)
        finally:
            call_all(iter(closed))

    def __del__(self) -> None:
        if getattr(self, "_closed", None):
            close_apart(self.close)


def close_apart(close: Callable[[], object]) -> None:
    """Close what a middleware has dropped without closing it, against PEP 3333.

    In a thread of its own: the collector may run while this very thread holds a lock that a callback needs.
    """

    def end() -> None:
        try:
            close()
        except Exception:
            log.exception("a response body that was dropped without close() did not end cleanly")

    # At the very end of the process a new thread would never get to run, and starting it would never return.
    if not sys.is_finalizing():
        with suppress(RuntimeError):  # the interpreter is shutting down
            threading.Thread(target=end, name="sseproxy-dropped", daemon=True).start()


def call_all(callbacks: Iterator[Callable[[], object]]) -> None:
    """Call one after the other; what one raises keeps no other from being called, and is raised then."""
    try:
        for callback in callbacks:
            callback()
    except BaseException:
        call_all(callbacks)
        raise


def call_once(callbacks: list[Callable[[], object]]) -> None:
    """Call them in their order, and forget them: they know the exchange they hang on, which would be a circle."""
    while callbacks:
        callbacks.pop(0)()
