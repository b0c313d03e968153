"""Fetches a small JSON document within a deadline; urllib's timeout bounds only each single read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import socket
from time import monotonic
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from sseproxy.wsgi.cutting import cutting

LARGEST: Final = 1 << 20
"""Bytes."""


class _NoRedirects(HTTPRedirectHandler):
    """Only the configured address is trusted, not where it redirects to."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Handler(HTTPHandler, HTTPSHandler):
    """Passes each socket to a callback as soon as it is connected, before the TLS handshake."""

    def __init__(self, show: Callable[[socket], object]) -> None:
        super().__init__()

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                show(self.sock)

        class Secure(HTTPSConnection, Plain):
            pass

        self._plain, self._secure = Plain, Secure

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._plain, req)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._secure, req)


def fetch_json(url: str, seconds: float) -> Any:
    """The document at a URL.

    :param seconds: the deadline; DNS and connecting may take more.
    :raises OSError: it cannot be fetched.
    :raises ValueError: it is not JSON, or larger than :data:`LARGEST`.
    """
    deadline = monotonic() + seconds
    try:
        with (
            ExitStack() as cuts,
            build_opener(
                _NoRedirects, _Handler(lambda connection: cuts.enter_context(cutting(connection, deadline)))
            ).open(url, timeout=seconds) as response,
        ):
            content = _read(response)
    except HTTPError as error:
        error.close()
        raise
    except (HTTPException, OSError) as error:
        _in_time(deadline)
        if isinstance(error, OSError):
            raise
        raise ConnectionError("the answer breaks off or is no HTTP") from error
    _in_time(deadline)
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None


def _in_time(deadline: float) -> None:
    """Return if the deadline has not passed: after it, the content may be truncated."""
    if monotonic() >= deadline:
        raise TimeoutError("the document comes too slowly") from None


def _read(response: HTTPResponse) -> bytes:
    content = bytearray()
    while piece := response.read1(LARGEST):
        content += piece
        if len(content) > LARGEST:
            raise ValueError("the document is too large")
    return bytes(content)
