"""Whose a new file is. Whoever looks at the books as root would leave files that the proxy cannot open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def is_root() -> bool:
    """Whether this process may give files away; not every system has a root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def give_away(file: int, *places: Path) -> None:
    """Let what root has just made belong to the owner of the first of these places that is not root's.

    Never what was there already: it may be a link, to any file.
    """
    for place in places:
        with suppress(OSError):
            owner = os.stat(place)
            if owner.st_uid != 0:
                os.fchown(file, owner.st_uid, owner.st_gid)
                return
