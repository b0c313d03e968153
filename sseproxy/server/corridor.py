"""What leads from the door of one process to those of others: who has room, and connections that are passed on."""

from __future__ import annotations

import mmap
import socket
from time import monotonic
from typing import Final

PROCESSES: Final = 512
FRESH: Final = 3.0
"""Seconds that a process is believed to have room: it says so again at least once a second, unless it died."""
A_MOMENT: Final = 0.1
"""Seconds that it is believed so after it said no: most answers are short, and it will have room again."""


class Corridor:
    """To be made before the processes fork.

    :ivar end: where passed connections arrive; any process may take them.
    """

    def __init__(self) -> None:
        self._room_until = memoryview(mmap.mmap(-1, 8 * PROCESSES)).cast("d")
        # A byte for each connection. Of datagrams the system would keep ten.
        self._start, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._start.setblocking(False)
        self.end.setblocking(False)

    def tell(self, process: int, has_room: bool) -> None:
        """Whether this process has room now."""
        slot, now = process % PROCESSES, monotonic()
        self._room_until[slot] = now + FRESH if has_room else min(self._room_until[slot], now + A_MOMENT)

    def leave(self, process: int) -> None:
        """This process will have no room again, and is to be believed at once."""
        self._room_until[process % PROCESSES] = 0.0

    def has_room(self, besides: int) -> bool:
        """Whether any other process than this has, or had a moment ago."""
        slot = besides % PROCESSES
        others = *self._room_until[:slot], *self._room_until[slot + 1 :]
        return max(others) > monotonic()

    def give(self, place: int, connection: socket.socket) -> bool:
        """Pass on a connection to an address, by the number of that; the caller closes its own then. False: no."""
        try:
            socket.send_fds(self._start, [bytes([place])], [connection.fileno()])
        except OSError:  # as many wait to be taken as the system keeps
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
        """Let go of it, in this process."""
        self._start.close()
        self.end.close()
