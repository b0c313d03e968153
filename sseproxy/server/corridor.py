"""Shared by the doors of all processes: which of them have room, and the connections that are passed on."""

from __future__ import annotations

import mmap
import socket
from time import monotonic
from typing import Final

PROCESSES: Final = 512
FRESH: Final = 3.0
"""Seconds for which a process counts as having room: a living one repeats it at least once a second."""
A_MOMENT: Final = 0.1
"""Seconds for which it counts so after it was full: most answers are short, and it will have room again."""


class Corridor:
    """To be made before the processes fork.

    :ivar end: where passed connections arrive; any process may take them.
    """

    def __init__(self) -> None:
        self._room_until = memoryview(mmap.mmap(-1, 8 * PROCESSES)).cast("d")
        # A stream, with one byte for each connection: of datagrams the system would queue only ten.
        self._start, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._start.setblocking(False)
        self.end.setblocking(False)

    def tell(self, process: int, has_room: bool) -> None:
        """State whether this process has room now."""
        slot, now = process % PROCESSES, monotonic()
        self._room_until[slot] = now + FRESH if has_room else min(self._room_until[slot], now + A_MOMENT)

    def leave(self, process: int) -> None:
        """State that this process will have no room again; effective at once."""
        self._room_until[process % PROCESSES] = 0.0

    def has_room(self, besides: int) -> bool:
        """Whether any other process has room, or had a moment ago."""
        slot = besides % PROCESSES
        others = *self._room_until[:slot], *self._room_until[slot + 1 :]
        return max(others) > monotonic()

    def give(self, place: int, connection: socket.socket) -> bool:
        """Pass on a connection and the number of its address; the caller closes its own copy. False: it cannot."""
        try:
            socket.send_fds(self._start, [bytes([place])], [connection.fileno()])
        except OSError:  # the system's queue is full
            return False
        return True

    def take(self) -> tuple[int, socket.socket] | None:
        """The next one, and the number of its address; None if there is none."""
        try:
            place, files, *_ = socket.recv_fds(self.end, 1, 1)
        except OSError:  # another process was faster
            return None
        if not files:
            return None
        connection = socket.socket(fileno=files[0])
        connection.set_inheritable(False)  # as accept() does: what the application starts would keep it open
        return place[0], connection

    def close(self) -> None:
        """Close this process's ends."""
        self._start.close()
        self.end.close()
