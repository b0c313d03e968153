"""A tiny server of files, for pages under test: an origin of its own, so that what they read elsewhere needs CORS.

with serve_files({"/": PAGES, "/npm/": PACKAGES}) as url:
    page = browser.open(f"{url}/reader.html")
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .waiting import PATIENCE


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, folders: Mapping[str, Path], *args: object) -> None:
        self._folders = folders
        super().__init__(*args)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        prefix = max((each for each in self._folders if path.startswith(each)), key=len)
        self.directory = str(self._folders[prefix])
        found = super().translate_path("/" + path[len(prefix) :])
        # Packages made for bundlers import their own files without the extension.
        return found if Path(found).exists() else f"{found}.js"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the browser tells what it could not load."""


@contextlib.contextmanager
def serve_files(folders: Mapping[str, Path]) -> Iterator[str]:
    """Serve folders under prefixes of the path (each ends in ``/``; the longest that fits wins); the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, folders))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)
