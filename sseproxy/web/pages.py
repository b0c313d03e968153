"""``GET /-/chat``: the chat page and its files, the same for everybody. It holds no secret, so it asks for no key.

Content Security Policy: https://www.w3.org/TR/CSP3/. No template may come in here: a page asks the API
for what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from sseproxy.web.files import StaticFile
from sseproxy.wsgi.call import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CHAT: Final = "/-/chat"
#: Siblings of the page, so that it finds them by relative URLs below any mount point.
FILES: Final = {
    CHAT: "chat.html",
    "/-/page.css": "page.css",  # the dashboard's, too
    "/-/chat.css": "chat.css",
    "/-/chat.js": "chat.js",
    "/-/chat-stream.js": "chat-stream.js",
    "/-/chat-meter.js": "chat-meter.js",
    "/-/chat-text.js": "chat-text.js",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Headers] = [("Content-Security-Policy", _POLICY), ("Referrer-Policy", "no-referrer")]


class ChatPage:
    """``/-/chat`` and the files it loads; every other path is the application's."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app
        folder = files("sseproxy.web") / "static"
        self._files = {path: StaticFile(folder / name, _HEADERS) for path, name in FILES.items()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        file = self._files.get(environ.get("PATH_INFO", ""))
        if file is None:
            return self.app(environ, start_response)
        return file.answer(environ)(environ, start_response)
