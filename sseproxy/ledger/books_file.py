"""The file that SQLite keeps the books in: once it has left its place, this process opens nothing there any more.

SQLite goes on writing to a file that was removed or replaced, where nobody will ever read it; and whoever opens what
stands there now, beside the log of the old one, damages it: https://sqlite.org/howtocorrupt.html, "Unlinking or
renaming a database file while in use".
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, event

from sseproxy.ledger.ownership import give_away, is_root
from sseproxy.ledger.protocol import LedgerUnavailable


class BooksFile:
    """A file as it was when this process, or the one it was forked from, opened it first."""

    def __init__(self, path: str) -> None:
        # Absolute from the start, as the driver's: a server may change its working directory later.
        self._path = os.path.abspath(path)
        self._opened: tuple[int, int] | None = None
        self._is_gone = False

    def guard(self, engine: Engine) -> None:
        """Let an engine open this file and no other; it raises :class:`LedgerUnavailable` once that is gone."""
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "connect", self._keep)

    def is_gone(self) -> bool:
        """Whether what was opened is not what stands at its place, or once was not. One look at the file system."""
        self._is_gone = self._is_gone or (self._opened is not None and self._opened != self._now())
        return self._is_gone

    def check(self) -> None:
        """Go on only where the file is.

        :raises LedgerUnavailable: it :meth:`is_gone`.
        """
        if self.is_gone():
            raise LedgerUnavailable(
                reason=f"the file {self._path} was removed or replaced under this process; restart it"
            )

    def refused(self) -> str:
        """Which of the file and its folder, as far as they are there, this process may not write to; empty if none."""
        file = os.path.realpath(self._path)  # beside which SQLite writes what else it needs
        for what, path in (("file", file), ("folder", os.path.dirname(file))):
            if os.path.exists(path) and not os.access(path, os.W_OK):
                return f"the user that runs this may not write to the {what} {path}"
        return ""

    def _connect(self, dialect: Dialect, _record: object, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        self.check()
        if "uri" not in options:
            self._make()
        connection: Any = dialect.connect(*args, **options)
        try:
            # Before its first statement, which would open the log.
            self.check()
        except LedgerUnavailable:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """An empty file is new books; SQLite gives its log the file's owner and mode."""
        with suppress(OSError):  # it is there, or SQLite says why it cannot be
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            if is_root():
                give_away(file, Path(self._path).parent)
            os.close(file)

    def _keep(self, *_: object) -> None:
        self._opened = self._opened or self._now()

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return self._opened  # not to be seen now, which is no reason to give it up for good
        return found.st_dev, found.st_ino
