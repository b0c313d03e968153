"""The limit of open files (here: connections) of the process."""

from __future__ import annotations

import logging

log = logging.getLogger("sseproxy.server")


def allow_files(wanted: int) -> int:
    """Raise the soft limit to ``wanted``, as far as the hard limit allows; never lower it. Returns how many are
    allowed.

    The soft limit is 1024 on most systems only for the sake of ``select()``, which is not used here.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        log.warning("only %d of %d files may be open (ulimit -Hn): fewer connections are taken at a time", hard, wanted)
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
