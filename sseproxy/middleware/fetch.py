"""Fetches a small JSON document. urllib by itself reads on for ever, as long as something comes now and then."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Timer
from time import monotonic
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

LARGEST: Final = 1 << 20
"""Bytes."""


class _NoRedirects(HTTPRedirectHandler):
    """The address is trusted, not where it may lead."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Handler(HTTPHandler, HTTPSHandler):
    """Shows each socket as soon as it is connected, before a handshake of TLS."""

    def __init__(self, show: Callable[[socket], None]) -> None:
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
    """What stands at an address.

    :param seconds: after which it is given up; looking the address up and connecting may come on top.
    :raises OSError: it cannot be had.
    :raises ValueError: it is no JSON, or larger than :data:`LARGEST`.
    """
    deadline = monotonic() + seconds
    try:
        with (
            _cutting(deadline) as cut,
            build_opener(_NoRedirects, _Handler(cut)).open(url, timeout=seconds) as response,
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


@contextmanager
def _cutting(deadline: float) -> Iterator[Callable[[socket], None]]:
    """Cuts connections that are shown to it at the deadline, whoever reads from them: head, body or handshake."""
    with ExitStack() as ending:

        def cut(connection: socket) -> None:
            own = ending.enter_context(connection.dup())  # TLS and urllib take the connection's own away
            timer = Timer(max(0.0, deadline - monotonic()), _shut, [own])
            timer.daemon = True
            timer.start()
            ending.callback(timer.join)
            ending.callback(timer.cancel)

        yield cut


def _shut(connection: socket) -> None:
    with suppress(OSError):  # the peer has been faster
        connection.shutdown(SHUT_RDWR)


def _in_time(deadline: float) -> None:
    """Return if the deadline is not over: what was read until then may be cut."""
    if monotonic() >= deadline:
        raise TimeoutError("the document comes too slowly") from None


def _read(response: HTTPResponse) -> bytes:
    content = bytearray()
    while piece := response.read1(LARGEST):
        content += piece
        if len(content) > LARGEST:
            raise ValueError("the document is too large")
    return bytes(content)
