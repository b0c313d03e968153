"""The relay: one thread moves the plain middle of every stream, while the streams' own threads sleep.

A stream comes here once the server has sent its first piece, and returns to its own thread for anything that is not
plain: its end, a failure, silence, a client that reads slowly or has left, work that may block on a database. Its bytes
are the same either way, since the same iterator makes them; only the thread that waits for the sockets differs.
Needs epoll (Linux) and a server that offers a :class:`~sseproxy.wsgi.ends.Writer`; elsewhere streams are iterated as
usual. Where it is built, the express (``express.c``) moves plain events instead, without the interpreter.
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
"""Seconds between two checks of all rides."""


class Relay:
    """The loop and its thread, which the first ride starts. Create it after a fork, and close it.

    :param express: let the express move plain events, where it is built.
    :ivar express: None if it does not.
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
        # Held for every change of the above: a ride is in all of them or in none.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # The first also when the thread has failed.
        self._takes_no_more = self._is_closed = False

    def take(self, ride: Ride) -> bool:
        """Move this ride from now on; False if it cannot be moved."""
        with self._lock:
            if self._takes_no_more or ride.source in self._by_source or ride.client in self._by_client:
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
        """Return this ride to its own thread soon. From any thread."""
        with self._lock:
            if ride in self._rides:
                self._called_back.append(ride)
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Return all rides, and take no more. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = self._takes_no_more = True
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
            while not self._takes_no_more:
                ready = self._epoll.poll(max(0.0, sweep_at - monotonic()))
                now = monotonic()
                for number, events in ready:
                    moving = self._by_source.get(number)
                    if moving is None:
                        self._handle_client_or_bell(number)
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
                self._takes_no_more = True
            for ride in list(self._rides):
                self._give_back(ride)

    def _handle_client_or_bell(self, number: int) -> None:
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
            # A server may have closed its socket, and the descriptor may belong to another by now.
            if rides.get(number) is ride:
                del rides[number]
                with suppress(OSError, ValueError):
                    self._epoll.unregister(number)
        return True
