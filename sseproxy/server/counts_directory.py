"""The directory in which one service's processes count together, and what services that were killed left of theirs.

A lock tells whether anybody counts there still: the system lets go of it when the last of these processes has ended.
https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_PREFIX: Final = "sseproxy-metrics-"
_LOCK: Final = "lock"


def make() -> str:
    """A fresh one, in use as long as this process, or one that is forked from it, lives; those in use by nobody go.

    :raises OSError: there can be none.
    """
    for each in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_left(each):
            shutil.rmtree(each, ignore_errors=True)
    directory = tempfile.mkdtemp(prefix=_PREFIX)
    file = os.open(f"{directory}/{_LOCK}.new", os.O_RDWR | os.O_CREAT, 0o600)  # never closed
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(f"{directory}/{_LOCK}.new", f"{directory}/{_LOCK}")  # nobody finds it without its lock
    return directory


def _is_left(directory: Path) -> bool:
    """Whether it is this user's and nobody counts there; one without a lock is somebody's who knows none."""
    try:
        if directory.lstat().st_uid != os.geteuid():
            return False
        file = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(file)
