"""What the tests in browsers read from: a tale that is hard to read right, and the proxy with a route per format."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sseproxy import create_app
from tests.harness import waitress_thread
from tests.integration.books import KEY, config

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HARD = [
    "Once ",
    "upon\n",
    "a\n\n",
    "time",
    " data: x\n",
    "[DO",
    "NE]",
    " \u2028line",
    "\n",
    "é",
    "😀 ",
    ": ",
    '"q\\u"',
    " ",
]
"""Pieces of text that clients and relays are known to read wrong."""


NODE_ORIGIN = "http://localhost:5173"
"""Whose page tests/clients/node.mjs makes the clients believe they are in."""


def tale(pieces: int) -> list[str]:
    """The text of an answer, delta by delta; no piece of it at the same place is alike."""
    return [f"{HARD[number % len(HARD)]}{number} " for number in range(pieces)]


def chunks(texts: list[str]) -> list[bytes]:
    """The same as an OpenAI upstream sends it, with usage and end."""
    sent = [{"delta": {"content": text}, "finish_reason": None} for text in texts]
    sent.append({"delta": {}, "finish_reason": "stop"})
    said = [{"choices": [{"index": 0, **choice}]} for choice in sent]
    said.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(texts)}})
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [b"data: %b\n\n" % json.dumps({**common, **each}).encode() for each in said] + [b"data: [DONE]\n\n"]


def routed(url: str, directory: Path, origin: str, **sections: Any) -> dict[str, Any]:
    """A configuration with a route for each format, with credentials and (``/open``) without, for pages of `origin`."""

    def route(format: Any, auth: bool) -> dict[str, Any]:
        return {
            "methods": ["GET", "POST"],
            "model": "m",
            "input": {"message": "prompt"},
            "format": format,
            "auth": auth,
        }

    formats: dict[str, Any] = {name: name for name in ("text", "openai", "plain")}
    formats["lines"] = {"type": "text", "newline": "[ENTRY]"}
    routes = {f"/{name}": route(format, True) for name, format in formats.items()}
    routes |= {f"/open/{name}": route(format, False) for name, format in formats.items()}
    cors = {"origins": [origin, NODE_ORIGIN]}
    return config(url, directory, **{"routes": routes, "cors": cors, **sections})


@dataclass(frozen=True)
class Seen:
    """A request that reached the proxy, and its status."""

    method: str
    path: str
    query: str
    status: int


class Site:
    """A running proxy. ``requests``: what has reached it so far, preflights left out."""

    def __init__(self, app: WSGIApplication) -> None:
        self.url = ""
        self.requests: list[Seen] = []
        self._app = app
        self._lock = threading.Lock()

    def count(self, who: str) -> int:
        """How many requests had this word in their query."""
        with self._lock:
            return sum(f"who={who}" in seen.query for seen in self.requests)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        method, path, query = (environ[key] for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))

        def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if method != "OPTIONS":
                with self._lock:
                    self.requests.append(Seen(method, path, query, int(status[:3])))
            return start_response(status, headers, *rest)

        return self._app(environ, note)


@contextlib.contextmanager
def running(settings: Mapping[str, Any], threads: int = 64) -> Iterator[Site]:
    """The proxy with this configuration on waitress, here."""
    app = create_app(settings)
    site = Site(app)
    with waitress_thread(site, threads=threads) as server:
        site.url = server.url
        yield site
    app.close()


READERS: dict[str, dict[str, Any]] = {
    "EventSource": {"client": "eventsource", "path": "/open/text", "format": "text"},
    "EventSource of chunks": {"client": "eventsource", "path": "/open/openai", "format": "openai"},
    "undici's EventSource": {"client": "eventsource", "path": "/open/text", "format": "text", "undici": True},
    "respond-async": {"client": "respond-async", "path": "/text", "format": "text", "key": KEY},
    "polyfill": {"client": "event-source-polyfill", "path": "/text", "format": "text", "key": KEY},
    "fetch-event-source": {"client": "fetch-event-source", "path": "/openai", "format": "openai", "key": KEY},
    # It loses a line end at the beginning of an event's data, which bare text has and the token does not.
    "fetch-event-source of a form": {
        "client": "fetch-event-source",
        "path": "/lines",
        "format": "text",
        "key": KEY,
        "form": True,
    },
    "sse.js": {"client": "sse.js", "path": "/text", "format": "text", "key": KEY},
    "react-native-sse": {"client": "react-native-sse", "path": "/openai", "format": "openai", "key": KEY},
    "fetch": {"client": "fetch", "path": "/openai", "format": "openai", "key": KEY},
    "fetch of plain text": {"client": "fetch-plain", "path": "/plain", "format": "plain", "key": KEY},
}
"""Each way to read an answer: options of tests/clients/readers.mjs."""
PLACES = [
    (place, reader)
    for place in ("chromium", "node")
    for reader in READERS
    if (place, "undici" in reader) != ("chromium", True)
]
"""Each of them where it runs: in Chromium or in Node.js."""
OWN_RECONNECT = {"EventSource", "EventSource of chunks", "undici's EventSource", "polyfill"}
"""Those that come back by themselves after every end, until they are told that there is no more."""
DIRECT = {"sse.js", "fetch", "fetch of plain text"}
"""Those that do not say that they read event streams: they get no ids and cannot come back; who leaves has left."""


def options(site: Site | str, reader: str, message: str = "Tell me a tale.", **more: Any) -> str:
    """The argument of ``read()`` in a page, as JSON; ``who``: a word for the query by which to know the request."""
    chosen = {**READERS[reader], "message": message, **more}
    base = site if isinstance(site, str) else site.url
    who = chosen.pop("who", "")
    chosen["url"] = base + chosen.pop("path") + (f"?who={who}" if who else "")
    return json.dumps(chosen)
