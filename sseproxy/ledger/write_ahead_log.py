"""SQLite's log of what was committed lately (https://sqlite.org/wal.html): brought into the file where nobody waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sseproxy.ledger.writer import Writer


class WriteAheadLog:
    """The log that one process writes, together with others.

    :param look_up: a cursor on a connection that writes nothing.
    """

    def __init__(self, writer: Writer, look_up: Callable[[], AbstractContextManager[Any]]) -> None:
        self._writer = writer
        self._look_up = look_up
        self._synced = 0  # of the writer's changes

    def sync(self) -> None:
        """Bring onto the disk what was committed, and a power cut could take; as far as no long query is under way.

        Nobody waits for it but the caller. Nor does who writes next: the first write behind a log that is in the file
        begins it anew, with a header that has to reach the disk (https://sqlite.org/walformat.html), so it is made
        here. That writes a page; without changes nothing is done, or an idle service would write one for ever.
        """
        changes = self._writer.changes
        if changes == self._synced:
            return
        with self._look_up() as cursor:
            # https://sqlite.org/pragma.html#pragma_wal_checkpoint: syncs what it copies, and blocks nobody.
            is_busy, logged, copied = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # Where another process writes, nobody here is to wait behind this, and fail with it.
        if not is_busy and logged == copied and self._writer.execute_at_once("PRAGMA user_version = 0"):
            self._synced = changes
