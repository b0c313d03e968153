"""A body that tells when it was closed, and the callbacks that hang on an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sseproxy.wsgi.call import close_body


class ClosingBody:
    """Hands on a body as it is, and calls back once, after it was closed and whatever that raised.

    A callback of an :class:`~sseproxy.wsgi.stream.EventStream` is the other way; it runs among the stream's own.
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
        return iter(self._body)

    def close(self) -> None:
        """Close the body; the callbacks follow the first time."""
        closed, self._closed = self._closed, []
        try:
            close_body(self._body)
        finally:
            call_all(iter(closed))


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
