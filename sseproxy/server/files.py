"""How many files (here: connections) the process may have open."""

from __future__ import annotations


def allow_files(wanted: int) -> None:
    """Raise the soft limit to ``wanted`` as far as the hard limit lets it; never lower it.

    The soft limit is 1024 on most systems only for the sake of ``select()``, which is not used here.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
