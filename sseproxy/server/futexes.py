"""The kernel's table of sleeping threads, in a process where hundreds sleep.

Linux keeps one for each process since 6.17, of four slots a core and 16 at least; before, all shared a table of 256 a
core. Whoever wakes a thread up walks past all that sleep in its slot: with a thread for each stream, that is dozens
(https://man7.org/linux/man-pages/man2/pr_futex_hash_set_slots.2const.html).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

PR_FUTEX_HASH: Final = 78
SET_SLOTS: Final = 1
SHARED: Final = 0
"""Instead of a number of slots: the table of the whole system."""


def share_table() -> None:
    """Have the threads of this process sleep in the table of the whole system, from now to its end.

    Nothing happens where there is no other one: on an older Linux, another system, or in a sandbox that forbids it.
    """
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
        prctl(PR_FUTEX_HASH, SET_SLOTS, SHARED, 0, 0)
