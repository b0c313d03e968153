"""The usage that a client is shown, with its cost; at the end of a stream only if the client asked for it.

Other fields in an upstream's usage chunk (llama.cpp's ``timings``, a fingerprint) are for any client.
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
    """The usage chunk of one stream.

    :param exchange: of a chat or completions request; holds the figures once they are settled.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reported = self._told = self._beside = b""
        self._usage: Usage | None = None

    def takes(self, event: Event) -> bool:
        """Whether an event with usage holds nothing else, and so must not reach the client as it is."""
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
        """The chunk to send before the end marker, if any.

        :param last: the chunk before that.
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
    """A JSON answer as its client sees it; its charge must be settled."""
    return _with_receipt(completion.body, completion.told, completion.usage, exchange)


def _with_receipt(answer: bytes, told: bytes, reported: Usage | None, exchange: Exchange) -> bytes:
    """The answer with its cost, and with the charged usage where that differs from the reported one."""
    charged = exchange.usage
    if charged == reported:
        charged = None
    elif charged and reported and not (reported.output_tokens or isinstance(reported, TotalAlone)):
        charged = replace(charged, output_tokens=0)  # reported before any output, and left as it is
    return with_cost(answer, exchange.cost, told, counted=charged)
