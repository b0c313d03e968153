"""A body that tells when it was closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sseproxy.wsgi.call import close_body


class ClosingBody:
    """Hands on a body as it is, and calls back once, after it was closed and whatever that raised.

    A callback of an :class:`~sseproxy.wsgi.stream.EventStream` is the other way; it runs among the stream's own.
    """

    def __init__(self, body: Iterable[bytes], closed: Callable[[], object]) -> None:
        self._body = body
        self._closed: Callable[[], object] | None = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Close the body; the callback follows the first time."""
        closed, self._closed = self._closed, None
        try:
            close_body(self._body)
        finally:
            if closed is not None:
                closed()
