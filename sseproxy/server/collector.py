"""Python's garbage collector in a process that serves.

What stands when the application is built stays until the end; looking through all of it again and again holds up every
stream for tens of milliseconds (https://docs.python.org/3/library/gc.html#gc.freeze). What is young belongs to requests
that run, and goes without the collector when they end: none of them leaves a circle. So it looks for one seldom.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG: Final = 20_000
"""Objects that came to be since the collector looked last; 500 streams are some 150,000."""


def spare_what_stands() -> None:
    """Leave out of every later collection what there is now. To be called when the application is built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)


@contextmanager
def sparing_what_stands() -> Iterator[None]:
    """The same for a while, in a process that goes on afterwards."""
    before = gc.get_threshold()
    spare_what_stands()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
