"""A body that reports when it was closed, and running the callbacks of an answer."""

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
    """Passes a body on unchanged, and calls back once after it was closed, even if closing raised.

    For an :class:`~sseproxy.wsgi.stream.EventStream`, its own callbacks are the alternative. If an outer middleware
    forgets to close the body, it is closed when it is garbage-collected.
    """

    def __init__(self, body: Iterable[bytes], closed: Callable[[], object]) -> None:
        self._body = body
        self._closed = [closed]

    @classmethod
    def around(cls, body: Iterable[bytes], closed: Callable[[], object]) -> ClosingBody:
        """Add a callback after the existing ones, to the body itself if it is a :class:`ClosingBody`."""
        if not isinstance(body, cls):
            return cls(body, closed)
        body._closed.append(closed)
        return body

    def __iter__(self) -> Iterator[bytes]:
        # Holds a reference to this object, adds no Python frame, and does not close the body when it is dropped.
        return chain(self._body, repeat(self, 0))  # type: ignore[arg-type]  # repeated zero times

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
    """Close what a middleware dropped without closing it, contrary to PEP 3333.

    In a new thread: garbage collection may run while the current thread holds a lock that a callback needs.
    """

    def end() -> None:
        try:
            close()
        except Exception:
            log.exception("a response body that was dropped without close() did not end cleanly")

    # While the process exits, a new thread would never run, and starting it would never return.
    if not sys.is_finalizing():
        with suppress(RuntimeError):  # the interpreter is shutting down
            threading.Thread(target=end, name="sseproxy-dropped", daemon=True).start()


def call_all(callbacks: Iterator[Callable[[], object]]) -> None:
    """Call all of them in order, even if one raises; what was raised is raised afterwards."""
    try:
        for callback in callbacks:
            callback()
    except BaseException:
        call_all(callbacks)
        raise


def call_once(callbacks: list[Callable[[], object]]) -> None:
    """Call them in order and drop them: they refer to the exchange that holds them, a reference cycle."""
    while callbacks:
        callbacks.pop(0)()
