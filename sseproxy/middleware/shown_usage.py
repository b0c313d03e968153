"""The usage chunk at the end of a stream, with its cost: for the client that asked, and for no other."""

from __future__ import annotations

from collections.abc import Iterator

from sseproxy.core.receipt import is_usage_chunk, usage_chunk, with_cost
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.core.usage import Usage
from sseproxy.wsgi.exchange import Exchange


def show_usage(events: Iterator[Event], exchange: Exchange) -> Iterator[Event]:
    """The transform, outside of what meters and settles, whose figures it shows.

    :param exchange: of a chat or completions request.
    """
    wanted = exchange.request is not None and exchange.request.wants_usage
    reported = last = b""
    for event in events:
        if event is FLUSH:
            yield event
            continue
        if event.data == DONE:
            if wanted and last:
                yield Event(data=_usage_chunk(exchange, reported, last), read=True)
        elif event.usage is not None and is_usage_chunk(event.data):
            reported = event.data
            continue
        else:
            last = event.data
        yield event


def _usage_chunk(exchange: Exchange, reported: bytes, last: bytes) -> bytes:
    if reported:
        return with_cost(reported, exchange.cost)
    return usage_chunk(last, exchange.usage or Usage(), exchange.cost)
