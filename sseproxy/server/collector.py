"""Python's garbage collector in a process that serves.

What stands when the application is built stays until the end; looking through all of it again and again holds up every
stream for tens of milliseconds (https://docs.python.org/3/library/gc.html#gc.freeze). How often it looks through what
is young stays as it is: with higher thresholds the memory of a busy process was measured to grow on and on.
"""

from __future__ import annotations

import gc


def spare_what_stands() -> None:
    """Leave out of every later collection what there is now. To be called when the application is built."""
    gc.collect()
    gc.freeze()
