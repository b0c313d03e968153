"""One connection of waitress, extended for this project's event loop and relay."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel

from sseproxy.server.parser import Parser
from sseproxy.server.served import Served
from sseproxy.server.task import RefusalTask, Task
from sseproxy.server.writers import ChannelWriter
from sseproxy.wsgi.client import connection_closed
from sseproxy.wsgi.ends import Source
from sseproxy.wsgi.relay import Relay
from sseproxy.wsgi.ride import Ride


class Channel(HTTPChannel):  # type: ignore[misc]
    """Tells the server's loop when it needs attention, and lets the relay write to the socket directly.

    :ivar asks: it tells the loop itself, which need not check it after each read.
    :ivar environ: variables for the environ of each request here.
    :ivar chunked: whether the running answer is.
    :ivar is_ahead: whether the client has pipelined a request.
    :ivar ask: tells the loop that something happened here.
    :ivar pass_on: passes the connection to another process; False if none takes it.
    :ivar when_closed: called after the connection was closed.
    """

    task_class = Task
    error_task_class = RefusalTask
    parser_class = Parser
    served: Served
    relay: Relay | None = None
    asks = True
    environ: dict[str, Any]
    chunked = False
    is_ahead = False
    ask: Callable[[int | None], object]
    pass_on: Callable[[Channel], bool] | None = None
    when_closed: Callable[[], object] | None = None

    @property
    def is_unused(self) -> bool:
        """Whether no request is running or arriving, and nothing is left to send or close."""
        # waitress sets what writable() reads before it removes the request.
        return not (self.requests or self.request is not None or self.writable())

    def handle_read(self) -> None:
        if self.pass_on is not None and self.is_unused and self.pass_on(self):
            self.handle_close()
        else:
            super().handle_read()

    def received(self, data: bytes) -> bool:
        if self._takes(data):
            return True
        understood = bool(super().received(data))
        self.is_ahead = len(self.requests) > 1
        if self.is_ahead or self.total_outbufs_len:
            self.ask(self._fileno)
        return understood

    def _takes(self, data: bytes) -> bool:
        """Take a request that arrives in one piece and alone, as most do; False if it does not."""
        # No lock: while there is no request, no other thread adds one.
        if not self.is_unused:
            return False
        request = self.parser_class(self.adj)
        if request.received(data) < len(data) or not request.completed or request.empty or request.expect_continue:
            request.close()
            return False
        self.is_ahead = self.sent_continue = False
        # Under the lock: the thread that served the last request looks for another one and would find this one too.
        with self.requests_lock:
            self.requests.append(request)
            self.server.add_task(self)
        return True

    def send_continue(self) -> None:
        # waitress would wait for more of a request that is complete, or refused.
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def service(self) -> None:
        super().service()
        # While requests wait here the loop reads no further.
        if self.is_ahead or self.total_outbufs_len or self.close_when_flushed or self.will_close:
            self.ask(self._fileno)

    def open_ride(self, source: Source) -> Ride:
        """A ride for the running answer, which comes from this source."""
        assert self.relay is not None
        return Ride(self.relay, ChannelWriter(self), source)

    def write_soon(self, data: Any) -> int:
        rest = data
        if isinstance(data, bytes) and not self.total_outbufs_len:
            try:
                sent = self.send_past(data)
                if sent == len(data):
                    return sent
                rest = data[sent:]
            except OSError:
                pass  # it fails again below, where waitress handles it
        super().write_soon(rest)
        if self.total_outbufs_len:
            self.ask(self._fileno)
        return len(data)

    def send_past(self, data: bytes) -> int:
        """Write to the socket directly, without blocking; how many bytes it took.

        :raises BrokenPipeError: the client has left.
        """
        self.outbuf_lock.acquire()  # not by `with`, which a condition enters in Python
        try:
            if not self.connected:
                raise connection_closed()
            sent: int = self.socket.send(data)
            return sent
        except BlockingIOError:
            return 0
        except OSError as error:  # a reset, too, before the loop hears of it
            raise connection_closed() from error
        finally:
            self.outbuf_lock.release()

    def duplicate(self) -> int:
        """Another file descriptor of the socket, for the caller to close.

        :raises OSError: the client has left, or there are no more descriptors.
        """
        with self.outbuf_lock:
            if not self.connected:
                raise connection_closed()
            return os.dup(self.socket.fileno())

    def handle_close(self) -> None:
        # Under the lock that writers hold, or one could write to another client's socket with the same number.
        with self.outbuf_lock:
            super().handle_close()
        callback = self.when_closed
        if callback is not None:
            callback()
