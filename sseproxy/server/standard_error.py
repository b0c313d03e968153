"""Standard error as the place of the log, which holds nobody up though its reader, a collector or terminal, stops.

Each thread that logs would wait for that reader, one behind the other, until none is left to answer.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from time import monotonic
from typing import Any, Final

try:
    # By their names here, gevent does not replace them: its own would go on with another greenlet amid a line.
    from _socket import MSG_DONTWAIT, socket
    from select import PIPE_BUF, POLLOUT, poll
except ImportError:  # Windows
    poll = None  # type: ignore[assignment,misc]

PATIENCE: Final = 1.0
"""Seconds for which a reader is waited for that takes nothing; until it does again, it is not."""


class StandardError(logging.StreamHandler):  # type: ignore[type-arg]  # no generic class at runtime, in Python 3.10
    """Writes each line at once. Those that nobody takes are lost, which is told once somebody does."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._descriptor = _descriptor_of(sys.stderr)
        self._room = _room_in(self._descriptor)
        self._lost = 0
        self._torn = False

    def flush(self) -> None:
        """Nothing is kept back."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it is lost."""
        try:
            if self._lost and self._has_room(0.0):
                self._tell_lost()
            if self._lost or not self._write(self.format(record)):
                self._lost += 1
        except Exception:
            self.handleError(record)

    def _tell_lost(self) -> None:
        fields = {"name": "sseproxy.log", "levelno": logging.WARNING, "levelname": "WARNING"}
        message = {"msg": "%d lines of the log are lost: nobody took them", "args": (self._lost,)}
        line_end = self.terminator if self._torn else ""
        if self._write(line_end + self.format(logging.makeLogRecord(fields | message))):
            self._lost = 0

    def _write(self, line: str) -> bool:
        """Whether all of it was taken."""
        line += self.terminator
        if self._room is None:
            self.stream.write(line)
            self.stream.flush()
            return True
        data = line.encode(self.stream.encoding, self.stream.errors)
        start = 0
        while start < len(data):
            # As many as a pipe takes at once if it takes any, and keeps together among those of other processes.
            taken = self._taken_of(data[start : start + PIPE_BUF])
            if not taken:
                self._torn = start > 0
                return False
            start += taken
        return True

    def _taken_of(self, piece: bytes) -> int:
        """How many of these bytes were taken."""
        until = monotonic() + PATIENCE
        while self._has_room(max(0.0, until - monotonic())):
            try:
                return _write_at_once(self._descriptor, piece)
            except BlockingIOError:  # another process was quicker
                if monotonic() >= until:
                    break
        return 0

    def _has_room(self, seconds: float) -> bool:
        return self._room is None or bool(self._room.poll(seconds * 1000))


def _descriptor_of(stream: Any) -> int:
    """What a stream writes to; -1: nothing that one could wait for."""
    try:
        number = int(stream.fileno())
        return -1 if poll is None or stat.S_ISREG(os.fstat(number).st_mode) else number
    except (AttributeError, OSError):  # closed, or no file at all
        return -1


def _write_at_once(descriptor: int, piece: bytes) -> int:
    """Write without waiting: the room may be another process's by now, and a terminal takes less than a line where it
    takes anything. Nothing is kept open, and nothing remembered: a daemon has put another file in the place of this.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):  # opened anew, it would be written from its beginning
        return os.write(descriptor, piece)
    if stat.S_ISSOCK(mode):  # as systemd's log is
        same = socket(fileno=descriptor)
        try:
            return same.send(piece, MSG_DONTWAIT)
        finally:
            same.detach()
    try:
        name = os.ttyname(descriptor) if os.isatty(descriptor) else f"/proc/self/fd/{descriptor}"
        opened = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # another user's, or not on Linux
        return os.write(descriptor, piece)
    try:
        return os.write(opened, piece)
    finally:
        os.close(opened)


def _room_in(descriptor: int) -> Any:
    """What is asked whether it takes more; None for one that need not be asked."""
    if descriptor < 0:
        return None
    room = poll()
    room.register(descriptor, POLLOUT)
    return room
