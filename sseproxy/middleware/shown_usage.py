"""The usage chunk at the end of a stream, with its cost: for the client that asked, and for no other."""

from __future__ import annotations

from sseproxy.core.chunk import UsageEvent
from sseproxy.core.receipt import usage_chunk, usage_in, with_cost
from sseproxy.core.sse import Event
from sseproxy.core.usage import Usage
from sseproxy.wsgi.exchange import Exchange


class ShownUsage:
    """Of one stream.

    :param exchange: of a chat or completions request; its figures are shown, once they are settled.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reported = self._told = b""

    def takes(self, event: Event) -> bool:
        """Whether an event with usage says nothing else: then no client is to see it as it is."""
        told = event.told if type(event) is UsageEvent else usage_in(event.data)
        if not told:
            return False
        self._reported, self._told = event.data, told
        return True

    def event(self, last: Event | None) -> Event | None:
        """What is to stand before the end mark.

        :param last: the chunk before it.
        """
        exchange = self._exchange
        if last is None or exchange.request is None or not exchange.request.wants_usage:
            return None
        if self._reported:
            return Event(with_cost(self._reported, exchange.cost, self._told), read=True)
        return Event(usage_chunk(last.data, exchange.usage or Usage(), exchange.cost), read=True)
