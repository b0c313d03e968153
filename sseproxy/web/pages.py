"""``GET /-/chat``: the chat page and its files, the same for everybody. It holds no secret, so it asks for no key.

Content Security Policy: https://www.w3.org/TR/CSP3/. No template may come in here: a page asks the API
for what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from werkzeug.http import is_resource_modified

from sseproxy.core.failure import Failure
from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.errors import refuse, status_line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CHAT: Final = "/-/chat"
#: Siblings of the page, so that it finds them by relative URLs below any mount point.
FILES: Final = {
    CHAT: "chat.html",
    "/-/chat.css": "chat.css",
    "/-/chat.js": "chat.js",
    "/-/chat-stream.js": "chat-stream.js",
    "/-/chat-meter.js": "chat-meter.js",
}
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_GUARDS: Final[Headers] = [
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


class ChatPage:
    """``/-/chat`` and the files it loads; every other path is the application's."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app
        folder = files("sseproxy.web") / "static"
        self._pages = {path: _Page(name, (folder / name).read_bytes()) for path, name in FILES.items()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        page = self._pages.get(environ.get("PATH_INFO", ""))
        if page is None:
            return self.app(environ, start_response)
        return page.answer(environ)(environ, start_response)


class _Page:
    """One file, ready to be sent."""

    def __init__(self, name: str, content: bytes) -> None:
        self._content = content
        self._etag = f'"{sha256(content).hexdigest()[:20]}"'
        # A page and its scripts belong to one version of the proxy: a browser asks each time, and mostly gets a 304.
        self._headers = [("ETag", self._etag), ("Cache-Control", "no-cache"), *_GUARDS]
        self._type = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"

    def answer(self, environ: WSGIEnvironment) -> Answer:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            failure = Failure("This page is read with GET.", status=405, type="invalid_request_error")
            return refuse(failure, environ, [("Allow", "GET, HEAD")])
        if not is_resource_modified(environ, etag=self._etag):
            return Answer(status_line(304), list(self._headers), [])
        described = [("Content-Type", self._type), ("Content-Length", str(len(self._content)))]
        # Not every server leaves the body of a HEAD away by itself.
        return Answer(status_line(200), described + self._headers, [] if method == "HEAD" else [self._content])
