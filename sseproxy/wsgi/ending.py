"""When an exchange is over: its body was closed, and so was what goes on without its client."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sseproxy.wsgi.closing import ClosingBody
from sseproxy.wsgi.exchange import Exchange


def when_ended(exchange: Exchange, body: Iterable[bytes], callback: Callable[[], object]) -> ClosingBody:
    """A body to return instead of ``body``, with which the callback is called once, when the exchange is over.

    That is when the body was closed, or when the generation has ended that outlives its client.
    """

    def closed() -> None:
        if not exchange.in_background:
            callback()
            return
        once = _Once(callback)
        exchange.when_generated.append(once)
        if not exchange.in_background:  # it has ended meanwhile, perhaps before it could see this callback
            once()

    return ClosingBody.around(body, closed)


class _Once:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def __call__(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
