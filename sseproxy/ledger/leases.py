"""Which process holds a pending charge, and whether it still lives. Reads /proc; books nothing.

Wall clocks are not used: they jump, and differ between machines. A process of the same machine is looked up; of one on
another machine only its beat is seen, which changes while it lives.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import delete, exists, select, union

from sseproxy.ledger.database import Database
from sseproxy.ledger.protocol import LedgerUnavailable
from sseproxy.ledger.schema import charges, is_pending, owners

_PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process as the ledger remembers it.

    :param place: the scope of its pid (machine, boot, container and user); empty if unknown.
    :param life: its pid and start time, so that a later process with the same pid is another one.
    """

    place: str
    life: str

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(_place(), _life_of(os.getpid()) or str(os.getpid()))

    def is_gone(self) -> bool:
        """Whether the process is known to have ended."""
        return self.is_near() and _life_of(int(self.life.partition("/")[0])) != self.life

    def is_near(self) -> bool:
        """Whether it belongs to this machine, where it could be seen running."""
        return self.place != "" and self.place == _place()


class Lease:
    """This process's hold on its pending charges, and what it knows of other processes' holds.

    :param seconds: a process of another machine is gone if its beat does not change for so long.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, database: Database, seconds: float, clock: Callable[[], float], process: Process | None = None
    ) -> None:
        self.owner = ""
        self._database = database
        self._seconds = seconds
        self._clock = clock
        self._given = process
        self._pid = 0
        self._chosen: dict[Process, str] = {}
        self._beaten_at: float | None = None
        self._watching_since = -math.inf
        self._seen: dict[str, tuple[int | None, float]] = {}

    def keep(self) -> None:
        """Renew the lease if that is due, or if the last write failed. A forked child gets a lease of its own."""
        now = self._clock()
        if self._pid != os.getpid():
            # Atomic, so that all threads choose the same; without a lock, which a fork could copy while it is held.
            chosen = self._chosen.setdefault(Process.current(), secrets.token_hex(8))
            # The parent's last observations may be from before an outage.
            self._watching_since = now
            self.owner, self._beaten_at, self._pid = chosen, None, os.getpid()
        if self._is_fresh(now) and not self._database.writes.fail:
            return
        process = self._given or Process.current()
        # Any change is a sign of life; a random value also tells a row that was deleted and added again from the old
        # one.
        beat = 1 + secrets.randbelow(2**30)
        self._database.execute(self._database.statements.beat, (self.owner, process.place, process.life, beat))
        if self._beaten_at is not None and now - self._beaten_at > self._seconds / 2:
            self._watching_since = now
        self._beaten_at = now

    def _is_fresh(self, now: float) -> bool:
        return self._beaten_at is not None and now - self._beaten_at < self._seconds / 3

    def give_up(self) -> None:
        """Give up the lease, unless this process still holds charges: others need not watch it any more."""
        if self._pid != os.getpid() or self._beaten_at is None:
            return
        self._beaten_at = None
        with suppress(LedgerUnavailable):
            self.forget(self.owner)

    def lost(self) -> list[str]:
        """The owners that are gone, with pending charges or without."""
        held = select(charges.c.owner.label("id")).where(is_pending)
        known = union(held, select(owners.c.id)).subquery()
        query = select(known.c.id, owners.c.place, owners.c.process, owners.c.beat).select_from(
            known.outerjoin(owners, owners.c.id == known.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        others = [row for row in rows if row.id != self.owner or self._pid != os.getpid()]
        self._seen = {row.id: self._seen.get(row.id, (row.beat, self._clock())) for row in others}
        return [row.id for row in others if self._is_lost(row.id, row.place, row.process, row.beat)]

    def _is_lost(self, owner: str, place: str | None, life: str | None, beat: int | None) -> bool:
        process = Process(place or "", life or "")
        if process.is_near():
            return process.is_gone()
        last_beat, since = self._seen[owner]
        if beat != last_beat:
            self._seen[owner] = (beat, self._clock())
            return False
        # While this process could not write its beat nobody could: an outage is no sign of death.
        return self._clock() - max(since, self._watching_since) >= self._seconds

    def pending_of(self, owner: str) -> list[str]:
        """The ids of the pending charges of an owner."""
        with self._database.read() as connection:
            return list(connection.scalars(select(charges.c.id).where(is_pending, charges.c.owner == owner)))

    def forget(self, owner: str) -> None:
        """Remove an owner that holds no charge."""
        holds = exists().where(is_pending, charges.c.owner == owner)
        with self._database.change() as connection:
            connection.execute(delete(owners).where(owners.c.id == owner, ~holds))


def _place() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        container = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {container} {os.getuid()}"


def _life_of(pid: int) -> str | None:
    """``pid/start``, or ``None`` if no such process runs. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, in parentheses, may itself contain spaces and parentheses: the fields follow the last one.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{pid}/{started}"
