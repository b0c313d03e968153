"""The file that SQLite keeps the books in, and whether it is still at its place. Opens nothing.

SQLite goes on writing to a file that was removed or replaced, where nobody will ever read it:
https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use".
"""

from __future__ import annotations

import os


class BooksFile:
    """A file as it was when it was opened.

    :param path: None: the books are in no file.
    """

    def __init__(self, path: str | None) -> None:
        # Absolute from the start, as the driver's: a server may change its working directory later.
        self.path = path and os.path.abspath(path)
        self._opened: tuple[int, int] | None = None

    def opened(self) -> None:
        """It has just been opened, maybe once more."""
        self._opened = self._opened or self._now()

    def closed(self) -> None:
        """Nobody has it open any more."""
        self._opened = None

    def is_gone(self) -> bool:
        """Whether what is open is not what stands at its place. Costs one look at the file system."""
        return self._opened is not None and self._opened != self._now()

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path or "")
        except OSError:
            return None
        return found.st_dev, found.st_ino
