"""Files that are the same for everybody: pages, scripts, styles. They hold no secret, so they ask for no key.

No template may come in here. What else a page tells browsers stands beside that page.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from werkzeug.http import is_resource_modified

from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.errors import MethodNotAllowed, refuse, status_line

if TYPE_CHECKING:
    from importlib.abc import Traversable

    from _typeshed.wsgi import WSGIEnvironment

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
GUARDS: Final[Headers] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


class StaticFile:
    """One file, ready to be sent.

    :param headers: what else is sent with it.
    """

    def __init__(self, file: Traversable, headers: Headers | None = None) -> None:
        content = self._content = file.read_bytes()
        self._etag = f'"{sha256(content).hexdigest()[:20]}"'
        # A page and its scripts belong to one version of the proxy: a browser asks each time, and mostly gets a 304.
        self._headers = [("ETag", self._etag), ("Cache-Control", "no-cache"), *GUARDS, *(headers or [])]
        self._type = f"{_TYPES[file.name.rpartition('.')[2]]}; charset=utf-8"

    def answer(self, environ: WSGIEnvironment) -> Answer:
        """The file, or that the browser has it already."""
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            return refuse(MethodNotAllowed("GET", "HEAD"), environ)
        if not is_resource_modified(environ, etag=self._etag):
            return Answer(status_line(304), list(self._headers), [])
        described = [("Content-Type", self._type), ("Content-Length", str(len(self._content)))]
        # Not every server leaves the body of a HEAD away by itself.
        return Answer(status_line(200), described + self._headers, [] if method == "HEAD" else [self._content])
