"""waitress's connections, watched so that a turn of its loop costs what happens in it, not what is open (with epoll).

Its own loop asks every connection before every wait what to watch it for, which at a thousand streams is most of all
work. Here a connection is asked when something happened to it, and all of them once a second, in case that was missed.
One that ``asks`` says itself when a read has changed what it is to be watched for, which most do not.
"""

from __future__ import annotations

import os
import select
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from waitress import wasyncore

ASK_ALL: Final = 1.0
"""Seconds between two rounds through all connections."""
HAS_EPOLL: Final = hasattr(select, "epoll")
HAS_POLL: Final = hasattr(select, "poll")
WINDOWS_TICK: Final = 0.05
"""Seconds between two rounds through all connections where there is neither."""


class Watch(dict[int, Any]):
    """The map from file numbers to dispatchers that waitress keeps, and its loop."""

    def __init__(self) -> None:
        super().__init__()
        self._bell, self._rope = os.pipe()
        if HAS_POLL:
            self._poll: Any = select.epoll() if HAS_EPOLL else select.poll()
            self._poll.register(self._bell, select.POLLIN)
        self._flags: dict[int, int] = {}
        self._due: deque[int] = deque()
        self._rung = False
        self._ask_all_at = 0.0

    def __setitem__(self, number: int, dispatcher: Any) -> None:
        super().__setitem__(number, dispatcher)
        self._flags.pop(number, None)
        self._due.append(number)

    def __delitem__(self, number: int) -> None:
        super().__delitem__(number)
        if self._flags.pop(number, 0):
            with suppress(OSError):  # closed already
                self._poll.unregister(number)

    def ask(self, number: int | None) -> None:
        """Something happened to this dispatcher in another thread."""
        if number is not None:
            self._due.append(number)
        self.ring()

    def ring(self) -> None:
        """End the wait."""
        if not self._rung:
            self._rung = True
            with suppress(OSError):  # closed already
                os.write(self._rope, b"!")

    def turn(self, timeout: float) -> None:
        """Wait for something to happen, so many seconds at most, and see to it."""
        if not HAS_POLL:
            wasyncore.poll(min(timeout, WINDOWS_TICK), self)
            return
        self._ask()
        for number, flags in self._poll.poll(timeout if HAS_EPOLL else timeout * 1000):
            if number == self._bell:
                os.read(self._bell, 64)
                # Before anybody is asked: who comes after this rings again.
                self._rung = False
            elif (dispatcher := self.get(number)) is not None:
                wasyncore.readwrite(dispatcher, flags)
                if flags != select.POLLIN or not getattr(dispatcher, "asks", False):
                    self._due.append(number)

    def close(self) -> None:
        """Let go of what belongs to the system."""
        self._rung = True  # who still rings finds nobody
        os.close(self._bell)
        os.close(self._rope)
        if HAS_EPOLL:
            self._poll.close()

    def _ask(self) -> None:
        if (now := monotonic()) >= self._ask_all_at:
            self._ask_all_at = now + ASK_ALL
            self._due.extend(self)
        while self._due:
            number = self._due.popleft()
            dispatcher = self.get(number)
            if dispatcher is not None:
                self._watch(number, _wanted(dispatcher))

    def _watch(self, number: int, flags: int) -> None:
        before = self._flags.get(number, 0)
        if flags == before:
            return
        self._flags[number] = flags
        try:
            if not flags:
                self._poll.unregister(number)
            elif before:
                self._poll.modify(number, flags)
            else:
                self._poll.register(number, flags)
        except OSError:  # closed by a thread of its own, soon to be taken out
            self._flags.pop(number, None)


def _wanted(dispatcher: Any) -> int:
    """What waitress's own loop would watch this for."""
    flags = select.POLLIN | select.POLLPRI if dispatcher.readable() else 0
    if dispatcher.writable() and not dispatcher.accepting:
        flags |= select.POLLOUT
    return flags
