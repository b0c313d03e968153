"""Python's interpreter in a process that serves: what it does by itself, and how seldom.

Its collector: what stands when the application is built stays until the end; looking through all of it again and again
holds up every stream for tens of milliseconds (https://docs.python.org/3/library/gc.html#gc.freeze). What is young
belongs to requests that run, and goes without the collector when they end: none of them leaves a circle. So it looks
for one seldom.

Its lock: each thread that waits for it looks up once an interval, for nothing as long as others give it to one another.
When hundreds of requests begin at once and each waits, that takes the core and all take longer, so that more of them
wait (https://docs.python.org/3/library/sys.html#sys.setswitchinterval).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG: Final = 20_000
"""Objects that came to be since the collector looked last; 500 streams are some 150,000."""
SWITCH_INTERVAL: Final = 0.02
"""Seconds after which who waits for the lock asks for it. With Python's 5 ms, a thousand streams that began within a
second took 7 to 20 ms of CPU each on a slow machine, and some failed; from 10 ms on they took 4 ms.
"""


def suit_serving() -> None:
    """Have it leave what there is now out of every later collection, and threads wait for the lock without ado. To be
    called when the application is built.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
    sys.setswitchinterval(SWITCH_INTERVAL)


@contextmanager
def suited_to_serving() -> Iterator[None]:
    """The same for a while, in a process that goes on afterwards."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    suit_serving()
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
        sys.setswitchinterval(interval)
