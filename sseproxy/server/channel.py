"""One connection of waitress and the requests on it, as this project's server wants them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from sseproxy.core.failure import Failure
from sseproxy.server.dispatcher import Busy
from sseproxy.server.served import Served
from sseproxy.server.writers import ChannelWriter
from sseproxy.wsgi.relay import Relay
from sseproxy.wsgi.ride import RELAY_KEY, Ride


class RefusalTask(ErrorTask):  # type: ignore[misc]
    """A request that waitress itself refuses (no HTTP, far too large) gets the same kind of body as any other."""

    def execute(self) -> None:
        error = self.request.error
        code = "request_too_large" if error.code == 413 else None
        kind = "invalid_request_error" if error.code < 500 else "server_error"
        body = json.dumps(Failure(f"{error.reason}: {error.body}", type=kind, code=code).as_json()).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        if isinstance(error, Busy):
            self.response_headers.append(("Retry-After", "1"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Task(WSGITask):  # type: ignore[misc]
    """Keeps the connection, except while the server goes down; an application may not say so itself (PEP 3333)."""

    def build_response_header(self) -> bytes:
        if self.channel.served.is_draining:
            self.set_close_on_finish()
        head = bytes(super().build_response_header())
        self.channel.chunked = self.chunked_response
        return head

    def write(self, data: bytes) -> None:
        if self.wrote_header:
            super().write(data)
            return
        # The head and what comes with it, in one packet.
        gathered: list[bytes] = []
        self.channel.gathered = gathered
        try:
            super().write(data)
        finally:
            self.channel.gathered = None
        self.channel.write_soon(b"".join(gathered))

    def set_close_on_finish(self) -> None:
        # waitress would close after every chunked answer, which says itself where it ends (RFC 9112 section 7.1).
        # It sends that end with the answer to a HEAD too, where nothing may follow the head.
        if not self.chunked_response or self.request.command == "HEAD":
            super().set_close_on_finish()

    def execute(self) -> None:
        try:
            super().execute()
        finally:
            self.environ = None  # what it holds leads back here, by start_response

    def get_environment(self) -> Any:
        environ = super().get_environment()
        if self.channel.relay is not None:
            environ[RELAY_KEY] = partial(Ride, self.channel.relay, ChannelWriter(self.channel))
        return environ


class Channel(HTTPChannel):  # type: ignore[misc]
    """Tells the server's loop when there is something to write, and lets the relay write past it.

    :ivar chunked: the running answer is.
    :ivar gathered: takes what is written, for now.
    :ivar ask: tells the loop that something happened here.
    :ivar when_closed: called after the connection was closed.
    """

    task_class = Task
    error_task_class = RefusalTask
    served: Served
    relay: Relay | None = None
    chunked = False
    gathered: list[bytes] | None = None
    ask: Callable[[int | None], object]
    when_closed: Callable[[], object] | None = None

    def service(self) -> None:
        super().service()
        self.ask(self._fileno)

    def write_soon(self, data: Any) -> int:
        if self.gathered is not None:
            self.gathered.append(data)
            return len(data)
        rest = data
        if isinstance(data, bytes):
            # What fails here fails again below, where it is seen to.
            with self.outbuf_lock, suppress(OSError):
                if self.connected and not self.total_outbufs_len:
                    rest = data[self.send(data, do_close=False) :]
        if rest or not self.connected:
            super().write_soon(rest)
        if self.total_outbufs_len:
            self.ask(self._fileno)
        return len(data)

    def handle_close(self) -> None:
        # Under the lock that writers hold, or one could write to another client's socket with the same number.
        with self.outbuf_lock:
            super().handle_close()
        callback = self.when_closed
        if callback is not None:
            callback()
