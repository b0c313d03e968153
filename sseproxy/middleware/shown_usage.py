"""The usage that a client is shown, with its cost; at the end of a stream only the client that asked for it.

What an upstream says beside it alone (llama.cpp's ``timings``, a fingerprint) is for any client.
"""

from __future__ import annotations

from msgspec.structs import replace

from sseproxy.core.chunk import UsageEvent
from sseproxy.core.normalize import Completion
from sseproxy.core.receipt import beside_usage, usage_chunk, usage_in, with_cost
from sseproxy.core.sse import Event
from sseproxy.core.usage import TotalAlone, Usage
from sseproxy.wsgi.exchange import Exchange


class ShownUsage:
    """Of one stream.

    :param exchange: of a chat or completions request; its figures are shown, once they are settled.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reported = self._told = self._beside = b""
        self._usage: Usage | None = None

    def takes(self, event: Event) -> bool:
        """Whether an event with usage says nothing else: then no client is to see it as it is."""
        if type(event) is UsageEvent:
            told, says_more = event.told, event.says_more
        else:
            told, says_more = usage_in(event.data), True
        if not told:
            return False
        if says_more:
            self._beside = event.data
        self._reported, self._told, self._usage = event.data, told, event.usage
        return True

    def event(self, last: Event | None) -> Event | None:
        """What is to stand before the end mark.

        :param last: the chunk before it.
        """
        exchange = self._exchange
        if last is None or exchange.request is None:
            return None
        if not exchange.request.wants_usage:
            news = beside_usage(self._beside, last.data, exchange.request.api) if self._beside else b""
            return Event(news, read=True) if news else None
        if self._reported:
            return Event(_with_receipt(self._reported, self._told, self._usage, exchange), read=True)
        return Event(usage_chunk(last.data, exchange.usage or Usage(), exchange.cost), read=True)


def shown_completion(completion: Completion, exchange: Exchange) -> bytes:
    """A JSON answer as its client is to see it, once its charge is settled."""
    return _with_receipt(completion.body, completion.told, completion.usage, exchange)


def _with_receipt(answer: bytes, told: bytes, reported: Usage | None, exchange: Exchange) -> bytes:
    """With what it cost, and with what is charged where that is not what is reported."""
    charged = exchange.usage
    if charged == reported:
        charged = None
    elif charged and reported and not (reported.output_tokens or isinstance(reported, TotalAlone)):
        charged = replace(charged, output_tokens=0)  # told before the first of it, and stands
    return with_cost(answer, exchange.cost, told, counted=charged)
