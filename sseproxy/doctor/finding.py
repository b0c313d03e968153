"""What the doctor says: one finding a check, each fault with its cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    :ivar check: its name, the same in every release.
    :ivar status: ``note`` is worth knowing, ``warning`` should be cured, ``fault`` breaks streams.
    :ivar message: what was seen.
    :ivar cure: what to do; empty where there is nothing to do.
    """

    check: str
    status: Status
    message: str
    cure: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something is to be cured."""
        return self.status in ("warning", "fault")


class Untestable(Exception):
    """No stream could be read at all; :attr:`finding` says why and what to do."""

    def __init__(self, check: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.finding = Finding(check, "fault", message, cure)
