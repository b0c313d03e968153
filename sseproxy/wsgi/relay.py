"""The relay: one thread moves the plain middle of every stream, while the streams' own threads sleep.

A stream comes here when its first piece has left by the server, and goes back to its own thread for all that is not
plain: its end, a failure, silence, a client that reads slowly or has left, work that may have to wait for a database.
What becomes of its bytes is the same either way, since the same iterator makes it; only who waits for the sockets
differs. Needs epoll (Linux) and a server that offers a :class:`~sseproxy.wsgi.ends.Writer`; elsewhere streams are
iterated as ever. Where it is built, the express (``express.c``) moves plain events instead, without the interpreter.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

try:
    from sseproxy.wsgi.express import Express
except ImportError:  # not built: see setup.py
    Express = None  # type: ignore[assignment, misc]
if TYPE_CHECKING:
    from sseproxy.wsgi.ride import Ride

log = logging.getLogger("sseproxy.wsgi")

SWEEP: Final = 0.25


class Relay:
    """The loop and its thread, which the first ride starts. To be made after a fork, and closed.

    :param express: have the express move plain events, where it is built.
    :ivar express: it, if it does.
    """

    def __init__(self, *, express: bool = True) -> None:
        self.express = Express() if express and Express is not None else None
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._rides: set[Ride] = set()
        self._by_source: dict[int, Ride] = {}
        self._by_client: dict[int, Ride] = {}
        self._called_back: deque[Ride] = deque()
        # Held for every change of the above: a ride is here as a whole or not at all.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # It takes no more, since it was closed or its thread has failed; it was closed.
        self._closed = self._is_over = False

    def take(self, ride: Ride) -> bool:
        """Move this ride from now on; False if it cannot be moved."""
        with self._lock:
            if self._closed or ride.source in self._by_source or ride.client in self._by_client:
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sseproxy-relay", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread is left
                    return False
                self._thread = thread
                if Express is None:
                    log.info("express.c was not built at installation: Python moves all events")
            self._rides.add(ride)
            self._by_source[ride.source] = self._by_client[ride.client] = ride
            try:
                self._epoll.register(ride.client, select.EPOLLRDHUP)
                self._epoll.register(ride.source, select.EPOLLIN | select.EPOLLRDHUP)
            except (OSError, ValueError):  # closed meanwhile
                self._forget(ride)
                return False
        return True

    def call_back(self, ride: Ride) -> None:
        """Give this ride back soon. From any thread."""
        with self._lock:
            if ride in self._rides:
                self._called_back.append(ride)
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Give all rides back, and take no more. Idempotent."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = self._closed = True
            os.eventfd_write(self._bell, 1)
            thread = self._thread
        if thread is not None:
            thread.join()
        if self.express is not None:
            self.express.close()
        os.close(self._bell)
        self._epoll.close()

    def _run(self) -> None:
        try:
            sweep_at = monotonic() + SWEEP
            while not self._closed:
                ready = self._epoll.poll(max(0.0, sweep_at - monotonic()))
                now = monotonic()
                for number, events in ready:
                    moving = self._by_source.get(number)
                    if moving is None:
                        self._see_to(number)
                    elif events != select.EPOLLIN or not moving.move_here(now):
                        self._give_back(moving)
                self._return_those_called_back()
                if now >= sweep_at:
                    sweep_at = now + SWEEP
                    self._sweep(now)
        except Exception:
            log.exception("the relay failed; streams go on without it")
        finally:
            with self._lock:
                self._closed = True
            for ride in list(self._rides):
                self._give_back(ride)

    def _see_to(self, number: int) -> None:
        leaving = self._by_client.get(number)
        if leaving is not None:
            leaving.ground()
            self._give_back(leaving)
        elif number == self._bell:
            os.eventfd_read(self._bell)

    def _return_those_called_back(self) -> None:
        while self._called_back:
            self._give_back(self._called_back.popleft())

    def _sweep(self, now: float) -> None:
        with self._lock:
            rides = list(self._rides)
        for ride in rides:
            if not ride.goes_on(now):
                self._give_back(ride)

    def _give_back(self, ride: Ride) -> None:
        with self._lock:
            was_here = self._forget(ride)
        if was_here:
            ride.wake()

    def _forget(self, ride: Ride) -> bool:
        if ride not in self._rides:
            return False
        self._rides.discard(ride)
        for rides, number in ((self._by_source, ride.source), (self._by_client, ride.client)):
            # A server may have closed its socket, and its number may be another's by now.
            if rides.get(number) is ride:
                del rides[number]
                with suppress(OSError, ValueError):
                    self._epoll.unregister(number)
        return True
