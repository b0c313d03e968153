"""The half of an event that WebKit's EventSource keeps when its connection breaks, and puts before what it gets next.

The WHATWG's standard has each connection read from its beginning, and what was not whole thrown away. WebKit (Safari,
all browsers of an iPhone) does that behind a good end alone, not in ``EventSource::didFail`` of its EventSource.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def discarding(environ: WSGIEnvironment, last_event_id: str) -> bytes:
    """What makes such a half an event of a name that no page listens to; empty for any other client.

    To who keeps to the standard it is a comment and an event without data, which is none.

    :param last_event_id: of the event before the first one that follows.
    """
    if not _is_webkit(environ):
        return b""
    # First a comment: an empty line would end the half as if it were whole, where the cut fell behind one of its lines.
    return b":\nevent: cut\nid: %b\n\n" % last_event_id.encode()


def _is_webkit(environ: WSGIEnvironment) -> bool:
    """Whether WebKit's own EventSource asks: Chromium names WebKit too, and most packages say nothing of caches.

    Of those that do, react-native-sse keeps a name until an event has data; XMLHttpRequest is what it says it asks by.
    """
    agent: str = environ.get("HTTP_USER_AGENT", "")
    is_native = "no-cache" in environ.get("HTTP_CACHE_CONTROL", "") and "HTTP_X_REQUESTED_WITH" not in environ
    return is_native and Exchange.of(environ).method == "GET" and "AppleWebKit/" in agent and "Chrome/" not in agent
