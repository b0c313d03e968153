"""When an exchange is over: its body is closed, and a generation that outlives its client has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sseproxy.wsgi.closing import ClosingBody
from sseproxy.wsgi.exchange import Exchange


def when_ended(exchange: Exchange, body: Iterable[bytes], callback: Callable[[], object]) -> ClosingBody:
    """A body to return instead of ``body``; it calls the callback once, when the exchange is over.

    That is when the body was closed, or when a generation that outlives its client has ended.
    """

    def closed() -> None:
        if not exchange.in_background:
            callback()
            return
        once = _Once(callback)
        exchange.when_generated.append(once)
        if not exchange.in_background:  # it has ended meanwhile, perhaps before it could call this
            once()

    return ClosingBody.around(body, closed)


class _Once:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def __call__(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
