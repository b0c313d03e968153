"""The incomplete event that WebKit's EventSource keeps when its connection breaks, and prepends to the next connection.

By the WHATWG's standard an incomplete event is discarded at the end of a connection. WebKit (Safari, all browsers on
iPhones) does that only after a clean end, not in ``EventSource::didFail`` of its EventSource.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def discarding(environ: WSGIEnvironment, last_event_id: str) -> bytes:
    """Bytes that turn it into an event with a name that no page listens to; empty for any other client.

    A client that follows the standard reads a comment and an event without data, which is not dispatched.

    :param last_event_id: of the event before the first one to be sent.
    """
    if not _is_webkit(environ):
        return b""
    # First a comment: where the cut fell after a complete line, an empty line would dispatch the incomplete event.
    return b":\nevent: cut\nid: %b\n\n" % last_event_id.encode()


def _is_webkit(environ: WSGIEnvironment) -> bool:
    """Whether the client is WebKit's own EventSource: Chromium names WebKit too, and most packages send no
    ``Cache-Control: no-cache``.

    One that does is react-native-sse, which would keep the name until an event has data; it sends ``X-Requested-With``.
    """
    agent: str = environ.get("HTTP_USER_AGENT", "")
    is_native = "no-cache" in environ.get("HTTP_CACHE_CONTROL", "") and "HTTP_X_REQUESTED_WITH" not in environ
    return is_native and Exchange.of(environ).method == "GET" and "AppleWebKit/" in agent and "Chrome/" not in agent
