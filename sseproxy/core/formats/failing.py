"""A failure as the last thing that a stream's client reads, in the client's format."""

from __future__ import annotations

from sseproxy.core.chat import Api
from sseproxy.core.failure import Failure
from sseproxy.core.formats.format import Format
from sseproxy.core.normalize import failure_events
from sseproxy.core.sse import FLUSH, encode


def encode_failure(failure: Failure, api: Api, format: Format | None, *, named: bool) -> list[bytes]:
    """What ends a stream that failed, event by event.

    :param format: None for OpenAI's own.
    :param named: whether the client understands ``event:`` fields.
    :raises Failure: the format has no mark for it; the connection must be aborted.
    """
    events = failure_events(failure, api)
    if format is None:
        return [encode(event) for event in events]
    return [format.encode(each) for each in format.render(iter(events), named=named) if each is not FLUSH]
