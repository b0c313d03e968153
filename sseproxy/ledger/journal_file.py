"""The journal's file: lines that several processes append, read and clear. Knows bytes and who lives, no charge.

Appending and clearing exclude each other by a lock on the file itself; ``PATH.lock`` lets one process at a time replay;
a process that writes holds ``PATH.<owner>`` locked, which the system lets go of however the process ends.
https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sseproxy.ledger.ownership import give_away, is_root

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]
_locks: Any = _fcntl

#: Longer lines are not written and not read.
LINE_LIMIT: Final = 16 * 1024
_PRIVATE: Final = 0o600


class JournalFile:
    """A file of lines. Every method raises :class:`OSError` where the disk, or a system without file locks, forbids it.

    No file is made before the first line. Safe from many threads, several processes and after a fork.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute from the start: a server may change its working directory later.
        self.path = Path(path).absolute()
        self._process = 0
        self._owner = ""
        self._held = -1

    def append(self, *lines: bytes, sync: bool = True) -> None:
        """Add whole lines, all or none.

        :param sync: on the disk before this returns; without, they survive the process, but no power cut.
        """
        if any(len(line) >= LINE_LIMIT for line in lines):
            raise OSError(errno.EMSGSIZE, "too long for the journal", str(self.path))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as file:
            with _locked(file):
                began = _append_whole(file, b"".join(line + b"\n" for line in lines))
            if sync:
                # Outside of the lock: those that wait for the disk wait for it together.
                os.fsync(file)
        if sync and not began:
            _sync_folder(self.path.parent)

    def check(self) -> None:
        """Return if a line of any length can be added: a full disk lets a file be opened all the same."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as file, _locked(file):
            # Blank lines, which are passed over if this process dies here.
            os.ftruncate(file, _append_whole(file, b"\n" * LINE_LIMIT))

    def has_lines(self) -> bool:
        """Whether there is anything in it. Costs one look at the file system."""
        try:
            return os.stat(self.path).st_size > 0
        except FileNotFoundError:
            return False

    def read(self, start: int) -> Iterator[tuple[bytes, int]]:
        """The lines from an offset on, each with the offset of its end; as far as the file reaches now."""
        with self._opened() as number, os.fdopen(os.dup(number), "rb") as file:
            with _locked(number):
                size = os.fstat(number).st_size
            file.seek(start)
            while start < size and (line := file.readline(LINE_LIMIT)):
                start += len(line)
                yield line, start

    def clear(self, end: int) -> bool:
        """Empty the file, unless lines came after the offset ``end``."""
        with self._opened() as file, _locked(file):
            if os.fstat(file).st_size > end:
                return False
            os.ftruncate(file, 0)
            return True

    def set_aside(self, line: bytes) -> None:
        """Keep for people what no program can use, in ``PATH.rejected``."""
        with self._opened(".rejected") as file, _locked(file):
            _append_whole(file, line.rstrip(b"\n") + b"\n")

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else replays. Nobody else can until the block ends."""
        with self._opened(".lock") as file:
            yield _try_lock(file)

    def owner(self) -> str:
        """The name under which this process writes; it counts as alive from now on, until it ends."""
        if self._process != os.getpid():
            self.let_go()
            owner = secrets.token_hex(8)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held = self._open(self._sign(owner))
            _try_lock(self._held)
            self._owner, self._process = owner, os.getpid()
        return self._owner

    def is_own(self, owner: str) -> bool:
        """Whether it is this process's own name."""
        return owner == self._owner and self._process == os.getpid()

    def is_alive(self, owner: str) -> bool:
        """Whether the process of that name runs."""
        try:
            file = os.open(self._sign(owner), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(file)
        finally:
            os.close(file)

    def forget(self, owner: str) -> None:
        """Remove the sign of a process that is gone."""
        with suppress(FileNotFoundError):
            self._sign(owner).unlink()

    def let_go(self) -> None:
        """Do not count as alive any more. In a forked child: drop what is the parent's."""
        held, self._held = self._held, -1
        owner, self._owner = self._owner, ""
        own, self._process = self._process == os.getpid(), 0
        if held >= 0:
            os.close(held)
        if own:
            self.forget(owner)

    def _sign(self, owner: str) -> Path:
        return Path(f"{self.path}.{owner}")

    @contextmanager
    def _opened(self, suffix: str = "") -> Iterator[int]:
        if _locks is None:
            raise OSError(errno.ENOTSUP, "this system has no file locks, which the journal needs", str(self.path))
        file = self._open(Path(f"{self.path}{suffix}"))
        try:
            yield file
        finally:
            os.close(file)

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with suppress(FileExistsError):
            file = os.open(path, flags | os.O_EXCL, _PRIVATE)
            if is_root():
                give_away(file, self.path, self.path.parent)
            return file
        return os.open(path, flags, _PRIVATE)


@contextmanager
def _locked(file: int) -> Iterator[None]:
    _locks.flock(file, _locks.LOCK_EX)
    try:
        yield
    finally:
        _locks.flock(file, _locks.LOCK_UN)


def _try_lock(file: int) -> bool:
    try:
        _locks.flock(file, _locks.LOCK_EX | _locks.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _append_whole(file: int, data: bytes) -> int:
    """Write at the end, or nothing at all; the size that the file had before."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # Somebody was killed in the middle of a line: it must not swallow this one.
        data = b"\n" + data
    try:
        if os.write(file, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(file, size)
        raise
    return size


def _sync_folder(folder: Path) -> None:
    """A new file is on the disk only when its folder is."""
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
